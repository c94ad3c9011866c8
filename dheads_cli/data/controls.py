"""Controls: eye openness and head turn of a frame, measured from landmarks, as the network is given them.

The recipe's `model.controls` names those that a model has. A value that is not known, or is withheld, is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.eyes import eye_aspect_ratios
from dheads_cli.data.head_pose import head_pose

if TYPE_CHECKING:
    from dheads_cli.protocols import Landmarks

OPEN_PERCENTILE = 75  # of an eye's aspect ratio over the clip: the open eye, as in the metric `blinks`
MAX_OPENNESS = 1.5
SHUT = 0.3  # share of its usual aspect ratio that a detector finds of an eye that is shut (MediaPipe, GRID's blinks)
HEAD_UNIT = 30.0  # degrees that the network is given as 1


@dataclass(frozen=True)
class EyesAndHead:
    """What controls are made of, in each frame of a clip; NaN without a face.

    Attributes:
        eyes: openness of the eye on the picture's left and of that on its right [F, 2]: 0 closed, 1 as open as it
            usually is in this clip, at most MAX_OPENNESS.
        head: yaw, pitch and roll [F, 3], degrees; see head_pose.
    """

    eyes: NDArray[np.float32]
    head: NDArray[np.float32]

    @classmethod
    def of(cls, landmarks: Landmarks, shut: float = SHUT) -> EyesAndHead:
        """Measure them in the landmarks of a clip [F, 68, 2]; shut eyes have `shut` of their usual aspect ratio."""
        found = np.isfinite(landmarks).all(axis=(1, 2))
        ratios, head = np.full((len(landmarks), 2), np.nan), np.full((len(landmarks), 3), np.nan)
        if found.any():
            ratios[found], head[found] = eye_aspect_ratios(landmarks[found]), head_pose(landmarks[found])
        usual = np.full(2, np.nan)
        measured = np.isfinite(ratios).all(axis=1)
        if measured.any():
            usual = np.percentile(ratios[measured], OPEN_PERCENTILE, axis=0)
        share = ratios / np.where(usual > 0, usual, np.nan)
        openness = np.clip((share - shut) / (1 - shut), 0, MAX_OPENNESS)
        return cls(openness.astype(np.float32), head.astype(np.float32))


def controls_of(
    names: Sequence[str],
    clip: EyesAndHead,
    frame: int,
    identity_head: NDArray[np.float32],
    *,
    flipped: bool = False,
) -> list[NDArray[np.float32]]:
    """The values of each named control in a frame.

    Args:
        names: of the controls, keys of CONTROLS.
        clip: the clip.
        frame: its number.
        identity_head: yaw, pitch and roll of the identity frame [3], degrees, from which the head's turn is counted.
        flipped: the pictures are mirrored, left to right.
    """
    return [CONTROLS[name](clip, frame, identity_head, flipped) for name in names]


def _eyes(
    clip: EyesAndHead, frame: int, identity_head: NDArray[np.float32], flipped: bool
) -> NDArray[np.float32]:
    """Openness of the eyes on the picture's left and right [2]."""
    return clip.eyes[frame, ::-1] if flipped else clip.eyes[frame]


def _head(
    clip: EyesAndHead, frame: int, identity_head: NDArray[np.float32], flipped: bool
) -> NDArray[np.float32]:
    """Yaw, pitch and roll minus those of the identity frame, in HEAD_UNIT [3]."""
    turn = (clip.head[frame] - identity_head) / HEAD_UNIT
    mirrored: NDArray[np.float32] = turn * np.array([-1, 1, -1] if flipped else [1, 1, 1], np.float32)
    return mirrored


Control = Callable[[EyesAndHead, int, NDArray[np.float32], bool], NDArray[np.float32]]
CONTROLS: dict[str, Control] = {"eyes": _eyes, "head": _head}
