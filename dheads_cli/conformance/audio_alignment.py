"""What every audio encoder must do in time: hear a click in its own frame, reach as far as it says, stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dheads_cli.model.speech import encode_speech, encode_stream, is_trained
from dheads_cli.protocols import StatefulAudioEncoder

CLICKS = 9  # spread over the middle of a window and over thirds of a frame
LEAST_FRAMES = 24  # to hear them in
CLICK_S, CLICK_HEIGHT, NOISE = 0.005, 0.9, 0.05
RESPONSE_S = 0.5  # around a click, in which its response is looked for
MAX_LAG_FRAMES, LEAST_OWN = 0.5, 0.75
MAX_MOUTH_LAG_FRAMES, LEAST_MOUTH_OWN = 3.0, 0.5  # of an encoder whose embeddings are of the mouth


@dataclass(frozen=True)
class ClickResponse:
    """How embeddings change with a click in noise, the mean of some clicks.

    Attributes:
        lags: of a frame after that of the click, in frames, [R].
        strength: norm of the change, each click's relative to its largest; 1 is the most, [R].
        centre: the mean time from a click to the middles of the frames that change by over half of the largest
            change, weighed by what is over it, in frames.
    """

    lags: Tensor
    strength: Tensor
    centre: float

    @property
    def peak(self) -> int:
        """The lag of the strongest response."""
        return int(self.lags[self.strength.argmax()])

    @property
    def own(self) -> float:
        """Strength in the click's own frame."""
        return float(self.strength[self.lags == 0])

    @property
    def share(self) -> float:
        """How much of the strength squared lies in the click's frame and its neighbours."""
        energy = self.strength**2
        return float(energy[self.lags.abs() <= 1].sum() / energy.sum())


