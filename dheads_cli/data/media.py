"""Pictures, sound and video in and out of files: the readers, the writer, and stored clips both ways.

With the files it gathers (media_file, video_reader, sound_reader, video_writer) it is all that knows PyAV.
"""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dheads_cli.data.encoder import add_h264
from dheads_cli.data.sound_reader import fit_length, mono_of, read_audio
from dheads_cli.data.video_reader import VideoClip, read_video
from dheads_cli.data.video_writer import VIDEO_SUFFIXES, VideoStream, VideoWriter, check_target
from dheads_cli.errors import DheadsError

__all__ = [
    "VIDEO_SUFFIXES",
    "VideoClip",
    "VideoStream",
    "VideoWriter",
    "check_target",
    "decode_clip_mp4",
    "decode_flac",
    "encode_clip_mp4",
    "encode_flac",
    "fit_length",
    "read_audio",
    "read_image",
    "read_video",
]

CLIP_CRF = 8  # of stored crops: mean error 1.7 of 255, of which 1 is the rounding to YUV


def read_image(path: Path | str) -> NDArray[np.uint8]:
    """Read a picture as uint8 RGB [H, W, 3]: upright by its EXIF tag, transparency over white.

    Raises:
        DheadsError: there is no such file, it is no picture, or it is broken.
    """
    path = Path(path)
    if not path.is_file():
        raise DheadsError(f"{path}: no such picture.")
    try:
        with Image.open(path) as image:
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith("I"):  # 16 bits of gray
                gray = np.clip(np.asarray(upright, dtype=np.int64) // 257, 0, 255).astype(np.uint8)
                upright = Image.fromarray(gray)
            if upright.has_transparency_data:
                upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright.convert("RGBA"))
            return np.array(upright.convert("RGB"))
    except UnidentifiedImageError as error:
        raise DheadsError(f"{path} is not a picture that can be read: save it as JPEG or PNG.") from error
    except Image.DecompressionBombError as error:
        raise DheadsError(f"{path} is too large a picture: {error}. Scale it down.") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow raises for broken files, by format
        raise DheadsError(f"{path} is a broken picture ({error}): save it again, as JPEG or PNG.") from error


def encode_clip_mp4(frames: NDArray[np.uint8], fps: float) -> bytes:
    """Encode crops, uint8 RGB [F, H, W, 3], nearly losslessly (H.264, yuv444p); the same frames give the same bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = add_h264(container, fps, (frames.shape[2], frames.shape[1]), CLIP_CRF, "yuv444p", preset="veryfast")
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts = index
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_clip_mp4(data: bytes) -> NDArray[np.uint8]:
    """Inverse of encode_clip_mp4: uint8 RGB [F, H, W, 3]."""
    with av.open(io.BytesIO(data), mode="r") as container:
        container.streams.video[0].thread_type = "NONE"
        converter = VideoReformatter()  # one for all frames: its tables take as long as a small frame
        decoded = container.decode(video=0)
        return np.stack([converter.reformat(frame, format="rgb24").to_ndarray() for frame in decoded])


def encode_flac(wave: NDArray[np.float32], sample_rate: int) -> bytes:
    """Encode mono sound, float32 [T] in [-1, 1], as 16-bit FLAC."""
    samples = np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="flac") as container:
        stream: Any = container.add_stream("flac", rate=sample_rate, layout="mono", format="s16")
        frame = av.AudioFrame.from_ndarray(samples[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def decode_flac(data: bytes) -> NDArray[np.float32]:
    """Inverse of encode_flac: float32 [T]."""
    with av.open(io.BytesIO(data), mode="r") as container:
        return np.concatenate([mono_of(frame) for frame in container.decode(audio=0)])
