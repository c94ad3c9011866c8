"""The cross-attention of the authors' release, kept so that their checkpoints and their ablation can be had."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dheads_cli.model.unet import zeroed
from dheads_components.conditioning.parts import TimeLayer, WindowEmbedding


class CrossAttentionOfficial:
    """Speech as a map of one value a place, attended to in place of self-attention; residual blocks get time alone.

    Two properties of the release are kept: every channel of the audio map is the same, so that its group norm is a
    normalisation over places; and q, k, v are laid out as all of q, then all of k | v, while the attention takes
    head after head of q | k | v. So the first third of the heads attends within the feature map, and only the others
    read the sound. For a model of your own take `cross_attention`.
    """

    def embed(self, n_window: int, audio_dim: int, time_dim: int) -> nn.Module:
        """[B, K, D] -> [B, 1, E]."""
        return WindowEmbedding(n_window, audio_dim, time_dim)

    def layer(self, channels: int, time_dim: int, audio_dim: int) -> nn.Module:
        """[B, C, H, W], time [B, E], audio [B, 1, E], which is not used -> [B, C, H, W]."""
        return TimeLayer(channels, time_dim)

    def attention(self, channels: int, n_heads: int, size: int, audio_dim: int) -> nn.Module:
        """[B, C, size, size], time, audio [B, 1, E] -> [B, C, size, size]."""
        return OfficialAttention(channels, n_heads, size, audio_dim)


class OfficialAttention(nn.Module):
    """Attention over places, with a residual connection."""

    def __init__(self, channels: int, n_heads: int, size: int, audio_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.audio = nn.Linear(audio_dim, size * size)
        self.norm = nn.GroupNorm(32, channels)
        self.norm_audio = nn.GroupNorm(32, channels)
        self.q = nn.Conv1d(channels, channels, 1)
        self.kv = nn.Conv1d(channels, 2 * channels, 1)
        self.proj = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q = self.q(self.norm(x).reshape(b, c, h * w))
        sound = self.audio(audio.mean(dim=1))[:, None].expand(b, c, h * w)  # every channel the same
        qkv = torch.cat([q, self.kv(self.norm_audio(sound))], dim=1)  # [B, 3 C, H W], cut into heads as it lies
        q, k, v = qkv.view(b, self.n_heads, 3, c // self.n_heads, h * w).transpose(3, 4).unbind(2)
        attended = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)  # [B, heads, head_dim, H W]
        out: Tensor = x + self.proj(attended.reshape(b, c, h * w)).view(b, c, h, w)
        return out
