"""Landmarks by Google's MediaPipe Face Landmarker, whose model ships beside this file (Apache-2.0)."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.files import sha256_of

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks

MODEL_FILE = Path(__file__).parent / "face_landmarker.task"

# Where each point of the 68-point order lies in MediaPipe's mesh of 478. Left and right are the picture's.
JAW = [162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389]  # 0-16
BROWS = [71, 63, 105, 66, 107, 336, 296, 334, 293, 301]  # 17-26
NOSE = [168, 197, 5, 4, 75, 97, 2, 326, 305]  # 27-35: ridge, then below it
EYES = [33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380]  # 36-47
OUTER_LIPS = [61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181]  # 48-59
INNER_LIPS = [78, 82, 13, 312, 308, 317, 14, 87]  # 60-67
MESH_POINTS = np.array([*JAW, *BROWS, *NOSE, *EYES, *OUTER_LIPS, *INNER_LIPS])

OBLONG = 1.5  # longer side over shorter from which a picture is looked at in squares too


class MediaPipe:
    """Face Landmarker: 478 mesh points, of which 68 are kept; about 10 ms a frame on one core.

    Args:
        upscale_to: frames with a shorter side below this many px are enlarged before detection.
        padding: where no face is found, frames are looked at again with a border of repeated edge pixels this wide,
            as a share of their longer side: faces that fill the frame are missed without it. 0 looks once only.
        min_confidence: lowest score of a face, in 0 ... 1.
        max_faces: most faces looked for.
    """

    def __init__(
        self, upscale_to: int = 256, padding: float = 0.25, min_confidence: float = 0.5, max_faces: int = 5
    ) -> None:
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence is {min_confidence}, not in 0 ... 1")
        if padding < 0 or max_faces < 1 or upscale_to < 1:
            raise ValueError("padding must be at least 0, max_faces and upscale_to at least 1")
        self.upscale_to = upscale_to
        self.padding = padding
        self.min_confidence = min_confidence
        self.max_faces = max_faces

    @property
    def weights(self) -> str:
        """Network, file and checksum, for whoever reports values measured with it."""
        return f"Face Landmarker, {MODEL_FILE.name} sha256 {sha256_of(MODEL_FILE)[:12]}"

    def __call__(self, frames: Frames) -> Landmarks:
        """Follow one face through a clip: the largest of the first frame with a face.

        Args:
            frames: uint8 RGB [F, H, W, 3].

        Returns:
            float32 [F, 68, 2] px (x, y), NaN where no face is found.
        """
        landmarks = self._follow(frames, padding=0.0)
        missed = np.isnan(landmarks[:, 0, 0])
        if self.padding and missed.any():
            landmarks[missed] = self._follow(frames, self.padding)[missed]
        return landmarks

    def all_faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """uint8 RGB [H, W, 3] -> float32 [68, 2] px for each face, the largest first; empty where there is none.

        The search sees the whole picture in 128 x 128 px, in which a wide picture's small faces are lost: such a
        picture is also looked at in squares.
        """
        faces = self._faces_of(image, padding=0.0)
        for top, left in squares(*image.shape[:2]):
            side = min(image.shape[:2])
            for face in self._faces_of(image[top : top + side, left : left + side], padding=0.0):
                moved = face + np.array([left, top], np.float32)
                if not any(_same_place(moved, other) for other in faces):
                    faces.append(moved)
        if not faces and self.padding:
            faces = self._faces_of(image, self.padding)
        return sorted(faces, key=_area, reverse=True)

    @property
    def triangles(self) -> NDArray[np.int64]:
        """Triangles of the mesh, int64 [852, 3]; mouth and eyes are holes."""
        from mediapipe.tasks.python import vision

        edges = vision.FaceLandmarksConnections.FACE_LANDMARKS_TESSELATION  # three follow one another in a triangle
        return np.array([edge.start for edge in edges], np.int64).reshape(-1, 3)

    def mesh(self, image: NDArray[np.uint8]) -> NDArray[np.float32] | None:
        """Find the mesh of the largest face of a picture, by itself: nothing is smoothed over frames.

        Args:
            image: uint8 RGB [H, W, 3].

        Returns:
            float32 [478, 3] (x right, y down, z away from the camera), px; None where there is no face.
        """
        enlarged, scale, border = _enlarge(image, self.upscale_to, 0.0)
        landmarker, as_image = _of_images(1, self.min_confidence)
        result = landmarker.detect(as_image(enlarged))
        if not result.face_landmarks:
            return None
        height, width = enlarged.shape[:2]
        points = np.array([(point.x, point.y, point.z) for point in result.face_landmarks[0]])
        return np.asarray((points * (width, height, width) - (border, border, 0)) / scale, np.float32)

    def landmarks_of(self, mesh: NDArray[np.floating[Any]]) -> Landmarks:
        """The 68 landmarks among the points of meshes: [..., 478, 3] -> float32 [..., 68, 2]."""
        return np.asarray(mesh[..., MESH_POINTS, :2], np.float32)

    def _faces_of(self, image: NDArray[np.uint8], padding: float) -> list[NDArray[np.float32]]:
        enlarged, scale, border = _enlarge(image, self.upscale_to, padding)
        landmarker, as_image = _of_images(self.max_faces, self.min_confidence)
        return _faces(landmarker.detect(as_image(enlarged)), enlarged.shape, scale, border)

    def _follow(self, frames: Frames, padding: float) -> Landmarks:
        landmarks = np.full((len(frames), 68, 2), np.nan, dtype=np.float32)
        if not len(frames):
            return landmarks
        # Looking for more faces than there are costs a search in every frame.
        n_faces = max(1, len(self._faces_of(frames[0], padding)))
        place: NDArray[np.float32] | None = None
        # A landmarker of its own for each clip: it follows faces from frame to frame, and a face of the clip before
        # would change what is found in this one.
        landmarker, as_image = _landmarker(n_faces, self.min_confidence, video=True)
        with landmarker:
            for index, frame in enumerate(frames):
                enlarged, scale, border = _enlarge(frame, self.upscale_to, padding)
                # Timestamps, in ms, only have to grow.
                result = landmarker.detect_for_video(as_image(enlarged), index * 40)
                faces = _faces(result, enlarged.shape, scale, border)
                if place is not None:
                    centre = place
                    faces.sort(key=lambda face: float(np.linalg.norm(face.mean(axis=0) - centre)))
                if faces:
                    landmarks[index] = faces[0]
                    place = faces[0].mean(axis=0)
        return landmarks


def squares(height: int, width: int) -> list[tuple[int, int]]:
    """Upper left corners (top, left) of squares that cover an oblong picture, overlapping by a fifth at least; none
    where it is nearly a square."""
    side, length = min(height, width), max(height, width)
    if length < OBLONG * side:
        return []
    count = math.ceil((length / side - 1) / 0.8) + 1
    starts = [round(number * (length - side) / (count - 1)) for number in range(count)]
    return [(0, start) if width > height else (start, 0) for start in starts]


def _same_place(a: NDArray[np.float32], b: NDArray[np.float32]) -> bool:
    """Whether two faces [68, 2] are one: nearer to each other than half the larger one's width."""
    apart = float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)))
    return apart < 0.5 * max(float(np.ptp(face[:, 0])) for face in (a, b))


