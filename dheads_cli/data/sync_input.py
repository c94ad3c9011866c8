"""What a network that hears whether lips and sound are in step is given: small gray mouths, and log-mel spectra.

Both are on one clock of 25 frames and 100 spectra a second: frame k lasts as long as spectra 4 k ... 4 k + 3.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchaudio import functional as audio
from torchaudio.transforms import MelSpectrogram

from dheads_cli.data.mouth import LEFT_EYE, RIGHT_EYE

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks

FPS, SAMPLE_RATE = 25, 16000
SPECTRA_PER_FRAME, HOP, WINDOW, N_FFT, N_MELS = 4, 160, 400, 512, 40  # samples: 10 ms and 25 ms
FLOOR_DB = 80.0  # below the clip's loudest value; what is fainter is no speech
SPREAD_DB = 15.0  # about the standard deviation of speech
CROP_PX = 56  # side of the crop that is kept; a network sees MOUTH_PX of it, anywhere in training
MOUTH_PX = 48
CROP_WIDTHS = 1.4  # side of the crop, distances between the eyes' centres
MOUTH = slice(48, 68)


def mouth_crops(frames: Frames, landmarks: Landmarks) -> NDArray[np.uint8] | None:
    """The mouth in each frame of a clip, from one place: that of the mean landmarks.

    One place for all frames needs no landmarks of the clip itself: those of the real clip that it stands for will do,
    as faces are aligned.

    Args:
        frames: uint8 RGB [F, H, W, 3].
        landmarks: [F', 68, 2] px in them, NaN where there is no face.

    Returns:
        uint8 [F, CROP_PX, CROP_PX] gray; None where no frame has a face. Beyond the frame its edge is repeated.
    """
    seen = np.isfinite(landmarks).all(axis=(1, 2))
    if not seen.any():
        return None
    mean = landmarks[seen].astype(np.float64).mean(axis=0)
    left, right = (mean[eye].mean(axis=0) for eye in (LEFT_EYE, RIGHT_EYE))
    centre, side = mean[MOUTH].mean(axis=0), CROP_WIDTHS * float(np.linalg.norm(right - left))
    if side < 1:
        return None
    scale = CROP_PX / side
    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    if scale < 1:  # the mean over what becomes one pixel
        size = tuple(max(1, round(length * scale)) for length in frames.shape[2:0:-1])
        grays = [cv2.resize(gray, size, interpolation=cv2.INTER_AREA) for gray in grays]
        x_y = np.array(size) / frames.shape[2:0:-1]
    else:
        x_y = np.ones(2)
    across, down = scale / x_y  # px of the crop for one of what is cut from; pixel centres lie at whole numbers
    at = (centre + 0.5) * x_y - 0.5
    middle = (CROP_PX - 1) / 2
    place = np.array([[across, 0, middle - across * at[0]], [0, down, middle - down * at[1]]])
    crops = [
        cv2.warpAffine(gray, place, (CROP_PX, CROP_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        for gray in grays
    ]
    return np.stack(crops).astype(np.uint8)


def middles(crops: NDArray[np.uint8]) -> Tensor:
    """What a network is shown of crops [F, CROP_PX, CROP_PX]: their middles, float32 [F, MOUTH_PX, MOUTH_PX]."""
    edge = (CROP_PX - MOUTH_PX) // 2
    return scaled(torch.from_numpy(crops[:, edge : edge + MOUTH_PX, edge : edge + MOUTH_PX].astype(np.float32)))


def scaled(mouths: Tensor) -> Tensor:
    """Gray values 0 ... 255 [..., F, H, W] to mean 0 and deviation 1 over a clip: no lamp, no skin."""
    mean = mouths.mean(dim=(-3, -2, -1), keepdim=True)
    deviation = mouths.std(dim=(-3, -2, -1), keepdim=True, correction=0)
    return (mouths - mean) / (deviation + 1)


def at_25_fps(n_frames: int, fps: float) -> NDArray[np.int64]:
    """Which frame of a clip is shown at the middle of each frame of 25 a second, [F']; the frame itself at 25 fps."""
    n_shown = max(1, int(n_frames * FPS / fps + 1e-6))
    return np.minimum(((np.arange(n_shown) + 0.5) * fps / FPS).astype(np.int64), n_frames - 1)


def resampled(waveform: NDArray[np.float32], sample_rate: int) -> Tensor:
    """A waveform [T] at SAMPLE_RATE."""
    wave = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
    return wave if sample_rate == SAMPLE_RATE else audio.resample(wave, sample_rate, SAMPLE_RATE)


def log_mel(waveform: Tensor, n_frames: int) -> Tensor:
    """Log-mel spectra of sound that spans n_frames frames (cut, or silence after it, where it doesn't).

    Spectrum j is of the 25 ms about the middle of its own 10 ms. Each band is less its mean over the clip, which takes
    away the microphone and the level.

    Args:
        waveform: float32 [T], 16 kHz.
        n_frames: F, at 25 a second.

    Returns:
        float32 [N_MELS, 4 F], of deviation near 1.
    """
    n_samples, edge = n_frames * SPECTRA_PER_FRAME * HOP, (N_FFT - HOP) // 2
    wave = torch.nn.functional.pad(waveform[:n_samples], (edge, edge + max(0, n_samples - len(waveform))))
    level = 10 * torch.log10(_mel()(wave).clamp(min=1e-10))
    level = torch.maximum(level, level.max() - FLOOR_DB)
    return (level - level.mean(dim=1, keepdim=True)) / SPREAD_DB


@cache
def _mel() -> MelSpectrogram:
    return MelSpectrogram(
        SAMPLE_RATE, n_fft=N_FFT, win_length=WINDOW, hop_length=HOP, f_min=60.0, f_max=7600.0, n_mels=N_MELS,
        center=False, pad=0,
    )  # fmt: skip
