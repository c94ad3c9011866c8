"""What every landmark detector must do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dheads_cli.errors import UnusableClip
from dheads_cli.protocols import ClipLandmarks

FACE = Path(__file__).parents[1] / "run" / "doctor_face.jpg"


def _is_landmarks(found: Any, shape: tuple[int, ...]) -> Iterator[str]:
    if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.shape != shape:
        what = f"{found.dtype} {found.shape}" if isinstance(found, np.ndarray) else type(found).__name__
        yield f"landmarks must be float32 {shape}, not {what}"


def detector_sees_no_face_where_there_is_none(detector: Any) -> Iterator[str]:
    """Frames without a face, blank or noise and of any shape, give NaN, and an image without one an empty list."""
    if isinstance(detector, ClipLandmarks):
        return
    noise = np.random.default_rng(0).integers(0, 255, (2, 72, 96, 3), dtype=np.uint8)
    for name, frames in (("blank", np.zeros((3, 96, 96, 3), np.uint8)), ("noise", noise)):
        before = frames.copy()
        found = detector(frames)
        if wrong := list(_is_landmarks(found, (len(frames), 68, 2))):
            yield from wrong
        elif not np.isnan(found).all():
            yield f"{name} frames must give NaN, for there is no face in them"
        if not np.array_equal(frames, before):
            yield "it changes the frames it is given"
        if list(detector.all_faces(frames[0])) != []:
            yield f"all_faces of a {name} image must be an empty list"


def detector_finds_a_face(detector: Any) -> Iterator[str]:
    """A portrait's landmarks lie on the face, in the 68-point order, whatever the frames' memory layout."""
    if isinstance(detector, ClipLandmarks):
        return
    portrait = np.asarray(Image.open(FACE).convert("RGB"), dtype=np.uint8)
    frames = np.stack([portrait, portrait])
    found, faces = detector(frames), detector.all_faces(portrait)
    if wrong := [*_is_landmarks(found, (2, 68, 2)), *(line for face in faces for line in _is_landmarks(face, (68, 2)))]:
        yield from wrong
        return
    if np.isnan(found).any() or not faces:
        yield "it finds no face in a portrait"
        return
    left_eye, right_eye, mouth = (found[0, part].mean(axis=0) for part in (slice(36, 42), slice(42, 48), slice(48, 68)))
    in_order = left_eye[0] < mouth[0] < right_eye[0] and max(left_eye[1], right_eye[1]) < mouth[1]
    if not in_order or found.min() < 0 or (found.max(axis=(0, 1)) > portrait.shape[1::-1]).any():
        yield "points 36-41, 42-47 and 48-67 of a portrait are not its left eye, right eye and mouth, in px"
    strided = np.repeat(frames, 2, axis=2)[:, :, ::2]
    if not np.array_equal(detector(strided), found):
        yield "frames that are not contiguous in memory give other landmarks"


def detector_looks_at_each_clip_anew(detector: Any) -> Iterator[str]:
    """A clip's landmarks do not depend on the clips before it, and an empty clip has none."""
    if isinstance(detector, ClipLandmarks):
        return
    portrait = np.asarray(Image.open(FACE).convert("RGB"), dtype=np.uint8)
    clip = np.stack([portrait, portrait])
    before = detector(clip)
    detector(clip[:, :, ::-1])
    if not np.array_equal(detector(clip), before, equal_nan=True):
        yield "called again with the same frames, after others, it gives other landmarks"
    yield from _is_landmarks(detector(clip[:0]), (0, 68, 2))


def detector_of_known_clips_says_which_it_lacks(detector: Any) -> Iterator[str]:
    """A detector that has each clip's landmarks already raises UnusableClip for a clip that it has not."""
    if not isinstance(detector, ClipLandmarks):
        return
    try:
        detector.of_clip("no such clip", 3)
    except UnusableClip:
        return
    yield "of_clip must raise UnusableClip for a clip without landmarks, and it returns"


TESTS = (
    detector_sees_no_face_where_there_is_none,
    detector_finds_a_face,
    detector_looks_at_each_clip_anew,
    detector_of_known_clips_says_which_it_lacks,
)
