"""The encoder of OpenAI Whisper tiny.en (Radford et al. 2022), frozen; its weights ship with the package (MIT)."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

WEIGHTS = Path(__file__).with_name("whisper-tiny.en-encoder.safetensors")
N_FFT, HOP, N_MELS, STATE, HEADS, LAYERS = 400, 160, 80, 384, 6, 4
RATE_HZ = 50  # of the encoder's output


class Whisper(nn.Module):
    """Whisper tiny.en features: the 50 Hz vectors that cover a video frame, side by side.

    Attention runs over the whole window, so the windowing is part of the features: 4 s windows, of which the middle
    2 s are kept. At 25 fps each frame gets two vectors, D = 768.

    Args:
        vectors_per_frame: how many vectors a frame gets, placed evenly over the frame.
    """

    positional_embedding: Tensor
    mel_filters: Tensor
    sample_rate = 16000
    stride_frames = 50
    context_frames = 25

    def __init__(self, vectors_per_frame: int = 2) -> None:
        super().__init__()
        self.vectors_per_frame = vectors_per_frame
        self.embed_dim = vectors_per_frame * STATE
        self.conv1 = nn.Conv1d(N_MELS, STATE, 3, padding=1)
        self.conv2 = nn.Conv1d(STATE, STATE, 3, stride=2, padding=1)
        self.register_buffer("positional_embedding", torch.zeros(1500, STATE))
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.ln_post = nn.LayerNorm(STATE)
        self.register_buffer("mel_filters", torch.zeros(N_MELS, N_FFT // 2 + 1))
        self.load_state_dict({name: tensor.float() for name, tensor in load_file(WEIGHTS).items()})
        self.requires_grad_(False).eval()

    @cached_property
    def weights(self) -> str:
        """Network, file, checksum and licence."""
        sha256 = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()
        return f"Whisper tiny.en encoder, {WEIGHTS.name} sha256 {sha256[:12]}, MIT"

    @torch.no_grad()
    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        """float32 [N, T] -> [N, F, D]."""
        with torch.autocast(waveform.device.type, enabled=False):
            features = self.encode(self.log_mel(waveform.float()))  # [N, ~T / 320, 384]
        n_features = n_frames * self.vectors_per_frame
        if features.shape[1] != n_features:  # at other rates than 25 fps x 2 = 50 Hz: nearest in time
            places = (torch.arange(n_features, device=features.device) + 0.5) * features.shape[1] / n_features
            features = features[:, places.long().clamp(max=features.shape[1] - 1)]
        return features.reshape(len(waveform), n_frames, self.embed_dim)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Whisper's log-mel spectrogram: [N, T] -> [N, 80, T / 160], each window scaled to its own maximum."""
        window = torch.hann_window(N_FFT, device=waveform.device)
        spectrum = torch.stft(waveform, N_FFT, HOP, window=window, return_complex=True)[..., :-1].abs() ** 2
        log_mel = (self.mel_filters @ spectrum).clamp(min=1e-10).log10()
        log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - 8)
        return (log_mel + 4) / 4

    def encode(self, log_mel: Tensor) -> Tensor:
        """[N, 80, 2 S] -> [N, S, 384]; positions count from the window's start."""
        h = F.gelu(self.conv2(F.gelu(self.conv1(log_mel)))).transpose(1, 2)
        h = h + self.positional_embedding[: h.shape[1]]
        for block in self.blocks:
            h = block(h)
        features: Tensor = self.ln_post(h)
        return features


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