def click_response(encoder: Any, fps: float) -> ClickResponse:
    """Hear nine clicks of 5 ms, one by one, in soft noise, in the middle half of a window.

    The change is against the same noise with the click at one end, the further one: an encoder that scales a window by
    its loudness changes everywhere when there is one click more. A stateful encoder hears each frame from a fresh
    state, with the sound of its context_frames: what it remembers of a click afterwards says nothing of which frame is
    which. Where a window is shorter than 24 frames, as many are heard, in such windows.
    """
    stride, context = encoder.stride_frames, encoder.context_frames
    n_frames, per_frame = max(stride + 2 * context, LEAST_FRAMES), encoder.sample_rate / fps
    first = max(context, n_frames // 4)
    noise = NOISE * torch.randn(round(n_frames * per_frame), generator=torch.Generator().manual_seed(0))
    spacing = (n_frames - 2 * first) / CLICKS
    times = [first + int(spacing * (i + 0.5)) + (i % 3 * 2 + 1) / 6 for i in range(CLICKS)]  # frames
    places = torch.tensor([*times, 0.5, n_frames - 0.5])  # frames; the last two are the references
    sounds = noise.repeat(len(places), 1)
    for sound, place in zip(sounds, places.tolist(), strict=True):
        middle, half = round(place * per_frame), round(CLICK_S / 2 * encoder.sample_rate)
        sound[max(middle - half, 0) : middle + max(half, 1)] = CLICK_HEIGHT
    embeddings = _each_fresh(encoder, sounds, n_frames)
    late = places[:-2] > n_frames / 2
    reference = torch.where(late[:, None, None], embeddings[-2], embeddings[-1])
    changes = (embeddings[:-2] - reference).norm(dim=-1)  # [clicks, F]
    reach = min(round(RESPONSE_S * fps), n_frames // 4)
    aligned = torch.stack([F.pad(change, (reach, reach))[int(time) :][: 2 * reach + 1]
                           for change, time in zip(changes, times, strict=True)])  # fmt: skip
    lags = torch.arange(-reach, reach + 1)
    relative = aligned / aligned.amax(dim=1, keepdim=True)
    heard = (relative - 0.5).clamp(min=0)
    after = lags + 0.5 - places[:-2, None] % 1  # frames from the click to a frame's middle
    centre = (heard * after).sum() / heard.sum()
    strength = relative.mean(dim=0)
    return ClickResponse(lags, strength / strength.max(), float(centre))


@torch.no_grad()
def _each_fresh(encoder: Any, sounds: Tensor, n_frames: int) -> Tensor:
    """Embeddings of F frames, [N, T] -> [N, F, D]; a stateful encoder's are each from a fresh state."""
    if not isinstance(encoder, StatefulAudioEncoder):
        if n_frames == encoder.stride_frames + 2 * encoder.context_frames:
            plain: Tensor = encoder(sounds, n_frames)
            return plain
        fps = encoder.sample_rate * n_frames / sounds.shape[1]
        return torch.stack([encode_speech(encoder, sound, n_frames, fps) for sound in sounds])
    per_frame, n_window = sounds.shape[1] / n_frames, 2 * encoder.context_frames + 1
    length = round(n_window * per_frame)
    silence = round(encoder.context_frames * per_frame)
    padded = F.pad(sounds, (silence, silence + length))
    windows = (padded[:, round(k * per_frame) :][:, :length] for k in range(n_frames))
    return torch.cat([encoder.continue_from(window, n_window, None)[0] for window in windows], dim=1)


def click_is_heard_in_its_own_frame(encoder: Any) -> Iterator[str]:
    """Embedding k is of frame k: a click's response is centred on its frame, which responds, at 25 and at 30 fps.

    The centre must lie within half a frame, nearer to the click's frame than to any other, and that frame respond with
    three quarters of the peak. That the peak is that very frame is not asked: where a window is wider than a frame,
    the response is a plateau, and which of its frames is highest is chance. An encoder that `predicts_mouth` gives what
    the mouth does at a sound, which opens after the burst that a click resembles: three frames and half of the peak.
    """
    mouth = getattr(encoder, "predicts_mouth", False)
    most, least = (MAX_MOUTH_LAG_FRAMES, LEAST_MOUTH_OWN) if mouth else (MAX_LAG_FRAMES, LEAST_OWN)
    for fps in (25, 30):
        response = click_response(encoder, fps)
        if not response.strength.isfinite().all():
            yield f"at {fps} fps embeddings do not change with a click"
        elif abs(response.centre) > most or response.own < least:
            yield (
                f"at {fps} fps a click is not heard in its own frame: the response is centred {response.centre:+.2f} "
                f"frames from it, peaks at {response.peak:+d}, and is {response.own:.2f} of the peak in that frame"
            )


def trained_encoder_reaches_no_further_than_it_says(encoder: Any) -> Iterator[str]:
    """Embedding k depends on the sound of frames k - context_frames ... k + context_frames alone, at 25 and 60 fps."""
    if not is_trained(encoder) or isinstance(encoder, StatefulAudioEncoder):
        return
    context, k = encoder.context_frames, 2 * encoder.context_frames + 4
    for fps in (25, 60):
        n_frames, per_frame = 2 * k + 1, encoder.sample_rate / fps
        sound = NOISE * torch.randn(1, round(n_frames * per_frame), generator=torch.Generator().manual_seed(0))
        other = -9 * sound
        # A frame need not be a whole number of samples: the one at either end may be taken to the next.
        inside = slice(int((k - context) * per_frame) - 1, int((k + context + 1) * per_frame) + 2)
        other[:, inside] = sound[:, inside]
        with torch.no_grad():
            before, after = encoder(sound, n_frames)[:, k], encoder(other, n_frames)[:, k]
        if not torch.allclose(before, after, rtol=1e-4, atol=1e-5):
            yield f"at {fps} fps embeddings depend on sound further than the {context} frames on either side"


def stream_gives_what_the_whole_gives(encoder: Any) -> Iterator[str]:
    """While a recording grows, embeddings stay as they are once stride_frames + context_frames more are known."""
    stride, context = encoder.stride_frames, encoder.context_frames
    n_frames, rate, fps = 2 * stride + context + max(stride // 3, 1), encoder.sample_rate, 25
    sound = NOISE * torch.randn(round(n_frames / fps * rate) + rate // 100, generator=torch.Generator().manual_seed(0))
    whole = encode_speech(encoder, sound, n_frames, fps)
    if len(whole) != n_frames:
        yield f"a recording of {n_frames} frames gets {len(whole)} embeddings"
        return
    for windows in (1, 2):
        known = windows * stride + context
        first = torch.cat(list(encode_stream(encoder, sound[: round(known / fps * rate)], known, fps)))
        if not torch.allclose(first[: windows * stride], whole[: windows * stride], rtol=1e-3, atol=1e-3):
            yield f"when only {known} frames are known, the first {windows * stride} embeddings are others than later"


def any_rate_and_any_sound_gives_finite_embeddings(encoder: Any) -> Iterator[str]:
    """24, 25, 29.97, 30, 50 and 60 fps, and one sample, a constant and a full-scale square give finite embeddings."""
    n_frames, rate = encoder.stride_frames + 1, encoder.sample_rate
    for fps in (24, 29.97, 50, 60):
        noise = NOISE * torch.randn(round(n_frames / fps * rate), generator=torch.Generator().manual_seed(0))
        yield from _unless_finite(encode_speech(encoder, noise, n_frames, fps), n_frames, f"noise at {fps} fps")
    square = torch.where(torch.arange(rate) * 400 // rate % 2 == 0, 1.0, -1.0)  # 200 Hz
    for sound, what in ((torch.ones(1), "one sample"), (torch.ones(rate), "a constant"), (square, "a square wave")):
        yield from _unless_finite(encode_speech(encoder, sound, 25, 25), 25, what)


def _unless_finite(embeddings: Tensor, n_frames: int, what: str) -> Iterator[str]:
    if len(embeddings) != n_frames or not embeddings.isfinite().all():
        yield f"embeddings of {what} are not {n_frames} finite ones, but {len(embeddings)}, of which some may be NaN"


TESTS = (
    click_is_heard_in_its_own_frame,
    trained_encoder_reaches_no_further_than_it_says,
    stream_gives_what_the_whole_gives,
    any_rate_and_any_sound_gives_finite_embeddings,
)
