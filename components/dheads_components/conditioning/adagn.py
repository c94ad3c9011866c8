"""The paper's adaptive group normalisation (Diffused Heads, section 3.3)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dheads_components.conditioning.parts import WindowEmbedding, scale_and_shift


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


class AdaGNLayer(nn.Module):
    """Group norm, scaled and shifted by time, then by speech."""

    def __init__(self, channels: int, time_dim: int, audio_dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels)
        self.time = scale_and_shift(time_dim, channels)
        self.audio = scale_and_shift(audio_dim, channels)

    def forward(self, h: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        t_s, t_b = self.time(F.silu(time))[:, :, None, None].chunk(2, dim=1)
        y_s, y_b = self.audio(F.silu(audio.mean(dim=1)))[:, :, None, None].chunk(2, dim=1)
        # Both affine maps are one: fewer passes over h, which is large.
        scale = (1 + y_s) * (1 + t_s)
        shift = (1 + y_s) * t_b + y_b
        conditioned: Tensor = shift + self.norm(h) * scale
        return conditioned
