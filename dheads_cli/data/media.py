"""Pictures, sound and video in and out of files: the readers, the writer, and stored clips both ways.

With the files it gathers (media_file, photo, video_reader, sound_reader, encoder, video_writer), lossless and codecs it
is all that reads and writes with PyAV.
"""

from __future__ import annotations

import io

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dheads_cli.data.encoder import FlacEncoder, Sound, add_h264, mux_frames
from dheads_cli.data.photo import is_film, read_image
from dheads_cli.data.sound_reader import fit_length, mono_of, read_audio, stated_seconds, stream_audio
from dheads_cli.data.video_reader import VideoClip, frames_to_look_at, read_frame, read_video, source_fps_of
from dheads_cli.data.video_writer import VIDEO_SUFFIXES, VideoStream, VideoWriter, check_target

__all__ = [
    "VIDEO_SUFFIXES",
    "Sound",
    "VideoClip",
    "VideoStream",
    "VideoWriter",
    "check_target",
    "decode_clip_mp4",
    "decode_flac",
    "encode_clip_mp4",
    "encode_flac",
    "fit_length",
    "frames_to_look_at",
    "is_film",
    "read_audio",
    "read_frame",
    "read_image",
    "read_video",
    "source_fps_of",
    "stated_seconds",
    "stream_audio",
]

CLIP_CRF = 8  # of stored crops: mean error 1.7 of 255, of which 1 is the rounding to YUV


def encode_clip_mp4(frames: NDArray[np.uint8], fps: float) -> bytes:
    """Encode crops, uint8 RGB [F, H, W, 3], nearly losslessly (H.264, yuv444p); the same frames give the same bytes."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = add_h264(container, fps, (frames.shape[2], frames.shape[1]), CLIP_CRF, "yuv444p", preset="veryfast")
        mux_frames(container, stream, frames)
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
    buffer = io.BytesIO()
    encoder = FlacEncoder(buffer, sample_rate)
    encoder.write(wave)
    encoder.finish()
    return buffer.getvalue()


def decode_flac(data: bytes) -> NDArray[np.float32]:
    """Inverse of encode_flac: float32 [T]."""
    with av.open(io.BytesIO(data), mode="r") as container:
        return np.concatenate([mono_of(frame) for frame in container.decode(audio=0)])
