"""What several conditionings are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dheads_cli.model.unet import zeroed


class WindowEmbedding(nn.Module):
    """Linear, SiLU, Linear over the audio window, flattened oldest to newest: [B, K, D] -> [B, 1, E]."""

    def __init__(self, n_window: int, audio_dim: int, time_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(n_window * audio_dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim))

    def forward(self, audio_window: Tensor) -> Tensor:
        embedded: Tensor = self.mlp(audio_window.flatten(1)).unsqueeze(1)
        return embedded


class TimeLayer(nn.Module):
    """Group norm, scaled by 1 + t_s and shifted by t_b, both from SiLU and Linear; speech is heard elsewhere."""

    def __init__(self, channels: int, time_dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.time = scale_and_shift(time_dim, channels)

    def forward(self, h: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        t_s, t_b = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
        conditioned: Tensor = t_b + self.norm(h) * (1 + t_s)
        return conditioned


def scale_and_shift(n_in: int, channels: int) -> nn.Linear:
    """n_in -> (scale - 1 | shift) of each channel, [2 C]; zeros before training."""
    return zeroed(nn.Linear(n_in, 2 * channels))
