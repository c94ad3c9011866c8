"""The face that `dheads animate` makes speak: of a photo or the best frame of a film, and cropped for the model."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dheads_cli import console, registry
from dheads_cli.data import align, media, portrait
from dheads_cli.data.close_mouth import close_mouth
from dheads_cli.data.head_pose import head_pose
from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically
from dheads_cli.model.build import build_component
from dheads_cli.protocols import LandmarkDetector
from dheads_cli.recipe import Preprocess

MIN_FACE_PX = 32  # distance of the outermost landmarks below which a face is too small to mean anything
# A `min_confidence` at which 72 of 72 frames of nine GRID speakers are found, and with a mask over nose and mouth 16.
SURE = 0.9
TURNED_FIT = 0.7  # of the misfit of a face, below which it fits so much better turned that it must have lain
UNLIKE = 0.05  # unlikeness that weighs as one of fitness: a hand at the chin has 0.08, speech 0.03 at most
FINER = 4  # times the model's size in which a mouth is closed
LOOK_S, MAX_LOOKS = 60.0, 120  # a film is looked at for so long, in at most so many frames


@dataclass(frozen=True)
class Identity:
    """Who speaks.

    Attributes:
        picture: the photo, uint8 RGB [H, W, 3], upright.
        transform: similarity, picture px -> crop px, float64 [2, 3].
        crop: what the model gets, uint8 RGB [S, S, 3].
    """

    picture: NDArray[np.uint8]
    transform: NDArray[np.float64]
    crop: NDArray[np.uint8]


def read_identity(path: Path, settings: Preprocess, frame: int | None) -> NDArray[np.uint8]:
    """The picture of a photo, or of a film its best frame: frontal, sharp, eyes open, mouth closed.

    Args:
        path: photo or film.
        settings: of the model's faces.
        frame: which frame of a film, from 0, instead of the best.

    Raises:
        DheadsError: neither photo nor film, damaged, or no such frame.
    """
    if media.is_film(path):
        return media.read_frame(path, frame) if frame is not None else best_frame(path, settings)
    picture = media.read_image(path)
    if frame is not None:
        raise DheadsError(f"{path}: --frame {frame} is for films, and this is a picture.")
    return picture


def best_frame(path: Path, settings: Preprocess) -> NDArray[np.uint8]:
    """The frame of a film's first minute whose largest face suits best.

    That is its portrait.Portrait.fitness, less what sets it apart from the other frames: something passing before it.

    Raises:
        DheadsError: no face in any frame that was looked at.
    """
    detector: LandmarkDetector = build_component("landmark_detectors", settings.detector)
    numbers, fitness, crops, n_looks = [], [], [], 0
    for number, picture in media.frames_to_look_at(path, LOOK_S, MAX_LOOKS):
        n_looks += 1
        if faces := detector.all_faces(picture):
            numbers.append(number)
            fitness.append(portrait.measure(picture, faces[0], margins_of(settings)).fitness)
            crops.append(align.align_image(picture, faces[0], portrait.THUMBNAIL_PX, margins_of(settings))[0])
    if not numbers:
        raise DheadsError(f"{path}: no face in {n_looks} frames of its first minute; --frame N takes a certain one.")
    chosen = numbers[int(np.argmax(fitness - portrait.unlikeness(np.stack(crops)) / UNLIKE))]
    console.info(f"{path}: frame {chosen} suits best, of {n_looks} looked at (--frame N takes another)")
    return media.read_frame(path, chosen)


def find_face(
    picture: NDArray[np.uint8],
    path: Path,
    settings: Preprocess,
    size: int,
    face_index: int | None,
    *,
    closing: bool | str = False,
) -> Identity:
    """Crop the face of a picture as training clips were, and warn of what may spoil the video.

    Args:
        picture: uint8 RGB [H, W, 3].
        path: its file, for what is said.
        settings: of the model's faces.
        size: of the crop, px.
        face_index: which face, 1 is the largest; None takes the largest, and says so where there are several.
        closing: sample.close_mouth: close its mouth where that is open; "learned" leaves that to the model.

    Raises:
        DheadsError: no face, not that many, or one too small to use.
    """
    detector: LandmarkDetector = build_component("landmark_detectors", settings.detector)
    picture, faces = _faces(detector, picture, settings, path)
    if face_index is not None and not 1 <= face_index <= len(faces):
        raise DheadsError(f"{path}: --face {face_index}, but faces found: {len(faces)}; --face 1 is the largest.")
    if face_index is None and len(faces) > 1:
        console.warn(f"{path}: {len(faces)} faces found; the largest is taken (--face N takes another)")
    landmarks = faces[(face_index or 1) - 1]
    found = portrait.measure(picture, landmarks, margins_of(settings))
    if found.extent_px < MIN_FACE_PX:
        raise DheadsError(
            f"{path}: the face is only {found.extent_px:.0f} px large; take a photo where it has at least "
            f"{MIN_FACE_PX}."
        )
    if found.extent_px < size / 2:
        console.warn(f"{path}: the face is only {found.extent_px:.0f} px large; the video will be soft")
    crop, _, transform = align.align_image(picture, landmarks, size, margins_of(settings))
    closed = None
    if closing == "learned":
        found = replace(found, mouth=0.0)
    elif closing and found.mouth > portrait.MAX_MOUTH:
        closed = _closed(picture, landmarks, settings, size)
    if closed is not None:
        crop = closed
        console.info(
            f"{path}: its mouth, open by {found.mouth:.2f} of the eyes' distance, is closed first "
            "(--set sample.close_mouth=false leaves it)"
        )
        found = replace(found, mouth=0.0)
    for doubt in portrait.doubts(found):
        console.warn(f"{path}: {doubt}")
    if not _is_sure(settings, picture, landmarks):
        console.warn(f"{path}: the detector is less than {SURE:.0%} sure of the face; is it covered?")
    return Identity(picture, transform, crop)


def _closed(
    picture: NDArray[np.uint8], landmarks: NDArray[np.float32], settings: Preprocess, size: int
) -> NDArray[np.uint8] | None:
    """The crop [size, size, 3] with its mouth closed; None where that can't be."""
    fine, points, _ = align.align_image(picture, landmarks, FINER * size, margins_of(settings))
    closed = close_mouth(fine, points)
    if closed is fine:
        return None
    return np.asarray(cv2.resize(closed, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def write_crop(path: Path, identity: Identity) -> None:
    """Write what the model gets as PNG."""
    file = io.BytesIO()
    Image.fromarray(identity.crop).save(file, "PNG")
    write_atomically(path, file.getvalue())


def _faces(
    detector: LandmarkDetector, picture: NDArray[np.uint8], settings: Preprocess, path: Path
) -> tuple[NDArray[np.uint8], list[NDArray[np.float32]]]:
    """Faces of a picture, largest first, and the picture: turned by quarters, where the face lies or hangs in it.

    Upside down, detectors find a face in the wrong place rather than none; lying, they find it or not.
    """

    def look(turns: int) -> tuple[NDArray[np.uint8], list[NDArray[np.float32]]]:
        turned = np.ascontiguousarray(np.rot90(picture, -turns))
        return turned, detector.all_faces(turned)

    def misfit(turns: int) -> float:
        faces = looks[turns][1]
        return portrait.misfit(faces[0], margins_of(settings)) if faces else float("inf")

    looks = {0: look(0)}
    if misfit(0) > portrait.MAX_MISFIT:
        looks |= {turns: look(turns) for turns in (1, 2, 3)}
    turns = min(looks, key=misfit) if min(map(misfit, looks)) < TURNED_FIT * misfit(0) else 0
    if not looks[turns][1]:
        height, width = picture.shape[:2]
        raise DheadsError(
            f"{path}: no face found in this {width}x{height} picture; take one that shows a whole face from the front."
        )
    roll = head_pose(looks[turns][1][0][None])[0, 2]
    upright = (turns - round(roll / 90)) % 4
    if upright != turns and (again := look(upright))[1]:
        looks[upright], turns = again, upright
    if turns:
        console.warn(f"{path}: turned clockwise by {90 * turns} degrees, so that the face is upright")
    return looks[turns]


def _is_sure(settings: Preprocess, picture: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> bool:
    """Whether the face is also found where a detector that can be asked must be sure; True for any other."""
    chosen = settings.detector
    if "min_confidence" not in registry.signature_of(registry.load("landmark_detectors", chosen.use)):
        return True
    options = {**chosen.options, "min_confidence": SURE}
    faces = registry.build("landmark_detectors", chosen.use, options).all_faces(picture)
    near = np.ptp(landmarks, axis=0).max() / 2
    return any(float(np.linalg.norm(face.mean(axis=0) - landmarks.mean(axis=0))) < near for face in faces)


def margins_of(settings: Preprocess) -> tuple[float, float, float]:
    """Of a model's crops, see align.mean_face_in_crop."""
    return settings.margins
