"""Landmarks that were found before, by any tool, in a file for each clip."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
from numpy.typing import NDArray

from dheads_cli.errors import DheadsError, UnusableClip

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks


class Precomputed:
    """A folder of landmark files; no frame is looked at.

    The clip "s1/bbaf2n" has the file FOLDER/s1/bbaf2n.npy: numbers [F, 68, 2], (x, y) in px of the source's frames as a
    player shows them (turned upright), from the upper left corner of the upper left pixel, in the order of the 68
    points; NaN in the frames without a face. F is the number of frames at preprocess.fps, which need not be the
    source's rate: frame k is the source's frame shown nearest to k / fps. A file that does not fit is never bent to
    fit: its clip is skipped, with the reason.

    Args:
        folder: where the files are; a relative path counts from the working directory.

    Raises:
        DheadsError: there is no such folder.
    """

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder).expanduser()
        if not self.folder.is_dir():
            raise DheadsError(f"{folder}: no such folder; it should hold CLIP.npy, landmarks [F, 68, 2], for each clip")

    def of_clip(self, clip_id: str, n_frames: int) -> Landmarks:
        """Landmarks of a clip, float32 [n_frames, 68, 2] px.

        Raises:
            UnusableClip: no file for it, or one that does not fit.
        """
        path = self.folder / f"{clip_id}.npy"
        if not path.is_file():
            raise UnusableClip("no landmarks", f"{path}: no such file")
        try:
            stored = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, OSError) as error:
            raise UnusableClip("wrong landmarks", f"{path}: no array of numbers ({error})") from error
        if not isinstance(stored, np.ndarray) or stored.dtype.kind not in "fiu" or stored.shape[1:] != (68, 2):
            what = f"{stored.dtype} {list(stored.shape)}" if isinstance(stored, np.ndarray) else "an archive"
            raise UnusableClip("wrong landmarks", f"{path}: must be numbers [{n_frames}, 68, 2], not {what}")
        if len(stored) != n_frames:
            raise UnusableClip(
                "wrong landmarks",
                f"{path}: holds {len(stored)} frames, but the clip has {n_frames} at the frame rate of the recipe "
                "(preprocess.fps)",
            )
        landmarks = stored.astype(np.float32)
        missing = np.isnan(landmarks).any(axis=(1, 2))
        if not np.isfinite(landmarks[~missing]).all():
            raise UnusableClip("wrong landmarks", f"{path}: infinite coordinates")
        landmarks[missing] = np.nan
        return landmarks

    def __call__(self, frames: Frames) -> Landmarks:
        """Not possible: frames do not say which clip they are of."""
        self._refuse()

    def all_faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """Not possible either."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise DheadsError(
            f"the landmark detector 'precomputed' knows the clips of {self.folder} alone and finds no face in a "
            "picture: choose another one here, such as mediapipe"
        )
