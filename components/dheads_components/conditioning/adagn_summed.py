"""One adaptive group norm for time and speech together: their embeddings are summed."""

from __future__ import annotations

from torch import Tensor, nn

from dheads_components.conditioning.parts import TimeLayer, WindowEmbedding


class AdaGNSummed:
    """h' = (1 + s) GN(h) + b, (s, b) from time embedding + audio embedding, as ADM adds a class embedding.

    The authors' release calls it `pre_gn`; one of the alternatives that the paper's ablation compares with.
    """

    def embed(self, n_window: int, audio_dim: int, time_dim: int) -> nn.Module:
        """[B, K, D] -> [B, 1, E]."""
        return WindowEmbedding(n_window, audio_dim, time_dim)

    def layer(self, channels: int, time_dim: int, audio_dim: int) -> nn.Module:
        """[B, C, H, W], time [B, E], audio [B, 1, E] -> [B, C, H, W].

        Raises:
            ValueError: audio embeddings and time embeddings differ in width, and so can't be summed.
        """
        if audio_dim != time_dim:
            raise ValueError(f"audio embeddings of {audio_dim} can't be added to time embeddings of {time_dim}")
        return SummedLayer(channels, time_dim)


class SummedLayer(TimeLayer):
    """TimeLayer of the sum."""

    def forward(self, h: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        return super().forward(h, time + audio.mean(dim=1), audio)
