"""Video out of files: upright frames with square pixels at a constant rate."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dheads_cli.data.media_file import check_stream_length, frames_of, open_media, picture_stream
from dheads_cli.errors import DheadsError, UnusableClip

MAX_CLIP_BYTES = 4 << 30  # of decoded frames; more than that is a film, not a clip
FIRST_ROOM_BYTES = 1 << 28  # for frames, whatever length a file states
MAX_STILL_S = 1.0  # that a file may show one frame: a longer hole is no picture of who speaks
MAX_BACK_S = 0.2  # that a frame's stated time may lie before what the frames before it tell
LEAST_PIXEL_ASPECT = Fraction(1, 4)  # and its inverse; a pixel out of this is a damaged header's


@dataclass(frozen=True)
class VideoClip:
    """A decoded video.

    Attributes:
        frames: uint8 RGB [F, H, W, 3], upright, pixels square, contiguous.
        fps: constant frame rate of `frames`.
        source_fps: mean frame rate of the file.
        start: time of the first frame on the file's clock, s; the sound may begin earlier or later.
        sound_start: time of the first sample of the file's own sound, s; None where it has none.
    """

    frames: NDArray[np.uint8]
    fps: float
    source_fps: float
    start: float
    sound_start: float | None


@dataclass
class Timeline:
    """When a file shows its frames; filled while they are decoded, in the order of showing.

    Attributes:
        stream: of the frames.
        has_times: whether the file can state the frames' times; AVI can't, it only stores them one after another.
        times: of the frames, s on the file's clock.
        last_duration: of the last frame, s; 0 where the file does not say.
    """

    stream: Any
    has_times: bool
    times: list[float] = field(default_factory=list)
    last_duration: float = 0.0
    first_dts: int | None = None

    def __post_init__(self) -> None:
        self.tick_s = float(self.stream.time_base)

    def add(self, path: Path, frame: Any) -> None:
        """Append a frame's time.

        Raises:
            UnusableClip: it does not follow from the times before.
        """
        duration = frame.duration * self.tick_s if frame.duration else 0.0
        expected = self.times[-1] + (duration or self._nominal_s()) if self.times else 0.0
        time = self._stated(frame)
        if time is None:
            time = expected
        elif self.times and time <= self.times[-1]:
            # MPEG files state the times of some frames only, and FFmpeg's guesses between them go to and fro a little.
            if time < expected - MAX_BACK_S:
                raise UnusableClip("damaged", f"{path}: the time of frame {len(self.times)} runs backwards")
            time = expected
        elif self.times and time > self.times[-1] + MAX_STILL_S:
            raise UnusableClip("damaged", f"{path}: it has no picture from {self.times[-1]:.2f} to {time:.2f} s")
        self.times.append(time)
        self.last_duration = min(duration, MAX_STILL_S)

    def _stated(self, frame: Any) -> float | None:
        """The time that the file states for a frame, s; None where it states none.

        Where the file stores frames in the order of decoding without their times, a decoder gives one for each packet,
        some packets late: the first one belongs to the first packet.
        """
        if self.has_times:
            return None if frame.pts is None else float(frame.pts * self.tick_s)
        if frame.dts is None:
            return None
        self.first_dts = frame.dts if self.first_dts is None else self.first_dts
        return float((frame.dts - self.first_dts + (self.stream.start_time or 0)) * self.tick_s)

    def _nominal_s(self) -> float:
        """How long the file says that a frame is shown, s."""
        return float(1 / self.stream.guessed_rate) if self.stream.guessed_rate else 0.0

    def source_fps(self, default: float) -> float:
        """Mean frame rate; `default` for a single frame."""
        length = self.times[-1] - self.times[0]
        return (len(self.times) - 1) / length if length > 0 else default

    def end(self, default_fps: float) -> float:
        """When the last frame goes, s on the file's clock."""
        return self.times[-1] + (self.last_duration or 1 / self.source_fps(default_fps))


def read_video(path: Path | str, fps: float) -> VideoClip:
    """Decode a video at a constant frame rate; frame k is the one shown nearest to k / fps.

    Raises:
        UnusableClip: no picture in it, damaged, cut short, or too long for memory.
    """
    path = Path(path)
    with open_media(path) as container:
        stream = picture_stream(path, container)
        timeline = Timeline(stream, has_times=container.format.name != "avi")
        shown = _decode(path, container, stream, timeline)
        expected = round((container.duration or 0) / av.time_base * fps) + 2
        frames = _collect(path, _at_constant_rate(shown, timeline, fps), expected)
        check_stream_length(path, stream, timeline.end(fps))
        sound_start = _sound_start(container)
    return VideoClip(frames, float(fps), timeline.source_fps(fps), timeline.times[0], sound_start)


def source_fps_of(path: Path) -> float:
    """The mean frame rate that a video states; nothing is decoded.

    Raises:
        UnusableClip: it is no video, or states none.
    """
    with open_media(path) as container:
        stream = picture_stream(path, container)
        rate = stream.average_rate or stream.guessed_rate
    if not rate:
        raise UnusableClip("damaged", f"{path} states no frame rate")
    return float(rate)


def read_frame(path: Path, number: int) -> NDArray[np.uint8]:
    """One frame of a video as the file has them, uint8 RGB [H, W, 3], counted from 0.

    Raises:
        UnusableClip: no picture in it, or damaged before that frame.
        DheadsError: it has fewer frames.
    """
    n_frames = 0
    for n_frames, picture in enumerate(_all_frames(path), start=1):
        if n_frames > number:
            return picture
    raise DheadsError(f"{path}: no frame {number}; it has {n_frames}, the first being 0.")


