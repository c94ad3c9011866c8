"""One preprocessed clip, and its bytes as a sample of a shard: both ways."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import media

EXTENSIONS = ("mp4", "flac", "landmarks.npy", "json", "photo.png")  # members of a sample, in this order


@dataclass(frozen=True)
class StoredClip:
    """One preprocessed clip; T = round(F / fps * sample_rate)."""

    id: str
    speaker: str
    split: str
    frames: NDArray[np.uint8]  # [F, H, W, 3] RGB
    waveform: NDArray[np.float32]  # [T] in [-1, 1]
    landmarks: NDArray[np.float32]  # [F, 68, 2] (x, y) px of the crop
    fps: float
    sample_rate: int
    info: dict[str, Any]  # the whole <key>.json
    photo: NDArray[np.uint8] | None = None  # [H, W, 3] RGB: a photo of the speaker, aligned as the frames are


def first_identity(clip: StoredClip) -> NDArray[np.uint8]:
    """The identity frame to draw a clip from: its photo, where it has one, else its first frame."""
    return clip.frames[0] if clip.photo is None else clip.photo


def encode_sample(clip: StoredClip) -> dict[str, bytes]:
    """The bytes of a clip's members, by extension; there is no photo.png where the clip has no photo."""
    landmarks = io.BytesIO()
    np.save(landmarks, clip.landmarks.astype(np.float16))
    info = {
        "id": clip.id,
        "speaker": clip.speaker,
        "split": clip.split,
        "n_frames": len(clip.frames),
        "fps": clip.fps,
        "sample_rate": clip.sample_rate,
        **clip.info,
    }
    members = (
        media.encode_clip_mp4(clip.frames, clip.fps),
        media.encode_flac(clip.waveform, clip.sample_rate),
        landmarks.getvalue(),
        json.dumps(info, ensure_ascii=False).encode(),
    )
    encoded = dict(zip(EXTENSIONS, members, strict=False))
    if clip.photo is not None:
        encoded["photo.png"] = cv2.imencode(".png", clip.photo[..., ::-1])[1].tobytes()
    return encoded


def decode_sample(members: dict[str, bytes]) -> StoredClip:
    """Inverse of encode_sample."""
    info = json.loads(members["json"])
    return StoredClip(
        id=info["id"],
        speaker=info["speaker"],
        split=info["split"],
        frames=media.decode_clip_mp4(members["mp4"]),
        waveform=media.decode_flac(members["flac"]),
        landmarks=np.load(io.BytesIO(members["landmarks.npy"])).astype(np.float32),
        fps=float(info["fps"]),
        sample_rate=int(info["sample_rate"]),
        info=info,
        photo=_decode_png(members["photo.png"]) if "photo.png" in members else None,
    )


def _decode_png(data: bytes) -> NDArray[np.uint8]:
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None  # the checksum of the member was checked
    return np.asarray(decoded[..., ::-1], np.uint8)
