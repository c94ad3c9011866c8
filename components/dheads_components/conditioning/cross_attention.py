"""Cross-attention to the frames of the audio window, as latent diffusion attends to words."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dheads_cli.model.unet import SelfAttention, zeroed
from dheads_components.conditioning.parts import TimeLayer


class CrossAttention:
    """Queries from the feature map, keys and values from the 2 m_y + 1 audio embeddings with their positions.

    Follows the U-Net's self-attention wherever that stands (Rombach et al. 2022, section 3.3); residual blocks get time
    alone. Not in the paper, whose ablation has `cross_attention_official`.
    """

    def embed(self, n_window: int, audio_dim: int, time_dim: int) -> nn.Module:
        """[B, K, D] -> tokens [B, K, E]."""
        return WindowTokens(n_window, audio_dim, time_dim)

    def layer(self, channels: int, time_dim: int, audio_dim: int) -> nn.Module:
        """[B, C, H, W], time [B, E], audio [B, K, E], which is not used -> [B, C, H, W]."""
        return TimeLayer(channels, time_dim)

    def attention(self, channels: int, n_heads: int, size: int, audio_dim: int) -> nn.Module:
        """[B, C, H, W], time, audio [B, K, E] -> [B, C, H, W]."""
        return SelfThenCrossAttention(channels, n_heads, audio_dim)


class WindowTokens(nn.Module):
    """One token for each frame of the window: its embedding, projected and normalised, plus a learned position."""

    def __init__(self, n_window: int, audio_dim: int, time_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(audio_dim, time_dim)
        self.norm = nn.LayerNorm(time_dim)
        self.position = nn.Parameter(torch.empty(n_window, time_dim))
        nn.init.normal_(self.position, std=0.02)

    def forward(self, audio_window: Tensor) -> Tensor:
        tokens: Tensor = self.norm(self.proj(audio_window)) + self.position
        return tokens


class SelfThenCrossAttention(nn.Module):
    """Self-attention, then attention from every place to the audio tokens; each with a residual connection."""

    def __init__(self, channels: int, n_heads: int, audio_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.self_attention = SelfAttention(channels, n_heads)
        self.norm = nn.GroupNorm(32, channels)
        self.q = nn.Conv1d(channels, channels, 1)
        self.kv = nn.Linear(audio_dim, 2 * channels)
        self.proj = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        x = self.self_attention(x, time, audio)
        b, c, h, w = x.shape
        head_dim = c // self.n_heads
        q = self.q(self.norm(x).reshape(b, c, h * w)).view(b, self.n_heads, head_dim, h * w).transpose(2, 3)
        k, v = self.kv(audio).view(b, -1, 2, self.n_heads, head_dim).permute(2, 0, 3, 1, 4)  # [B, heads, K, head_dim]
        attended = F.scaled_dot_product_attention(q, k, v).transpose(2, 3)  # [B, heads, head_dim, H W]
        out: Tensor = x + self.proj(attended.reshape(b, c, h * w)).view(b, c, h, w)
        return out
