"""The conformance kit for audio encoders: good ones pass, and each break is found, by the words in brackets."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dheads_cli.conformance import assert_conforms, problems


class Encoder:
    sample_rate, embed_dim, stride_frames, context_frames = 16000, 2, 20, 2

    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return nn.functional.adaptive_avg_pool1d(waveform.abs(), 2 * n_frames).view(len(waveform), n_frames, 2)


class FrameByFrame(Encoder):
    stride_frames, context_frames = 1, 0


class RateIsText(Encoder):
    sample_rate = "16000"  # type: ignore[assignment]


class Wide(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform, n_frames).repeat(1, 1, 2)


class Double(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform, n_frames).double()


class OneFrameShort(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform, n_frames)[:, 1:]


class Fixed25Fps(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform, round(waveform.shape[1] / 640))


class LogOfSilence(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform, n_frames).log()


class Random(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform, n_frames) + torch.randn(1)


class OfTheBatch(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform / waveform.abs().max().clamp(min=1e-3), n_frames)


class Deaf(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform * 0, n_frames)


class Writes(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform.mul_(0.5), n_frames)


class Late(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return nn.functional.pad(super().__call__(waveform, n_frames)[:, :-1], (0, 0, 1, 0))


class CountsCalls(Encoder):
    calls = 0

    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        self.calls += 1
        return super().__call__(waveform, n_frames) + self.calls


class ByItsDeviation(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return super().__call__(waveform / waveform.std(dim=1, keepdim=True), n_frames)


class Fails(Encoder):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        raise RuntimeError("no network")


class Trained(nn.Module):
    """A trained encoder that mixes `reach` frames on either side."""

    sample_rate, embed_dim, stride_frames, context_frames = 16000, 2, 20, 2

    def __init__(self, reach: int, *, detached: bool = False) -> None:
        super().__init__()
        self.detached = detached
        self.mix = nn.Conv1d(1, 2, 2 * reach + 1, padding=reach)
        nn.init.ones_(self.mix.weight)

    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        embeddings: Tensor = self.mix(self.loudness(waveform, n_frames)).transpose(1, 2)
        return embeddings.detach() if self.detached else embeddings

    def loudness(self, waveform: Tensor, n_frames: int) -> Tensor:
        return nn.functional.adaptive_avg_pool1d(waveform.abs()[:, None], n_frames)


class ReachesATenthOfASecond(Trained):
    """Two frames at 25 fps, but six at 60."""

    def loudness(self, waveform: Tensor, n_frames: int) -> Tensor:
        sums = nn.functional.pad(waveform.abs().double(), (1601, 1600)).cumsum(1)
        middles = ((torch.arange(n_frames) + 0.5) * (waveform.shape[1] / n_frames)).long()
        return ((sums[:, middles + 3201] - sums[:, middles]) / 3201).float()[:, None]


class Running(Encoder):
    """A stateful encoder: loudness of a frame, the one before and `ahead` after, summed up since the beginning."""

    context_frames, ahead = 3, 1

    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return self.sums(self.heard(waveform, n_frames), None)[0]

    def continue_from(self, waveform: Tensor, n_frames: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        middle = self.heard(waveform, n_frames)[:, self.context_frames : n_frames - self.context_frames]
        return self.sums(middle, state)

    def heard(self, waveform: Tensor, n_frames: int) -> Tensor:
        loudness = super().__call__(waveform, n_frames)
        padded = nn.functional.pad(loudness, (0, 0, 1, self.ahead))
        return padded.unfold(1, self.ahead + 2, 1).sum(-1)

    def sums(self, heard: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        sums = heard.cumsum(1) + (0 if state is None else state[:, None])
        return sums, sums[:, -1]


class Forgets(Running):
    def continue_from(self, waveform: Tensor, n_frames: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        return super().continue_from(waveform, n_frames, None)


class GivesItsContext(Running):
    def continue_from(self, waveform: Tensor, n_frames: int, state: Tensor | None) -> tuple[Tensor, Tensor]:
        return self.sums(self.heard(waveform, n_frames), state)


class WritesItsState(Running):
    def sums(self, heard: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        sums, last = super().sums(heard, state)
        return sums, last if state is None else state.copy_(last)


class NeverFresh(Running):
    kept: Tensor | None = None

    def sums(self, heard: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:
        sums, self.kept = super().sums(heard, state if state is not None or heard.shape[1] != 30 else self.kept)
        return sums, self.kept


class PlainIsAnother(Running):
    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        return self.heard(waveform, n_frames)


class HearsAhead(Running):
    ahead = 5


class RunningEarly(Running):
    def heard(self, waveform: Tensor, n_frames: int) -> Tensor:
        return nn.functional.pad(super().heard(waveform, n_frames)[:, 1:], (0, 0, 0, 1))


class RunningSum(nn.Module, Running):
    """Stateful and trained, with a gradient or with one that is zero."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self.weight = scale, nn.Parameter(torch.ones(2))

    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        return self.sums(self.heard(waveform, n_frames), None)[0]

    def heard(self, waveform: Tensor, n_frames: int) -> Tensor:
        loudness = Encoder.__call__(self, waveform, n_frames)  # type: ignore[arg-type]
        return loudness * (1 + self.scale * self.weight)

    __call__ = nn.Module.__call__


