"""The ADM U-Net (Dhariwal & Nichol 2021, appendix; Diffused Heads, section 3.3) with speech in its residual blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dheads_cli.protocols import AttentionConditioning, Conditioning

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class UNet(nn.Module):
    """Predict a frame's noise, or its difference to the identity frame, from the noised frame and its conditions.

    Channels are `channels * channel_mult[level]`; each level has n_res_blocks residual blocks going down and one more
    going up. A group norm's 32 groups want widths that are multiples of 32.

    Args:
        channels: width of the first level; sinusoidal embeddings have this width too, time embeddings four times it.
        channel_mult: one factor a level.
        n_res_blocks: residual blocks a level on the way down.
        attention_levels: levels (0 is the finest) with self-attention after each residual block.
        head_dim: channels of an attention head, where n_heads is None.
        n_heads: attention heads.
        dropout: in the residual blocks.
        patch_size: pixel-unshuffle factor before the first convolution, pixel-shuffle after the last.
        detail_channels: width of a branch at twice the first level's resolution that adds finer detail to the output;
            0: none. It begins as nothing, and needs an even patch_size.
        n_motion_frames: m_x.
        grayscale_motion: motion frames have one channel.
        noised_motion: the level of noise on the motion frames is an input.
        motion_noise_per_frame: a level of each motion frame is, where noised_motion.
        identity_last: the input is x_t, motion frames, identity frame (the release), not x_t, identity, motion (paper).
        time_max_period: of the step's sinusoidal embedding.
        learned_variance: three more output channels, nu.
        size: width and height of the frames, px; only conditionings whose attention depends on it are told.
        n_window: audio embeddings in a window, 2 m_y + 1.
        audio_dim: D.
        conditioning: the component that makes the conditioning layers.
        n_controls: how many numbers say what the frame is to show besides its speech, such as how open its eyes are.
            Before training they change nothing.
    """

    def __init__(
        self,
        *,
        channels: int,
        channel_mult: Sequence[int],
        n_res_blocks: int,
        attention_levels: Sequence[int],
        head_dim: int,
        n_heads: int | None,
        dropout: float,
        patch_size: int,
        n_motion_frames: int,
        grayscale_motion: bool,
        noised_motion: bool,
        identity_last: bool,
        time_max_period: float,
        learned_variance: bool,
        size: int,
        n_window: int,
        audio_dim: int,
        conditioning: Conditioning,
        motion_noise_per_frame: bool = False,
        detail_channels: int = 0,
        n_controls: int = 0,
    ) -> None:
        super().__init__()
        self.channels, self.patch_size = channels, patch_size
        self.n_motion_frames, self.grayscale_motion, self.n_window = n_motion_frames, grayscale_motion, n_window
        self.identity_last, self.time_max_period = identity_last, time_max_period
        self.recompute_activations = False  # in training, to save memory
        self.memory_format = torch.channels_last  # convolutions are faster so, on a CPU and on a GPU
        time_dim = 4 * channels
        self.time_embed = _mlp(channels, time_dim)
        self.motion_noise_per_frame = noised_motion and motion_noise_per_frame
        n_levels = n_motion_frames if self.motion_noise_per_frame else 1
        self.motion_noise_embed = _mlp(n_levels * channels, time_dim) if noised_motion else None
        self.audio_embed = conditioning.embed(n_window, audio_dim, time_dim)

        def res_block(n_in: int, n_out: int, resample: nn.Module | None = None) -> ResBlock:
            layer = conditioning.layer(n_out, time_dim, time_dim)
            return ResBlock(n_in, n_out, layer, dropout, resample)

        def attention(width: int, level: int) -> nn.Module:
            if width % (n_heads or head_dim):
                cut = f"{n_heads} attention heads" if n_heads else f"attention heads of {head_dim}"
                raise ValueError(f"{width} channels can't be cut into {cut}")
            heads = n_heads or width // head_dim
            if isinstance(conditioning, AttentionConditioning):
                return conditioning.attention(width, heads, size // patch_size // 2**level, time_dim)
            return SelfAttention(width, heads)

        frame_channels = 3 + 3 + n_motion_frames * (1 if grayscale_motion else 3)
        widths = [channels * factor for factor in channel_mult]
        width = widths[0]
        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(frame_channels * patch_size**2, width, 3, padding=1))])
        skips = [width]
        for level, level_width in enumerate(widths):
            for _ in range(n_res_blocks):
                layers: list[nn.Module] = [res_block(width, level_width)]
                width = level_width
                if level in attention_levels:
                    layers.append(attention(width, level))
                self.input_blocks.append(Stage(*layers))
                skips.append(width)
            if level != len(widths) - 1:
                self.input_blocks.append(Stage(res_block(width, width, nn.AvgPool2d(2))))
                skips.append(width)
        self.middle_block = Stage(res_block(width, width), attention(width, len(widths) - 1), res_block(width, width))
        self.output_blocks = nn.ModuleList()
        for level, level_width in reversed(list(enumerate(widths))):
            for block in range(n_res_blocks + 1):
                layers = [res_block(width + skips.pop(), level_width)]
                width = level_width
                if level in attention_levels:
                    layers.append(attention(width, level))
                if level and block == n_res_blocks:
                    layers.append(res_block(width, width, nn.Upsample(scale_factor=2, mode="nearest")))
                self.output_blocks.append(Stage(*layers))
        out_channels = (6 if learned_variance else 3) * patch_size**2
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), zeroed(nn.Conv2d(width, out_channels, 3, padding=1))
        )
        self.detail: Detail | None = None
        if detail_channels:
            if patch_size % 2:
                raise ValueError(f"detail_channels needs an even patch_size, not {patch_size}")
            blocks = [res_block(2 * detail_channels, detail_channels), res_block(detail_channels, detail_channels)]
            self.detail = Detail(
                frame_channels * (patch_size // 2) ** 2, width, detail_channels, out_channels // 4, blocks
            )
        self.n_controls = n_controls
        self.control_embed = _mlp(2 * n_controls, time_dim) if n_controls else None  # last: other weights stay the same
        if self.control_embed is not None:
            zeroed(self.control_embed[-1])

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        identity_frame: Tensor,
        motion_frames: Tensor,
        audio_window: Tensor,
        motion_noise: Tensor | None = None,
        controls: Tensor | None = None,
    ) -> Tensor:
        """Run the network.

        Args:
            x_t: noised target frame [B, 3, H, W].
            t: its original step, 0 ... T - 1 [B].
            identity_frame: x_Id [B, 3, H, W] in [-1, 1].
            motion_frames: x_Motion, oldest first [B, M * C, H, W], C = 1 where grayscale, else 3.
            audio_window: y_Motion, oldest first [B, K, D].
            motion_noise: sigma of the noise on the motion frames [B], or of each of them [B, M] where
                motion_noise_per_frame; None is 0. Only where noised_motion.
            controls: what the frame is to show [B, n_controls], NaN where that is left to the network; None leaves all
                to it. Only where n_controls.

        Returns:
            [B, 3 or 6, H, W]: the prediction and, where the variance is learned, nu.
        """
        time = self.time_embed(sinusoidal_embedding(t, self.channels, self.time_max_period).to(x_t.dtype))  # [B, E]
        if self.motion_noise_embed is not None:
            shape = (len(t), self.n_motion_frames) if self.motion_noise_per_frame else (len(t),)
            level = t.new_zeros(shape) if motion_noise is None else motion_noise * 1000
            levels = sinusoidal_embedding(level.flatten(), self.channels).view(len(t), -1)  # frames side by side
            time = time + self.motion_noise_embed(levels.to(x_t.dtype))
        if self.control_embed is not None:
            values = t.new_full((len(t), self.n_controls), math.nan, dtype=x_t.dtype) if controls is None else controls
            given = ~values.isnan()
            told = torch.cat([values.nan_to_num(0.0), given.to(values.dtype)], dim=1)  # [B, 2 n_controls]
            time = time + self.control_embed(told.to(x_t.dtype))
        audio = self.audio_embed(audio_window)
        shown = (motion_frames, identity_frame) if self.identity_last else (identity_frame, motion_frames)
        frames = torch.cat([x_t, *shown], dim=1)
        h = F.pixel_unshuffle(frames, self.patch_size).contiguous(memory_format=self.memory_format)
        skips = []
        for block in self.input_blocks:
            h = self._run(block, h, time, audio)
            skips.append(h)
        h = self._run(self.middle_block, h, time, audio)
        for block in self.output_blocks:
            h = self._run(block, torch.cat([h, skips.pop()], dim=1), time, audio)
        output: Tensor = F.pixel_shuffle(self.out(h), self.patch_size)
        if self.detail is not None:
            fine = F.pixel_unshuffle(frames, self.patch_size // 2).contiguous(memory_format=self.memory_format)
            output = output + F.pixel_shuffle(self.detail(fine, h, time, audio), self.patch_size // 2)
        return output

    def _run(self, block: nn.Module, h: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        """A block; where activations are recomputed, with the same dropout in the backward pass as here."""
        if self.recompute_activations and torch.is_grad_enabled():
            return checkpoint(block, h, time, audio, use_reentrant=False)  # type: ignore[no-any-return]
        out: Tensor = block(h, time, audio)
        return out


class Detail(nn.Module):
    """Finer detail than the first level's patches: frames in patches half as wide, and what the U-Net made of them.

    Args:
        n_frames: channels of the frames in these patches.
        n_coarse: channels of the U-Net's last level.
        channels: width of the branch.
        n_out: channels of its output.
        blocks: residual blocks, of which the first takes 2 * channels.
    """

    def __init__(self, n_frames: int, n_coarse: int, channels: int, n_out: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.frames = nn.Conv2d(n_frames, channels, 3, padding=1)
        self.coarse = nn.Conv2d(n_coarse, channels, 1)
        self.blocks = nn.ModuleList(blocks)
        self.out = nn.Sequential(
            nn.GroupNorm(32, channels), nn.SiLU(), zeroed(nn.Conv2d(channels, n_out, 3, padding=1))
        )

    def forward(self, frames: Tensor, h: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        """Frames [B, n_frames, 2 H, 2 W] and features [B, n_coarse, H, W] -> [B, n_out, 2 H, 2 W]."""
        h = torch.cat([self.frames(frames), F.interpolate(self.coarse(h), scale_factor=2.0, mode="nearest")], dim=1)
        for block in self.blocks:
            h = block(h, time, audio)
        out: Tensor = self.out(h)
        return out


class Stage(nn.ModuleList):
    """Layers of one step down or up; all but a convolution are given the conditions."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(layers)

    def forward(self, h: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        for layer in self:
            h = layer(h) if isinstance(layer, nn.Conv2d) else layer(h, time, audio)
        return h


class ResBlock(nn.Module):
    """GN, SiLU, (resample), conv; conditioning, SiLU, dropout, conv; plus the (resampled, projected) input."""

    def __init__(
        self, n_in: int, n_out: int, conditioning: nn.Module, dropout: float, resample: nn.Module | None
    ) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, n_in)
        self.resample = resample
        self.conv_in = nn.Conv2d(n_in, n_out, 3, padding=1)
        self.conditioning = conditioning
        self.dropout = nn.Dropout(dropout)
        self.conv_out = zeroed(nn.Conv2d(n_out, n_out, 3, padding=1))
        self.skip = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else None

    def forward(self, x: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        h = F.silu(self.norm(x))
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conditioning(self.conv_in(h), time, audio)
        h = self.conv_out(self.dropout(F.silu(h)))
        out: Tensor = h + (x if self.skip is None else self.skip(x))
        return out


class SelfAttention(nn.Module):
    """Multi-head self-attention over all positions, with a residual connection; heads come first, then q | k | v."""

    def __init__(self, channels: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm = nn.GroupNorm(32, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor, time: Tensor, audio: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]; time and audio are for attentions that listen."""
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x).reshape(b, c, h * w))  # [B, 3 C, H W]
        q, k, v = qkv.view(b, self.n_heads, 3, c // self.n_heads, h * w).transpose(3, 4).unbind(2)
        attended = F.scaled_dot_product_attention(q, k, v)  # [B, heads, H W, head_dim], scale head_dim^-1/2
        out: Tensor = x + self.proj(attended.transpose(2, 3).reshape(b, c, h * w)).view(b, c, h, w)
        return out


def sinusoidal_embedding(t: Tensor, dim: int, max_period: float = 1e4) -> Tensor:
    """cat[cos, sin] of t [B] at frequencies max_period^(-i / half), i = 0 ... half - 1 = dim / 2 - 1: [B, dim].

    The authors' release has exp(-ln(1e4) i / (2 dim)): with dim = 2 half that is 10^(-i / half), max_period 10.
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(max_period) * torch.arange(half, device=t.device, dtype=torch.float32) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def _mlp(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, n_out), nn.SiLU(), nn.Linear(n_out, n_out))


def zeroed(module: AnyModule) -> AnyModule:
    """The module with all its parameters zero: what it adds to a residual connection begins as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module
