"""Whether a video fails while it is drawn: a picture that breaks up ends it, a mouth that hardly moves is warned of."""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.mouth import MIN_FRAMES, mouth_opening
from dheads_cli.data.quality import spoken_frames
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_component
from dheads_cli.protocols import LandmarkDetector
from dheads_cli.recipe_section import Component
from dheads_cli.run.recording import Recording

GRID = 16  # blocks along each side in which pictures are compared: 8 px of a 128 px frame
LOWER_FACE = (0.5, 0.15, 0.85)  # top, left, right as shares of an aligned crop, down to its lower edge: it moves
WORST_SHARE = 0.05  # of the blocks: a picture breaks up in places
WINDOW_S = 0.5  # over which the strayed levels are averaged
# The highest values measured (docs/MEDIA.md has the table). `small` on 19 frontal photos: 1.8. Real GRID speakers from
# the first frame of their own clip: 4.7 for 16 clips, 11.5 for the two of s5, who moves most. Vermeer's Girl with a
# Pearl Earring once it has broken up into coloured blocks: 30 to 45.
# So the default of sample.max_stray is 20.

EVERY, MAX_LOOKS = 3, 200  # the mouth is looked at in one frame of three, and at most so often in a video
NEAR_S = 0.2  # before and after loud frames that belong to the speech
MIN_SPEECH_S = 0.5  # loud frames, together, that a mouth must move for
# Interocular distances. `small` on 19 frontal photos: 0.006 to 0.018 for six mouths that look shut, 0.034 to 0.084 for
# the other 13. 23 real speakers: 0.037 to 0.118.
MIN_OPENING_SD = 0.02


class BrokenUp(DheadsError):
    """The picture has broken up: going on would not mend it."""


class PictureCheck:
    """Measure how far drawn frames stray from the face they are drawn from, outside the lower face.

    A block strays by as many grey levels as its colour lies outside the range of the blocks around it in the identity
    frame, mean over RGB. So blinks, and heads that move by less than a block, hardly count; colours that were
    not there do. A frame strays by the mean of its worst 5 % of blocks, the picture by the mean over half a second.

    Args:
        crop: identity frame, uint8 RGB [S, S, 3].
        fps: frames a second.
        max_stray: sample.max_stray: the picture has broken up beyond it; None: never.

    Attributes:
        stray: the highest mean over half a second so far, grey levels 0 ... 255.
    """

    def __init__(self, crop: NDArray[np.uint8], fps: float, max_stray: float | None) -> None:
        self._max_stray = max_stray
        around = np.ones((3, 3), np.uint8)
        blocks = _blocks(crop)
        self._low, self._high = cv2.erode(blocks, around), cv2.dilate(blocks, around)
        y, x = np.mgrid[:GRID, :GRID] / GRID + 0.5 / GRID
        top, left, right = LOWER_FACE
        self._outside = ~((y > top) & (x > left) & (x < right))
        self._n_worst = max(1, round(WORST_SHARE * int(self._outside.sum())))
        self._fps, self._n_frames, self.stray = fps, 0, 0.0
        self._newest: deque[float] = deque(maxlen=max(1, round(WINDOW_S * fps)))

    def see(self, drawn: NDArray[np.uint8]) -> None:
        """Measure the next frame, uint8 RGB [S, S, 3].

        Raises:
            BrokenUp: the picture has strayed too far.
        """
        blocks = _blocks(drawn)
        beyond = np.maximum(np.maximum(blocks - self._high, self._low - blocks), 0).mean(axis=2)[self._outside]
        self._newest.append(float(np.partition(beyond, -self._n_worst)[-self._n_worst :].mean()))
        self._n_frames += 1
        stray = sum(self._newest) / (self._newest.maxlen or 1)
        self.stray = max(self.stray, stray)
        if self._max_stray is not None and stray > self._max_stray:
            second = (self._n_frames - len(self._newest)) / self._fps
            raise BrokenUp(
                f"the picture breaks up from second {second:.1f} on: parts of it are {stray:.0f} of 255 levels from "
                f"the photo's colours (limit {self._max_stray:g}). Take another photo: a face from the front, upright, "
                "with a closed mouth; or --set sample.max_stray=null."
            )


class MouthCheck:
    """Measure how much the mouth opens and closes during speech.

    Frames are looked at one by one, so the result does not depend on how far apart they are.

    Args:
        detector: component that finds the landmarks.
        recording: the speech.
    """

    def __init__(self, detector: Component, recording: Recording) -> None:
        self._detector = detector
        loud = spoken_frames(recording.powers)
        reach = round(NEAR_S * recording.fps)
        near = np.convolve(loud, np.ones(2 * reach + 1), "same") > 0
        wanted = np.flatnonzero(near) if loud.sum() >= MIN_SPEECH_S * recording.fps else np.zeros(0, int)
        self._wanted = set(wanted[:: max(EVERY, -(-len(wanted) // MAX_LOOKS))].tolist())
        self._n_frames, self._openings = 0, list[float]()

    def wants(self, number: int) -> bool:
        """Whether the frame of this number is looked at."""
        return number in self._wanted

    @cached_property
    def _find(self) -> LandmarkDetector:
        found: LandmarkDetector = build_component("landmark_detectors", self._detector)
        return found

    def see(self, drawn: NDArray[np.uint8]) -> None:
        """Look at the next frame, uint8 RGB [S, S, 3], where it is one that is wanted."""
        if self.wants(self._n_frames) and (faces := self._find.all_faces(drawn)):
            self._openings.append(float(mouth_opening(faces[0][None])[0]))
        self._n_frames += 1

    @property
    def opening_sd(self) -> float | None:
        """Standard deviation of the opening, interocular distances; None without speech, or where no face is seen."""
        return float(np.std(self._openings)) if len(self._openings) >= MIN_FRAMES else None


class Checks:
    """Both checks of one video.

    Args:
        crop: identity frame, uint8 RGB [S, S, 3].
        recording: the speech.
        detector: component that finds landmarks in drawn frames.
        max_stray: see PictureCheck.
    """

    def __init__(
        self, crop: NDArray[np.uint8], recording: Recording, detector: Component, max_stray: float | None
    ) -> None:
        self._picture = PictureCheck(crop, recording.fps, max_stray)
        self._mouth = MouthCheck(detector, recording)

    def see(self, drawn: NDArray[np.uint8]) -> None:
        """Measure the next frame, uint8 RGB [S, S, 3]. Raises BrokenUp."""
        self._picture.see(drawn)
        self._mouth.see(drawn)

    @property
    def facts(self) -> dict[str, Any]:
        """What was measured, for --json; see PictureCheck.stray and MouthCheck.opening_sd."""
        opening = self._mouth.opening_sd
        return {
            "stray": round(self._picture.stray, 2),
            "mouth_opening_sd": None if opening is None else round(opening, 4),
            "mouth_is_still": opening is not None and opening < MIN_OPENING_SD,
        }

    @property
    def doubts(self) -> list[str]:
        """Why the whole video may be poor, a sentence each."""
        if not self.facts["mouth_is_still"]:
            return []
        return [
            f"the mouth hardly moves during the speech: its opening varies by {self._mouth.opening_sd:.3f} of the "
            f"eyes' distance (speaking mouths: from {MIN_OPENING_SD}). Another photo may speak better: a sharp face "
            "from the front, upright, with a closed mouth"
        ]


def _blocks(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean colours of a picture's blocks, float32 [GRID, GRID, 3]."""
    return np.asarray(cv2.resize(picture, (GRID, GRID), interpolation=cv2.INTER_AREA), np.float32)
