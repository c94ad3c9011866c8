"""Measures of a preprocessed clip, for its row of the manifest and for choosing what to train on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import lip_sound
from dheads_cli.data.align import has_face, mean_face_in_crop
from dheads_cli.data.head_pose import head_pose
from dheads_cli.data.mouth import mouth_opening

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks

SHARPNESS_PX, EVERY = 64, 5  # crops are looked at in this size, one in so many frames
SILENCE_DBFS, GATE_DB = -70.0, 10.0
FLOOR_SHARE, ABOVE_FLOOR_DB = 0.1, 6.0  # speech rises above its softest frames; noise and music with one level do not
CLIPPED_LEVEL = 0.99  # of full scale


def measure_clip(
    landmarks: Landmarks,
    crops: Frames,
    crop_landmarks: Landmarks,
    waveform: NDArray[np.float32],
    sample_rate: int,
    margins: tuple[float, float, float],
) -> dict[str, float]:
    """All measures of a clip by name, finite and rounded.

    face_height_px          median height from brows to chin in the source
    sharpness               see sharpness
    yaw_deg, pitch_deg, roll_deg    mean turn of the head, see head_pose
    yaw_range_deg ...       how much it turns: 5th to 95th percentile
    speech_dbfs             level of the sound where there is some, see speech_level
    clipped_share           samples within 1 % of full scale, of all
    av_lag_frames           frames by which the lips are behind the sound, see lip_sound.estimate_lag
    av_lag_confidence       how clear that is

    Args:
        landmarks: [F, 68, 2] px of the source; frames with NaN are left out.
        crops: uint8 RGB [F, S, S, 3].
        crop_landmarks: [F, 68, 2] px of the crops, without NaN.
        waveform: the clip's sound [T].
        sample_rate: Hz.
        margins: of the crops, see align.mean_face_in_crop.
    """
    seen = landmarks[has_face(landmarks)]
    measures = {
        "face_height_px": round(float(np.median(np.ptp(seen[..., 1], axis=1))), 1),
        "sharpness": round(sharpness(crops, margins), 4),
        "speech_dbfs": round(speech_level(waveform, len(crops)), 1),
        "clipped_share": round(float(np.mean(np.abs(waveform) >= CLIPPED_LEVEL)), 5),
    }
    low, high = np.percentile(angles := head_pose(seen), [5, 95], axis=0)
    for index, name in enumerate(("yaw", "pitch", "roll")):
        measures[f"{name}_deg"] = round(float(angles[:, index].mean()), 1) + 0.0  # no -0.0
        measures[f"{name}_range_deg"] = round(float(high[index] - low[index]), 1)
    loud = lip_sound.loudness(waveform, len(crops), sample_rate)
    lag, confidence = lip_sound.estimate_lag(mouth_opening(crop_landmarks), loud)
    return {**measures, "av_lag_frames": float(lag), "av_lag_confidence": round(confidence, 3)}


def sharpness(crops: Frames, margins: tuple[float, float, float]) -> float:
    """Fine detail of the face as a share of all its contrast, median over frames, in 0 ... 1.

    The mean face's box of each crop, shrunk to 64 px crops, in gray: standard deviation of what a reduction to half
    and back loses, over that of the whole. Crops are shrunk to one size and contrast is divided out, so neither a
    clip's light nor the size of its crops weighs. 0.2 to 0.35 for the sharp faces of GRID,
    0.14 for one enlarged from half of those 64 px, 0.06 for one that is out of focus (blurred by 2 of 64 px).
    """
    size = min(SHARPNESS_PX, crops.shape[1])
    face = mean_face_in_crop(size, margins)
    (left, top), (right, bottom) = (np.round(corner).astype(int) for corner in (face.min(axis=0), face.max(axis=0)))
    face_box = slice(max(top, 0), bottom), slice(max(left, 0), right)
    shares = []
    for crop in crops[::EVERY]:
        gray = cv2.cvtColor(cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
        gray = gray.astype(np.float32)
        half = cv2.resize(gray, (size // 2, size // 2), interpolation=cv2.INTER_AREA)
        lost = gray - cv2.resize(half, (size, size), interpolation=cv2.INTER_LINEAR)
        shares.append(lost[face_box].std() / max(gray[face_box].std(), 1e-6))
    return float(np.median(shares))


def speech_level(waveform: NDArray[np.float32], n_frames: int) -> float:
    """RMS of sound [T] in its loud frames, dB below full scale: of frames above -70 dB those that are not 10 dB below
    the mean of them all, as the gates of ITU-R BS.1770 have it (without its weighting of frequencies)."""
    return level_of([power_of(piece) for piece in np.array_split(waveform, n_frames)])


def power_of(piece: NDArray[np.float32]) -> float:
    """Mean square of a frame's sound [T]."""
    return float(np.mean(piece.astype(np.float64) ** 2))


def level_of(powers: Sequence[float]) -> float:
    """speech_level of sound whose frames have these powers."""
    power = np.array(powers)
    heard = power[power > 10 ** (SILENCE_DBFS / 10)]
    if not len(heard):
        return SILENCE_DBFS
    return float(10 * np.log10(heard[heard > heard.mean() * 10 ** (-GATE_DB / 10)].mean()))


def spoken_frames(powers: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which frames of a sound are loud speech: bool [F] from each frame's power [F].

    They are those that level_of counts, as far as they are 6 dB above the softest tenth of all frames.
    """
    heard = powers > 10 ** (SILENCE_DBFS / 10)
    if not heard.any():
        return heard
    floor = np.quantile(powers, FLOOR_SHARE) * 10 ** (ABOVE_FLOOR_DB / 10)
    return np.asarray(heard & (powers > max(powers[heard].mean() * 10 ** (-GATE_DB / 10), floor)))
