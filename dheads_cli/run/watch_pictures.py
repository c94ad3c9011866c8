"""Pictures of clips drawn while training: a grid, a video with sound, and the moving picture that TensorBoard shows.

Clips are equally long, and so are those drawn of them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from dheads_cli.data.media import VideoWriter
from dheads_cli.data.stored_clip import StoredClip

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames

GRID_CLIPS, GRID_FRAMES, GRID_EVERY = 4, 32, 4  # clips in a grid, frames of each it spans, every which it shows
GIF_CLIPS = 2  # clips in the moving picture, side by side
VIDEO_PX = 256  # least height of the video


def grid_png(clips: Sequence[StoredClip], drawn: Sequence[Frames]) -> bytes:
    """Two rows for each of the first clips: real frames, and below them those drawn from the same sound."""
    rows = []
    for clip, frames in list(zip(clips, drawn, strict=True))[:GRID_CLIPS]:
        rows += [np.hstack(list(each[:GRID_FRAMES:GRID_EVERY])) for each in (clip.frames, frames)]
    file = io.BytesIO()
    Image.fromarray(np.vstack(rows)).save(file, "PNG")
    return file.getvalue()


def write_talking(
    path: Path, clips: Sequence[StoredClip], drawn: Sequence[Frames], tags: Mapping[str, str]
) -> None:
    """One clip after another with its sound as a video, the real one on the left, the drawn one on the right.

    `tags` are the file's title and comment.
    """
    height = clips[0].frames.shape[1]
    scale = -(-VIDEO_PX // height)
    size, sound = (2 * scale * height, scale * height), np.concatenate([clip.waveform for clip in clips])
    fps, rate = clips[0].fps, clips[0].sample_rate
    with VideoWriter(path, fps, size, sound, rate, metadata=tags, overwrite=True) as writer:
        for clip, frames in zip(clips, drawn, strict=True):
            for real, made in zip(clip.frames, frames, strict=True):
                writer.write(np.hstack([real, made]).repeat(scale, axis=0).repeat(scale, axis=1))


def talking_gif(clips: Sequence[StoredClip], drawn: Sequence[Frames]) -> bytes:
    """The first clips side by side, the real ones above the drawn ones, as a GIF that never ends."""
    shown = list(zip(clips, drawn, strict=True))[:GIF_CLIPS]
    pictures = [
        Image.fromarray(np.vstack([
            np.hstack([clip.frames[k] for clip, _ in shown]), np.hstack([frames[k] for _, frames in shown])
        ]))
        for k in range(len(clips[0].frames))
    ]  # fmt: skip
    # One palette for all, of frames from the beginning to the end: with one for each, what stands still flickers.
    some = np.hstack([np.asarray(picture) for picture in pictures[:: max(len(pictures) // 4, 1)]])
    palette = Image.fromarray(some).quantize(256)
    first, *rest = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=round(1000 / clips[0].fps), loop=0)
    return file.getvalue()
