"""Speech as the lips' and the jaw's positions that a linear map finds in it: a bottleneck that generalises."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_components.audio_encoders.whisper import Whisper

WEIGHTS = Path(__file__).with_name("visemes-grid.safetensors")


class Visemes(nn.Module):
    """Whisper features through a linear map of low rank onto the positions of lips and jaw.

    A network that is given Whisper's features whole learns the few sentences of its corpus by heart, and follows other
    speech less well than a linear probe does. This encoder is that probe: ridge regression, strongly regularised, from
    the features of frames k - 2 ... k + 2 to the landmarks of frame k, cut to the directions in which its predictions
    vary most (docs/HEARING.md). `dheads data fit-visemes` makes the weights.

    Args:
        weights: safetensors file of the map; None takes the one that ships, which was fitted on GRID.
        stride_frames: frames that each window gives embeddings of.
        context_frames: frames that it takes in on either side of them.
    """

    sample_rate = 16000
    predicts_mouth = True

    def __init__(self, weights: str | None = None, stride_frames: int = 50, context_frames: int = 25) -> None:
        super().__init__()
        path = WEIGHTS if weights is None else Path(weights)
        if not path.is_file():
            raise DheadsError(f"{path}: no such file of visemes; `dheads data fit-visemes` makes one")
        tensors = load_file(path)
        if missing := {"layers", "map", "bias"} - tensors.keys():
            raise DheadsError(f"{path}: no weights of visemes (no {', '.join(sorted(missing))})")
        layers = tuple(tensors["layers"].tolist())
        self.whisper = Whisper(
            layers, combine="concatenate", stride_frames=stride_frames, context_frames=context_frames
        )
        self.map, self.bias = nn.Buffer(tensors["map"].float()), nn.Buffer(tensors["bias"].float())
        self.stride_frames, self.context_frames = stride_frames, context_frames
        self.embed_dim = self.map.shape[2]
        self.path = path
        self.requires_grad_(False).eval()

    @property
    def weights(self) -> str:
        """Networks, files, checksums and licences."""
        return f"{self.whisper.weights}; linear map {self.path.name} sha256 {sha256_of(self.path)[:12]}"

    @torch.no_grad()
    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        """float32 [N, T] -> [N, F, K]."""
        return window_map(self.whisper(waveform, n_frames), self.map) + self.bias


def window_map(features: Tensor, weights: Tensor) -> Tensor:
    """Map each frame's window of features, edges repeated: [N, F, D], [2 m + 1, D, K] -> [N, F, K]."""
    m = len(weights) // 2
    n_frames = features.shape[1]
    places = torch.arange(n_frames, device=features.device)
    taken = [features[:, (places + offset).clamp(0, n_frames - 1)] @ weights[offset + m] for offset in range(-m, m + 1)]
    return torch.stack(taken).sum(dim=0)