def _landmarker(n_faces: int, min_confidence: float, *, video: bool) -> tuple[Any, Any]:
    """MediaPipe's landmarker, and what makes its kind of image of an array."""
    import mediapipe
    from mediapipe.tasks.python import BaseOptions, vision

    with _quiet():
        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=str(MODEL_FILE)),
            running_mode=vision.RunningMode.VIDEO if video else vision.RunningMode.IMAGE,
            num_faces=n_faces,
            min_face_detection_confidence=min_confidence,
            min_face_presence_confidence=min_confidence,
            min_tracking_confidence=min_confidence,
        )
        landmarker = vision.FaceLandmarker.create_from_options(options)
    return landmarker, lambda data: mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=data)


@cache
def _of_images(n_faces: int, min_confidence: float) -> tuple[Any, Any]:
    """The landmarker for single images: it remembers nothing from one to the next, and takes as long to make as to
    look at an image."""
    made = _landmarker(n_faces, min_confidence, video=False)
    # MediaPipe's finaliser prints an error when Python has ended its threads: with one more reference it never runs.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(made[0]))
    return made


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep MediaPipe's C++ start-up messages, which no setting turns off, from standard error."""
    sys.stderr.flush()
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _enlarge(frame: NDArray[np.uint8], upscale_to: int, padding: float) -> tuple[NDArray[np.uint8], float, int]:
    """Enlarge a small frame and repeat its edges; also returns the factor and the border in enlarged px."""
    scale = max(1.0, upscale_to / min(frame.shape[:2]))
    if scale > 1:
        size = (round(frame.shape[1] * scale), round(frame.shape[0] * scale))
        frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
    border = round(padding * max(frame.shape[:2]))
    if border:
        edges = (border, border, border, border)
        frame = np.asarray(cv2.copyMakeBorder(frame, *edges, cv2.BORDER_REPLICATE), dtype=np.uint8)
    # MediaPipe reads rows without looking at strides: a view with padded rows would be garbage to it.
    return np.ascontiguousarray(frame), scale, border


def _faces(result: Any, shape: tuple[int, ...], scale: float, border: int) -> list[NDArray[np.float32]]:
    """MediaPipe's result -> [68, 2] px of the original frame for each face, the largest bounding box first."""
    size = np.array([shape[1], shape[0]], dtype=np.float64)
    faces = []
    for face in result.face_landmarks:
        # MediaPipe's x and y are shares of the picture's width and height.
        points = np.array([(face[index].x, face[index].y) for index in MESH_POINTS]) * size
        faces.append(((points - border) / scale).astype(np.float32))
    return sorted(faces, key=_area, reverse=True)


def _area(face: NDArray[np.float32]) -> float:
    """Area of a face's bounding box, square px."""
    return float(np.prod(np.ptp(face, axis=0)))