def frames_to_look_at(path: Path, seconds: float, most: int) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Frames at equal distances from a video's beginning, uint8 RGB [H, W, 3], with their numbers from 0.

    Args:
        path: the video.
        seconds: of it that frames are taken from.
        most: frames.

    Raises:
        UnusableClip: no picture in it, or damaged before that.
    """
    with open_media(path) as container:
        stream = picture_stream(path, container)
        rate = min(float(stream.average_rate or stream.guessed_rate or 25), 120)  # some files state their clock's
        length = min(seconds, (container.duration or seconds * av.time_base) / av.time_base)
    n_frames = max(1, round(length * rate))
    step = math.ceil(n_frames / most)
    for number, picture in enumerate(itertools.islice(_all_frames(path), n_frames)):
        if number % step == 0:
            yield number, picture


def _all_frames(path: Path) -> Iterator[NDArray[np.uint8]]:
    with open_media(path) as container:
        stream = picture_stream(path, container)
        for picture in _decode(path, container, stream, Timeline(stream, has_times=container.format.name != "avi")):
            yield np.ascontiguousarray(picture)


def _decode(path: Path, container: Any, stream: Any, timeline: Timeline) -> Iterator[NDArray[np.uint8]]:
    """A file's frames in the order of their times, which go into the timeline."""
    shape, converter = None, VideoReformatter()  # one for all frames: its tables take as long as a small frame
    for frame in frames_of(path, container, stream):
        timeline.add(path, frame)
        picture = _upright(path, frame, stream.sample_aspect_ratio, converter)
        if shape not in (None, picture.shape):
            raise UnusableClip("damaged", f"{path}: frame {len(timeline.times) - 1} changes size")
        shape = picture.shape
        yield picture
    if not timeline.times:
        raise UnusableClip("damaged", f"{path} has no frame that can be decoded")


def _upright(path: Path, frame: Any, pixel_aspect: Fraction | None, converter: VideoReformatter) -> NDArray[np.uint8]:
    """A decoded frame as RGB with square pixels, turned and mirrored as its display matrix asks."""
    width, height = _square_size(path, frame.width, frame.height, pixel_aspect)
    rgb: Any = converter.reformat(frame, width, height, format="rgb24")
    picture: NDArray[np.uint8] = rgb.to_ndarray()
    if (matrix := frame.side_data.get("DISPLAYMATRIX")) is not None:
        # x' = a x + c y, y' = b x + d y, where the matrix begins a b u c d v, in 16.16 fixed point
        a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
        if abs(b) > abs(a):
            picture, a, d = picture.transpose(1, 0, 2), c, b
        picture = picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return picture


def _square_size(path: Path, width: int, height: int, pixel_aspect: Fraction | None) -> tuple[int, int]:
    """Width and height after stretching the pixels along their shorter side until they are square."""
    aspect = pixel_aspect or Fraction(1)
    if not LEAST_PIXEL_ASPECT <= aspect <= 1 / LEAST_PIXEL_ASPECT:
        raise UnusableClip("damaged", f"{path}: its pixels are said to be {aspect} times as wide as high")
    if abs(aspect - 1) < Fraction(1, 100):  # encoders write such for what is square, and resampling would blur
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def _at_constant_rate(
    shown: Iterator[NDArray[np.uint8]], timeline: Timeline, fps: float
) -> Iterator[NDArray[np.uint8]]:
    """For each output time k / fps after the first frame's, the frame whose time is nearest."""
    n_frames, last = 0, None
    for picture in shown:
        if last is not None:
            middle = (timeline.times[-2] + timeline.times[-1]) / 2 - timeline.times[0]
            while n_frames / fps < middle - 1e-6:
                yield last
                n_frames += 1
        last = picture
    # The last output frame begins half a frame before the end at the latest; a lone picture makes one.
    end = timeline.end(fps) - timeline.times[0] - 0.5 / fps
    while last is not None and (n_frames == 0 or n_frames / fps < end - 1e-6):
        yield last
        n_frames += 1


def _collect(path: Path, pictures: Iterator[NDArray[np.uint8]], expected: int) -> NDArray[np.uint8]:
    """Stack pictures [H, W, 3] to [F, H, W, 3], about `expected` of them: in one piece of memory that can grow.

    Dense, as some readers (MediaPipe) take all arrays to be; PyAV's can be views with padded rows.
    """
    first = next(pictures)
    room = max(1, min(expected, FIRST_ROOM_BYTES // first.nbytes))
    frames, n_frames = np.empty((room, *first.shape), np.uint8), 0
    for picture in itertools.chain([first], pictures):
        if (n_frames + 1) * first.nbytes > MAX_CLIP_BYTES:
            raise UnusableClip("too long", f"{path} holds over {MAX_CLIP_BYTES >> 30} GiB of frames: cut it up")
        if n_frames == len(frames):
            frames.resize((n_frames + n_frames // 2 + 1, *first.shape), refcheck=False)
        frames[n_frames] = picture
        n_frames += 1
    frames.resize((n_frames, *first.shape), refcheck=False)
    return frames


def _sound_start(container: Any) -> float | None:
    if not container.streams.audio:
        return None
    stream = container.streams.audio[0]
    return float((stream.start_time or 0) * stream.time_base)
