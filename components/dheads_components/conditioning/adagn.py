"""The paper's adaptive group normalisation (Diffused Heads, section 3.3)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class AdaGN:
    """h' = y_s (t_s GN(h) + t_b) + y_b: time scales and shifts the normalised features first, then speech.

    As in the authors' release both scales are written 1 + s, so that a layer begins as plain group norm.
    """

    def embed(self, n_window: int, audio_dim: int, time_dim: int) -> nn.Module:
        """The window's embeddings, flattened oldest to newest, through an MLP: [B, K, D] -> [B, 1, E]."""
        return WindowEmbedding(n_window, audio_dim, time_dim)

    def layer(self, channels: int, time_dim: int, audio_dim: int) -> nn.Module:
        """[B, C, H, W], time [B, E], audio [B, 1, E] -> [B, C, H, W]."""
        return AdaGNLayer(channels, time_dim, audio_dim)


class WindowEmbedding(nn.Module):
    """Linear, SiLU, Linear over the flattened audio window."""

    def __init__(self, n_window: int, audio_dim: int, time_dim: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(n_window * audio_dim, time_dim), nn.SiLU(), nn.Linear(time_dim, time_dim))

    def forward(self, audio_window: Tensor) -> Tensor:
        embedded: Tensor = self.mlp(audio_window.flatten(1)).unsqueeze(1)
        return embedded


class AdaGNLayer(nn.Module):
    """Group norm, scaled and shifted by time, then by speech."""

    def __init__(self, channels: int, time_dim: int, audio_dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.time = nn.Linear(time_dim, 2 * channels)
        self.audio = nn.Linear(audio_dim, 2 * channels)
        for linear in (self.time, self.audio):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, h: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        t_s, t_b = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
        y_s, y_b = self.audio(F.silu(audio.mean(dim=1)))[:, :, None, None].chunk(2, dim=1)
        # Both affine maps are one: fewer passes over h, which is large.
        scale = (1 + y_s) * (1 + t_s)
        shift = (1 + y_s) * t_b + y_b
        conditioned: Tensor = shift + self.norm(h) * scale
        return conditioned
