"""A network that tells whether lips and sound are in step: two towers whose embeddings are near where they belong
together, after SyncNet (Chung and Zisserman 2016), but small.

Both see 0.2 s: 5 frames of a mouth, 20 spectra. Whole clips go through at once and get an embedding for each window.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dheads_cli.data.sync_input import MOUTH_PX, N_MELS
from dheads_cli.model.checkpoint import load_of_task
from dheads_cli.recipe_sync import SyncRecipe

WINDOW_FRAMES = 5  # of an embedding; its sound is as long


class Lips(nn.Sequential):
    """Gray mouths [B, F, 48, 48] -> embeddings of length 1, [B, F - 4, D]; embedding k is of frames k ... k + 4."""

    def __init__(self, channels: int, embed_dim: int) -> None:
        c = channels
        super().__init__(
            *_layer(WINDOW_FRAMES, c, 5, 2), *_layer(c, 2 * c, 3, 2), *_layer(2 * c, 2 * c, 3, 1),
            *_layer(2 * c, 4 * c, 3, 2), *_layer(4 * c, 4 * c, 3, 1), *_layer(4 * c, 8 * c, 3, 2),
            nn.Conv2d(8 * c, embed_dim, MOUTH_PX // 16),
        )  # fmt: skip

    def forward(self, mouths: Tensor) -> Tensor:
        windows = mouths.unfold(1, WINDOW_FRAMES, 1).permute(0, 1, 4, 2, 3)  # [B, F - 4, 5, H, W]
        h = windows.flatten(0, 1).contiguous(memory_format=torch.channels_last)  # half the time on a CPU
        for layer in self:
            h = layer(h)
        return F.normalize(h.reshape(*windows.shape[:2], -1), dim=2)


class Sound(nn.Module):
    """Log-mel spectra [B, 40, 4 F] -> embeddings of length 1, [B, F - 4, D]; k is of spectra 4 k ... 4 k + 19."""

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__()
        c = channels
        self.bands = nn.Sequential(  # an output sees 7 spectra, then 10; the latter has every other one
            nn.Conv2d(1, c, (5, 7), (2, 1), (2, 0), bias=False), nn.BatchNorm2d(c), nn.ReLU(),
            nn.Conv2d(c, 2 * c, (3, 4), (2, 2), (1, 0), bias=False), nn.BatchNorm2d(2 * c), nn.ReLU(),
        )  # fmt: skip
        self.times = nn.Sequential(  # 16, of which it has every fourth; then 20
            nn.Conv1d(2 * c * (N_MELS // 4), 8 * c, 4, 2, bias=False), nn.BatchNorm1d(8 * c), nn.ReLU(),
            nn.Conv1d(8 * c, 8 * c, 2, bias=False), nn.BatchNorm1d(8 * c), nn.ReLU(),
            nn.Conv1d(8 * c, embed_dim, 1),
        )  # fmt: skip

    def forward(self, spectra: Tensor) -> Tensor:
        h: Tensor = self.times(self.bands(spectra[:, None]).flatten(1, 2))  # [B, D, F - 4]
        return F.normalize(h.transpose(1, 2), dim=2)


def _layer(n_in: int, n_out: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(n_out), nn.ReLU()]


@dataclass(frozen=True)
class SyncNet:
    """The two towers.

    Attributes:
        lips: mouths to embeddings.
        sound: spectra to embeddings.
    """

    lips: Lips
    sound: Sound

    def own_modules(self) -> dict[str, nn.Module]:
        """The modules whose weights a checkpoint holds, by their prefix in it."""
        return {"lips": self.lips, "sound": self.sound}

    def trained_modules(self) -> dict[str, nn.Module]:
        """The modules whose weights are learned: all."""
        return self.own_modules()


def build_sync(channels: int, embed_dim: int, device: torch.device | str = "cpu") -> SyncNet:
    """Make the towers with fresh weights, drawn from torch's global generator.

    Args:
        channels: of the first convolution of each; later ones have 2, 4 and 8 times as many.
        embed_dim: D.
        device: where to put them.
    """
    return SyncNet(Lips(channels, embed_dim).to(device), Sound(channels, embed_dim).to(device))


def load_sync(reference: str | Path) -> tuple[SyncNet, SyncRecipe, Path]:
    """The towers of a run or a checkpoint, evaluating, on the CPU; their recipe; the file.

    Raises:
        DheadsError: no such checkpoint, of another task, or its weights do not fit its recipe.
    """
    return load_of_task(
        reference, "sync", SyncRecipe, lambda recipe: build_sync(recipe.model.channels, recipe.model.embed_dim)
    )
