"""How much a head lives: its turning, the flow of the picture, and how much flickers where nobody speaks."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dheads_cli.data.align import has_face
from dheads_cli.data.head_pose import head_pose
from dheads_components.metrics.face_box import Box, mean_box, speaking_box
from dheads_components.metrics.optical_flow import FLOW_PX, flow_magnitudes

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Frames, Landmarks

MIN_FRAMES = 2


class Liveliness:
    """Motion of one clip by itself: read a row against the ground-truth row, which is what real heads do.

    head turn [deg]: root of the summed variances over time of yaw, pitch and roll (`data/head_pose.py`), from
        landmarks detected in the clip. Detection's own jitter is in it, in both rows alike. 0: the head is fixed.
    face flow [px]: mean magnitude of Farneback's optical flow from frame to frame within the face's box, at 128 px, in
        px a frame (`optical_flow.py`). 0: a still. OFM, over the whole picture, is in `smoothness`.
    flicker: mean absolute difference of successive frames, 0 ... 255, everywhere but in the box from under the nose
        to the bottom of the picture, as wide as the jaw: what speech does not move. As high as in real clips is
        right; higher is noise that changes from frame to frame.

    Boxes are those of the real clip's mean landmarks, for both clips.
    """

    weights = ""

    def __init__(self) -> None:
        self._clips: list[dict[str, float]] = []

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """Head turn, face flow and flicker of one clip; those that can't be measured are left out, with a note."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> dict[str, float]:
        """What can be measured of one clip."""
        face = mean_box(reference.landmarks, reference.frames.shape)
        speaking = speaking_box(reference.landmarks, reference.frames.shape)
        if face is None or speaking is None or len(clip.frames) < MIN_FRAMES:
            return {}
        values = {"face flow [px]": face_flow(clip.frames, face), "flicker": flicker(clip.frames, speaking)}
        turn = head_turn(clip.landmarks)
        return values if turn is None else {"head turn [deg]": turn, **values}

    def add(self, measured: dict[str, float]) -> dict[str, float | str]:
        """Take a clip's values in."""
        if not measured:
            return {"liveliness note": "no face in the real clip, or a single frame: left out of liveliness"}
        self._clips.append(measured)
        turns = "head turn [deg]" in measured
        note = {} if turns else {"liveliness note": "a face in fewer than 2 frames: left out of head turn"}
        return {**measured, **note}

    def compute(self) -> dict[str, float]:
        """Means over clips."""
        names = ("head turn [deg]", "face flow [px]", "flicker")
        known = {name: [clip[name] for clip in self._clips if name in clip] for name in names}
        return {name: float(np.mean(values)) for name, values in known.items() if values}


def head_turn(landmarks: Landmarks) -> float | None:
    """Root of the summed variances of yaw, pitch and roll, degrees; None with a face in fewer than two frames."""
    seen = landmarks[has_face(landmarks)]
    if len(seen) < MIN_FRAMES:
        return None
    return float(np.sqrt(head_pose(seen).var(axis=0).sum()))


def face_flow(frames: Frames, box: Box) -> float:
    """Mean magnitude of the optical flow between successive frames within a box, px a frame at FLOW_PX height."""
    scale = FLOW_PX / frames.shape[1]
    rows, columns = (slice(int(side.start * scale), int(np.ceil(side.stop * scale))) for side in box)
    return float(np.mean([float(magnitude[rows, columns].mean()) for magnitude in flow_magnitudes(frames)]))


def flicker(frames: Frames, without: Box) -> float:
    """Mean |x_k - x_{k-1}| of 0 ... 255 values, over the pixels outside a box, channels and frames."""
    outside = np.ones(frames.shape[1:3], dtype=bool)
    outside[without] = False
    differences = [
        float(np.abs(after[outside].astype(np.int16) - before[outside]).mean()) for before, after in pairwise(frames)
    ]
    return float(np.mean(differences))
