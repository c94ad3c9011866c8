"""The encoder of OpenAI Whisper tiny.en (Radford et al. 2022), frozen; its weights ship with the package (MIT)."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of

WEIGHTS = Path(__file__).with_name("whisper-tiny.en-encoder.safetensors")
N_FFT, HOP, N_MELS, STATE, HEADS, LAYERS, POSITIONS = 400, 160, 80, 384, 6, 4, 1500
RATE_HZ = 50  # of the encoder's output


class Whisper(nn.Module):
    """Whisper tiny.en features of each video frame, from the middle of fixed windows.

    Attention runs over the whole window, so the windowing is part of the features: a model hears with the one it was
    trained with. docs/HEARING.md has the measurements behind the defaults: blocks 2 and 3 tell more of the mouth than
    the last one, the mean of a frame's vectors as much as both, and 2 s windows as much as longer ones. At 25 fps the
    defaults give D = 384, 1.5 s after the sound.

    Args:
        layers: of the encoder's blocks, 1 ... 4, whose outputs are averaged, each normalised (the last by the encoder's
            own layer norm, the others to mean 0 and variance 1).
        vectors_per_frame: how many vectors a frame has, placed evenly over it; the encoder makes 50 a second.
        combine: what becomes of a frame's vectors: their mean (D = 384), or all of them side by side.
        stride_frames: frames that each window gives embeddings of.
        context_frames: frames that it hears on either side of them.
    """

    positional_embedding: Tensor
    mel_filters: Tensor
    sample_rate = 16000

    def __init__(
        self,
        layers: tuple[int, ...] = (2, 3),
        vectors_per_frame: int = 2,
        combine: Literal["mean", "concatenate"] = "mean",
        stride_frames: int = 25,
        context_frames: int = 12,
    ) -> None:
        super().__init__()
        if not layers or len(set(layers)) < len(layers) or not set(layers) <= set(range(1, LAYERS + 1)):
            raise ValueError(f"layers must be some of 1 ... {LAYERS}, each once, not {list(layers)}")
        if vectors_per_frame < 1 or stride_frames < 1 or context_frames < 0:
            raise ValueError(
                "vectors_per_frame and stride_frames must be from 1 and context_frames from 0, not "
                f"{vectors_per_frame}, {stride_frames} and {context_frames}"
            )
        self.layers, self.vectors_per_frame, self.combine = tuple(sorted(layers)), vectors_per_frame, combine
        self.stride_frames, self.context_frames = stride_frames, context_frames
        self.embed_dim = STATE if combine == "mean" else vectors_per_frame * STATE
        self.conv1 = nn.Conv1d(N_MELS, STATE, 3, padding=1)
        self.conv2 = nn.Conv1d(STATE, STATE, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", torch.zeros(POSITIONS, STATE))
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.ln_post = nn.LayerNorm(STATE)
        self.register_buffer("mel_filters", torch.zeros(N_MELS, N_FFT // 2 + 1))
        self.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
        self.requires_grad_(False).eval()

    @cached_property
    def weights(self) -> str:
        """Network, file, checksum and licence."""
        return f"Whisper tiny.en encoder, {WEIGHTS.name} sha256 {sha256_of(WEIGHTS)[:12]}, MIT"

    @torch.no_grad()
    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        """float32 [N, T] -> [N, F, D]."""
        with torch.autocast(waveform.device.type, enabled=False):
            features = self.encode(self.log_mel(waveform.float()))  # [N, ~T / 320, 384]
        n_features = n_frames * self.vectors_per_frame
        if features.shape[1] != n_features:  # at other rates than 25 fps x 2 = 50 Hz: nearest in time
            places = (torch.arange(n_features, device=features.device) + 0.5) * features.shape[1] / n_features
            features = features[:, places.long().clamp(max=features.shape[1] - 1)]
        per_frame = features.reshape(len(waveform), n_frames, self.vectors_per_frame, STATE)
        return per_frame.mean(2) if self.combine == "mean" else per_frame.flatten(2)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Whisper's log-mel spectrogram: [N, T] -> [N, 80, T / 160], each window scaled to its own maximum."""
        window = torch.hann_window(N_FFT, device=waveform.device)
        spectrum = torch.stft(waveform, N_FFT, HOP, window=window, return_complex=True)[..., :-1].abs() ** 2
        log_mel = (self.mel_filters @ spectrum).clamp(min=1e-10).log10()
        log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - 8)
        return (log_mel + 4) / 4

    def encode(self, log_mel: Tensor) -> Tensor:
        """[N, 80, 2 S] -> [N, S, 384], the mean of the chosen layers; positions count from the window's start.

        Raises:
            DheadsError: the window is longer than Whisper has positions for.
        """
        h = F.gelu(self.conv2(F.gelu(self.conv1(log_mel)))).transpose(1, 2)
        if h.shape[1] > POSITIONS:
            raise DheadsError(
                f"whisper hears windows of at most {POSITIONS / RATE_HZ:g} s, not {h.shape[1] / RATE_HZ:g} s: "
                "lower its stride_frames or context_frames"
            )
        h = h + self.positional_embedding[: h.shape[1]]
        chosen = []
        for layer, block in enumerate(self.blocks[: self.layers[-1]], start=1):
            h = block(h)
            if layer in self.layers:
                chosen.append(self.ln_post(h) if layer == LAYERS else F.layer_norm(h, (STATE,)))
        return chosen[0] if len(chosen) == 1 else torch.stack(chosen).mean(0)


class Block(nn.Module):
    """Pre-norm transformer block; attribute names are those of the weights file."""

    def __init__(self) -> None:
        super().__init__()
        self.attn = Attention()
        self.attn_ln = nn.LayerNorm(STATE)
        self.mlp = nn.Sequential(nn.Linear(STATE, 4 * STATE), nn.GELU(), nn.Linear(4 * STATE, STATE))
        self.mlp_ln = nn.LayerNorm(STATE)

    def forward(self, h: Tensor) -> Tensor:
        h = h + self.attn(self.attn_ln(h))
        out: Tensor = h + self.mlp(self.mlp_ln(h))
        return out


class Attention(nn.Module):
    """Multi-head self-attention; keys have no bias."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.value, self.out = (nn.Linear(STATE, STATE) for _ in range(3))
        self.key = nn.Linear(STATE, STATE, bias=False)

    def forward(self, h: Tensor) -> Tensor:
        n, s, _ = h.shape
        q, k, v = (m(h).view(n, s, HEADS, -1).transpose(1, 2) for m in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out(attended.transpose(1, 2).reshape(n, s, STATE))
        return out
