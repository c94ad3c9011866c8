"""A lip-reader: convolutions over 5 frames of a mouth, as of a `sync` network, and a recurrent network over time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import find_checkpoint, load_module, load_of_task, load_tensors
from dheads_cli.model.sync import WINDOW_FRAMES, Lips
from dheads_cli.recipe_lips import LipsModel, LipsRecipe


class Reading(nn.Module):
    """What each frame says, from embeddings of all of them: [B, F, D] -> logits [B, F, 1 + words]."""

    def __init__(self, embed_dim: int, hidden_dim: int, layers: int, n_labels: int, dropout: float) -> None:
        super().__init__()
        widths = [embed_dim] + [2 * hidden_dim] * layers
        self.layers = nn.ModuleList(
            nn.GRU(width, hidden_dim, batch_first=True, bidirectional=True) for width in widths[:-1]
        )
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(widths[-1], n_labels)

    def forward(self, embeddings: Tensor) -> Tensor:
        h = embeddings * embeddings.shape[-1] ** 0.5  # of length 1: back to deviation 1
        for layer in self.layers:
            h, _ = layer(self.dropout(h))
        logits: Tensor = self.out(self.dropout(h))
        return logits


@dataclass(frozen=True)
class LipReader:
    """Tells for each frame which word is being said.

    Attributes:
        lips: mouths [B, F, 48, 48] to an embedding for each 5 frames.
        reading: embeddings to logits.
        sentence: for each place of a sentence, the words that can stand there; their labels are 1, 2 ... in this order.
        lips_frozen: training leaves the convolutions as they are.
    """

    lips: Lips
    reading: Reading
    sentence: list[list[str]]
    lips_frozen: bool = False

    def own_modules(self) -> dict[str, nn.Module]:
        """The modules whose weights a checkpoint holds, by their prefix in it."""
        return {"lips": self.lips, "reading": self.reading}

    def trained_modules(self) -> dict[str, nn.Module]:
        """The modules whose weights are learned, by their prefix in a checkpoint."""
        return {"reading": self.reading} if self.lips_frozen else self.own_modules()

    def logits(self, mouths: Tensor) -> Tensor:
        """Mouths float32 [B, F, 48, 48], of 25 frames a second -> [B, F, 1 + words]; label 0 is silence.

        Before the first and after the last frame these stand still.
        """
        edge = (WINDOW_FRAMES - 1) // 2
        ends = mouths[:, :1].expand(-1, edge, -1, -1), mouths[:, -1:].expand(-1, edge, -1, -1)
        logits: Tensor = self.reading(self.lips(torch.cat([ends[0], mouths, ends[1]], dim=1)))
        return logits

    @torch.no_grad()
    def log_probs(self, mouths: Tensor) -> Tensor:
        """One clip's mouths float32 [F, 48, 48] -> float64 [F, 1 + words] on the CPU."""
        return F.log_softmax(self.logits(mouths[None]).double().cpu(), dim=2)[0]


def build_lip_reader(
    settings: LipsModel, device: torch.device | str = "cpu", *, freeze_lips: bool = False
) -> LipReader:
    """Make a lip-reader with fresh weights, drawn from torch's global generator."""
    n_labels = 1 + sum(map(len, settings.sentence))
    lips = Lips(settings.channels, settings.embed_dim)
    reading = Reading(settings.embed_dim, settings.hidden_dim, settings.layers, n_labels, settings.dropout)
    if freeze_lips:
        lips.requires_grad_(False).eval()
    return LipReader(lips.to(device), reading.to(device), settings.sentence, freeze_lips)


def load_lip_reader(reference: str | Path) -> tuple[LipReader, LipsRecipe, Path]:
    """The lip-reader of a run or a checkpoint, evaluating, on the CPU; its recipe; the file.

    Raises:
        DheadsError: no such checkpoint, of another task, or its weights do not fit its recipe.
    """
    return load_of_task(reference, "lips", LipsRecipe, lambda recipe: build_lip_reader(recipe.model))


def take_lips(reference: str | Path, reader: LipReader) -> Path:
    """Put the convolutions of a `sync` network, or of another lip-reader, in those of one that is to be trained.

    Raises:
        DheadsError: no such checkpoint, or it has none, or others.
    """
    path = find_checkpoint(reference)
    tensors, _ = load_tensors(path)
    if wrong := load_module(reader.lips, "lips", tensors):
        raise DheadsError(
            f"train.lips_weights: {path}: {len(wrong)} of its weights do not fit, {wrong[0]} first: name a run of "
            "the task sync or lips, with its model.channels and model.embed_dim"
        )
    return path
