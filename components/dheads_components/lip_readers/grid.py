"""The lip-reader of GRID's sentences, trained here on GRID (CC BY 4.0); its weights ship with the package."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from dheads_cli.data.sync_input import at_25_fps, middles, mouth_crops
from dheads_cli.files import sha256_of
from dheads_cli.model.lips import load_lip_reader
from dheads_cli.model.sentence import labels_of, likeliest

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks

SHIPPED = Path(__file__).with_name("lips-grid.safetensors")


class GridLipReader:
    """The likeliest of GRID's 64,000 sentences: command, colour, preposition, letter, digit, adverb.

    It has learned most from one person (docs/METRICS.md): what it reads from the lips of others is worth little. It
    always reads a whole sentence, whatever is said, but nothing in a clip without a face.

    Args:
        weights: run or checkpoint of `dheads train lips/...` in place of the shipped one.
    """

    def __init__(self, weights: str | None = None) -> None:
        self.network, recipe, self.path = load_lip_reader(SHIPPED if weights is None else weights)
        self.name = recipe.name
        self.vocabulary = frozenset(labels_of(self.network.sentence))

    @property
    def value_name(self) -> str:
        """Such as "lips-grid WER": not the paper's, whose reader is another."""
        return f"{self.name} WER"

    @cached_property
    def weights(self) -> str:
        """Network, file and checksum."""
        return f"{self.name} (this project's), {self.path.name} sha256 {sha256_of(self.path)[:12]}"

    def __call__(self, frames: Frames, landmarks: Landmarks, fps: float) -> list[str]:
        """The sentence; no word where no frame has a face, or there are fewer frames than words."""
        shown = at_25_fps(len(frames), fps)
        crops = mouth_crops(frames[shown], landmarks)
        if crops is None:
            return []
        return likeliest(self.network.log_probs(middles(crops)).numpy(), self.network.sentence)