def test_good_encoders_conform() -> None:
    assert_conforms("audio_encoders", Encoder())
    assert_conforms("audio_encoders", FrameByFrame())
    assert_conforms("audio_encoders", Trained(2))
    assert_conforms("audio_encoders", Running())
    assert_conforms("audio_encoders", RunningSum(1.0))


@pytest.mark.parametrize(
    ("encoder", "words"),
    [
        (object(), "it has no sample_rate, embed_dim"),
        (RateIsText(), "sample_rate must be a whole number from 1, not '16000'"),
        (Wide(), "must have the shape (3, 24, 2), not (3, 24, 4)"),
        (Double(), "must be float32, not torch.float64"),
        (OneFrameShort(), "must have the shape (3, 24, 2), not (3, 23, 2)"),
        (Fixed25Fps(), "embeddings at 30 fps must have the shape"),
        (LogOfSilence(), "embeddings of silence are not finite"),
        (Random(), "called twice with the same sound"),
        (OfTheBatch(), "depend on the other windows of its batch"),
        (Deaf(), "silence and noise get the same embeddings"),
        (Writes(), "it changes the waveform"),
        (Fails(), "But it raises RuntimeError: no network"),
        (Trained(3), "depend on more than the 2 frames on either side"),
        (Trained(2, detached=True), "but its embeddings carry none"),
        (RunningSum(0.0), "the gradient of its embeddings is zero"),
        (Forgets(), "cut after frame 12, a recording gets other embeddings than uncut"),
        (GivesItsContext(), "continue_from must give float32 (3, 30, 2), not torch.float32 (3, 36, 2)"),
        (WritesItsState(), "the state must only be read"),
        (NeverFresh(), "its embeddings depend on earlier calls"),
        (PlainIsAnother(), "a plain call gives other embeddings than continue_from"),
        (HearsAhead(), "depend on sound later than the 3 frames after theirs"),
        (Late(), "at 30 fps a click is not heard in its own frame: the response is centred +1.0"),
        (RunningEarly(), "at 25 fps a click is not heard in its own frame: the response is centred -1."),
        (Deaf(), "at 25 fps embeddings do not change with a click"),
        (ReachesATenthOfASecond(0), "at 60 fps embeddings depend on sound further than the 2 frames"),
        (CountsCalls(), "when only 22 frames are known, the first 20 embeddings are others than later"),
        (ByItsDeviation(), "embeddings of one sample"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_broken_encoder_is_found(encoder: Any, words: str) -> None:
    assert words in "\n".join(problems("audio_encoders", encoder))
