"""Speech as a scale alone, after the group norm that time conditions."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from dheads_components.conditioning.parts import TimeLayer, WindowEmbedding


class AudioScale:
    """h' = y_s ((1 + t_s) GN(h) + t_b): as the semantic code in Diffusion Autoencoders (Preechakul et al. 2022).

    The authors' release calls it `post_gn`; one of the alternatives that the paper's ablation compares with. y_s is not
    written 1 + s there: here its bias begins at 1, so that a layer begins as plain group norm.
    """

    def embed(self, n_window: int, audio_dim: int, time_dim: int) -> nn.Module:
        """[B, K, D] -> [B, 1, E]."""
        return WindowEmbedding(n_window, audio_dim, time_dim)

    def layer(self, channels: int, time_dim: int, audio_dim: int) -> nn.Module:
        """[B, C, H, W], time [B, E], audio [B, 1, E] -> [B, C, H, W]."""
        return AudioScaleLayer(channels, time_dim, audio_dim)


class AudioScaleLayer(TimeLayer):
    """TimeLayer, times y_s = Linear(SiLU(audio))."""

    def __init__(self, channels: int, time_dim: int, audio_dim: int) -> None:
        super().__init__(channels, time_dim)
        self.audio = nn.Linear(audio_dim, channels)
        nn.init.zeros_(self.audio.weight)
        nn.init.ones_(self.audio.bias)

    def forward(self, h: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        y_s = self.audio(F.silu(audio.mean(dim=1)))[:, :, None, None]
        conditioned: Tensor = super().forward(h, time, audio) * y_s
        return conditioned
