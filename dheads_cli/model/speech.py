"""From a recording to the audio embeddings of its video frames, in fixed windows, and to the window of each frame."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dheads_cli.protocols import AudioEncoder, StatefulAudioEncoder

WINDOWS_AT_ONCE = 8  # bounds memory: windows go through the encoder in batches of this size


def samples_of(n_frames: int, fps: float, sample_rate: int) -> int:
    """Audio samples that n_frames video frames last."""
    return round(n_frames / fps * sample_rate)


def frames_of(n_samples: int, fps: float, sample_rate: int) -> int:
    """Video frames that last as long as a recording, within half a frame; at least one.

    (The release cuts to whole frames, T // 640 at 16 kHz and 25 fps, which can lose the end of the last word.)
    """
    return max(round(n_samples * fps / sample_rate), 1)


def device_of(encoder: AudioEncoder) -> torch.device:
    """Where an encoder computes; the CPU where it holds nothing."""
    if isinstance(encoder, nn.Module):
        for tensor in (*encoder.parameters(), *encoder.buffers()):
            return tensor.device
    return torch.device("cpu")


def is_trained(encoder: AudioEncoder) -> bool:
    """Whether an encoder has weights to learn, and so is the model's own; others bring theirs, frozen."""
    return isinstance(encoder, nn.Module) and any(parameter.requires_grad for parameter in encoder.parameters())


def encode_speech(encoder: AudioEncoder, waveform: Tensor, n_frames: int, fps: float) -> Tensor:
    """Audio embeddings of a whole recording: float32 [T] in [-1, 1] -> [F, D]."""
    return torch.cat(list(encode_stream(encoder, waveform, n_frames, fps)))


@torch.no_grad()
def encode_stream(
    encoder: AudioEncoder, waveform: Tensor | Iterable[Tensor], n_frames: int, fps: float, first: int = 0
) -> Iterator[Tensor]:
    """Audio embeddings of a recording, a few windows at a time; they carry no gradient.

    Window j spans frames j stride - context ... (j + 1) stride + context and gives embeddings of its middle stride
    frames. Windows lie at fixed places from the recording's start, so the result does not depend on how much of it is
    known yet, beyond `context` frames. Past either end there is silence. A stateful encoder takes one window at a
    time and carries its state from each to the next.

    Args:
        encoder: the audio encoder.
        waveform: float32 [T] at encoder.sample_rate, on the encoder's device; or the same in pieces, each asked for
            when a window needs it and forgotten when none does.
        n_frames: embeddings of the whole recording.
        fps: video frames a second.
        first: a frame; what is before its batch of windows is left out, see first_encoded.

    Yields:
        float32 [f, D]; the f add up to n_frames - first_encoded(encoder, first).
    """
    stride, context, rate = encoder.stride_frames, encoder.context_frames, encoder.sample_rate
    n_window = stride + 2 * context
    length = samples_of(n_window, fps, rate)
    sound = SlidingSound([waveform] if isinstance(waveform, Tensor) else waveform)
    begin_frames = range(first_encoded(encoder, first), n_frames, stride)
    if isinstance(encoder, StatefulAudioEncoder):
        state = None
        for frame in begin_frames:
            window = sound.cut(frame - context, length, fps, rate)[None]
            embeddings, state = encoder.continue_from(window, n_window, state)
            yield embeddings[0, : n_frames - frame]
        return
    for begin in range(0, len(begin_frames), WINDOWS_AT_ONCE):
        chosen = begin_frames[begin : begin + WINDOWS_AT_ONCE]
        windows = torch.stack([sound.cut(frame - context, length, fps, rate) for frame in chosen])
        embeddings = encoder(windows, n_window)[:, context : context + stride].flatten(0, 1)
        yield embeddings[: n_frames - chosen[0]]


def first_encoded(encoder: AudioEncoder, frame: int) -> int:
    """The frame that encode_stream begins with, so that a frame has the very embedding that it has from the start.

    The batch of windows that it is in begins there; a stateful encoder always begins with frame 0.
    """
    at_once = WINDOWS_AT_ONCE * encoder.stride_frames
    return 0 if isinstance(encoder, StatefulAudioEncoder) else max(frame, 0) // at_once * at_once


class SlidingSound:
    """A recording that comes in pieces [T]; those that lie before a cut are forgotten."""

    def __init__(self, pieces: Iterable[Tensor]) -> None:
        self._pieces = iter(pieces)
        self._held: deque[Tensor] = deque()
        self._begin = self._end = 0  # samples that the pieces held begin and end with

    def cut(self, frame: float, length: int, fps: float, sample_rate: int) -> Tensor:
        """See `cut`; no cut may begin before the one before it."""
        begin = round(frame / fps * sample_rate)
        while self._end < begin + length and (piece := next(self._pieces, None)) is not None:
            self._held.append(piece)
            self._end += len(piece)
            while len(self._held) > 1 and self._begin + len(self._held[0]) <= begin:
                self._begin += len(self._held.popleft())
        held = self._held[0] if len(self._held) == 1 else torch.cat(tuple(self._held))
        return _span(held, begin - self._begin, length)


def cut(waveform: Tensor, frame: float, length: int, fps: float, sample_rate: int) -> Tensor:
    """`length` samples of a waveform [T] from a frame's first sample on; silence beyond the ends."""
    return _span(waveform, round(frame / fps * sample_rate), length)


def _span(waveform: Tensor, begin: int, length: int) -> Tensor:
    piece = waveform[max(begin, 0) : max(begin + length, 0)]
    missing_before = min(max(-begin, 0), length)
    return F.pad(piece, (missing_before, length - missing_before - len(piece)))


def audio_windows(embeddings: Tensor, audio_context: int) -> Iterator[Tensor]:
    """Motion audio embeddings: for each frame k those of frames k - m_y ... k + m_y, the ends repeated.

    Args:
        embeddings: [B, F, D].
        audio_context: m_y.

    Yields:
        [B, 2 m_y + 1, D], oldest first.
    """
    n_frames = embeddings.shape[1]
    for k in range(n_frames):
        yield embeddings[:, window_indices(k, n_frames, audio_context)]


def stream_windows(pieces: Iterable[Tensor], audio_context: int) -> Iterator[Tensor]:
    """audio_windows of one recording whose embeddings are still being made; it holds those of one window.

    Args:
        pieces: [f, D], as encode_stream gives them; each is asked for when a window needs it.
        audio_context: m_y.

    Yields:
        [1, 2 m_y + 1, D], oldest first.
    """
    window: deque[Tensor] = deque(maxlen=2 * audio_context + 1)
    for embedding in (embedding for piece in pieces for embedding in piece):
        if not window:
            window.extend([embedding] * audio_context)  # the first stands in for those before it
        window.append(embedding)
        if len(window) == window.maxlen:
            yield torch.stack(list(window))[None]
    for _ in range(audio_context if window else 0):  # and the last for those after it
        window.append(window[-1])
        if len(window) == window.maxlen:
            yield torch.stack(list(window))[None]


def spoken_windows(
    encoder: AudioEncoder,
    waveform: Iterable[Tensor],
    n_frames: int,
    fps: float,
    audio_context: int,
    first: int = 0,
) -> Iterator[Tensor]:
    """The audio windows of a recording's frames `first` ... n_frames - 1, encoded when they are asked for.

    Args:
        encoder, waveform, n_frames, fps: see encode_stream.
        audio_context: m_y.
        first: a frame.

    Yields:
        [1, 2 m_y + 1, D]: those that stream_windows gives for all frames, without the first ones.
    """
    begin = first_encoded(encoder, first - audio_context)
    windows = stream_windows(encode_stream(encoder, waveform, n_frames, fps, begin), audio_context)
    return itertools.islice(windows, first - begin, None)


def window_indices(k: int, n_frames: int, audio_context: int) -> list[int]:
    """Frames k - m_y ... k + m_y, clipped to 0 ... n_frames - 1."""
    return [min(max(i, 0), n_frames - 1) for i in range(k - audio_context, k + audio_context + 1)]
