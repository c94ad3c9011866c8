"""How the frames that a model draws become those of a video: alone, or back in their photo; scaled; with a mark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli import console
from dheads_cli.data.mark import marked
from dheads_cli.data.paste import PasteBack
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import Recipe
from dheads_cli.run.identity import Identity, margins_of

DEFAULT_SIZE = 256  # px of the video: a 64 px model's frames are scaled up to be looked at
DEFAULT_LONGEST = 1280  # px of the longer side of a whole photo's video
MAX_SIZE = 4096  # px: more than H.264 players show
SOFT_FROM = 2.0  # px of a whole photo for one px of its face, from which the face looks softer than the photo

Show = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # a drawn frame [S, S, 3] -> a frame of the video [H, W, 3]


@dataclass(frozen=True)
class Look:
    """How a video looks.

    Attributes:
        size: width and height, px, see animate.
        paste_back: put the face back into the whole photo.
        mark: draw a visible mark into the corner of each frame.
    """

    size: int | None = None
    paste_back: bool = False
    mark: bool = False

    def check(self) -> None:
        """Refuse a size that players don't show.

        Raises:
            DheadsError: it is one.
        """
        if self.size is not None and (self.size % 2 or not 16 <= self.size <= MAX_SIZE):
            raise DheadsError(f"--size {self.size}: the video's width and height must be even, from 16 to {MAX_SIZE}.")

    def longest_px(self, model_size: int) -> int:
        """The longer side of the video, at most; the model's frames are [S, S]."""
        return self.size or (DEFAULT_LONGEST if self.paste_back else max(DEFAULT_SIZE, model_size))


def way_to_show(identity: Identity, recipe: Recipe, look: Look) -> tuple[Show, tuple[int, int]]:
    """How drawn frames become those of the video, and the video's (width, height) px.

    Args:
        identity: who speaks.
        recipe: of the model.
        look: of the video.
    """
    longest = look.longest_px(recipe.model.size)
    show, shown = whole_photo(identity, recipe, longest) if look.paste_back else alone(longest)
    return (lambda drawn: marked(show(drawn))) if look.mark else show, shown


def alone(size: int) -> tuple[Show, tuple[int, int]]:
    """Show the crop by itself; also returns the video's (width, height) px."""
    return lambda drawn: scaled(drawn, size), (size, size)


def whole_photo(identity: Identity, recipe: Recipe, longest: int) -> tuple[Show, tuple[int, int]]:
    """Show the whole photo with the crop in its place; also returns the video's (width, height) px."""
    margins = margins_of(recipe.preprocess)
    paste = PasteBack(identity.picture, identity.transform, recipe.model.size, margins, longest)
    if paste.enlarged > SOFT_FROM:
        console.warn(
            f"the face is drawn in {recipe.model.size} px and enlarged {paste.enlarged:.1f} times: it will be softer "
            "than the photo around it (a smaller --size helps)"
        )
    return paste, paste.size


def scaled(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A frame uint8 [S, S, 3] in another size: by Lanczos up, by the mean over pixels down."""
    if picture.shape[0] == size:
        return picture
    way = cv2.INTER_LANCZOS4 if size > picture.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (size, size), interpolation=way), np.uint8)
