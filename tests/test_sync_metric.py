"""The metric sync with the network that ships: on a real clip in step, moved, without sound, and on none."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from clips import FakeClip

from dheads_cli.conformance import assert_conforms
from dheads_cli.data.media import read_audio, read_video
from dheads_cli.errors import DheadsError
from dheads_components.landmark_detectors.mediapipe import MediaPipe
from dheads_components.metrics.sync import Synchrony

CLIP = Path(__file__).parent / "data/grid/s2/bbaf1n.mp4"
RATE = 16000


@pytest.fixture(scope="module")
def clip() -> FakeClip:
    """3 s of GRID's s2, as filmed."""
    video = read_video(CLIP, 25)
    landmarks = MediaPipe()(video.frames)
    return FakeClip(landmarks, video.frames, sound=(read_audio(CLIP, RATE, video.start), RATE))


def moved(clip: FakeClip, ahead: int) -> FakeClip:
    """The clip with its sound that many frames earlier."""
    wave, n = clip.sound[0], abs(ahead) * RATE // 25
    return replace(clip, sound=(np.pad(wave[n:], (0, n)) if ahead > 0 else np.pad(wave, (n, 0))[: len(wave)], RATE))


def test_it_keeps_the_contract() -> None:
    assert_conforms("metrics", Synchrony(network="own"))


def test_a_clip_in_step_and_moved_ones_have_their_offset(clip: FakeClip) -> None:
    metric = Synchrony(network="own")
    found = {ahead: metric.update(moved(clip, ahead), clip) for ahead in (-4, 0, 3)}
    own = found[0]["sync-grid offset [frames]"]
    assert abs(own) <= 1
    for ahead in (-4, 3):
        assert found[ahead]["sync-grid offset [frames]"] == pytest.approx(own + ahead, abs=1)
        assert found[ahead]["sync-grid agreement"] < found[0]["sync-grid agreement"] - 0.1
    total = metric.compute()
    assert total["sync-grid in step"] == pytest.approx(1 / 3)
    assert total["sync-grid confidence"] == pytest.approx(
        np.mean([values["sync-grid confidence"] for values in found.values()])
    )
    assert not any(name.startswith(("AV", "LSE")) for name in total)


def test_the_speaker_s_clip_before_lends_the_sound_of_another_sentence(clip: FakeClip) -> None:
    metric, name = Synchrony(network="own"), "sync-grid confidence of other sound"
    wave, rate = clip.sound
    backwards = replace(clip, sound=(wave[::-1].copy(), rate))
    assert name not in metric.update(backwards, clip)
    assert metric.update(replace(clip, speaker="s2"), clip).keys().isdisjoint({name})
    values = metric.update(clip, clip)
    assert values[name] < values["sync-grid confidence"] - 0.1
    assert metric.compute()[name] == values[name]
    assert metric.update(clip, clip)[name] == pytest.approx(values["sync-grid confidence"], abs=1e-5)


def test_other_sizes_rates_and_loudness_change_little(clip: FakeClip) -> None:
    metric = Synchrony(network="own")
    whole = metric.update(clip, clip)
    half = replace(clip, frames=np.ascontiguousarray(clip.frames[:, ::2, ::2]), landmarks=clip.landmarks / 2)
    softer = replace(clip, sound=(clip.sound[0] / 8, RATE))
    doubled = replace(
        clip, frames=np.repeat(clip.frames, 2, axis=0), landmarks=np.repeat(clip.landmarks, 2, axis=0), fps=50.0
    )
    for changed in (half, softer, doubled):
        values = metric.update(changed, changed)
        assert values["sync-grid offset [frames]"] == whole["sync-grid offset [frames]"]
        assert values["sync-grid confidence"] == pytest.approx(whole["sync-grid confidence"], abs=0.05)


def test_what_can_t_be_scored_is_said_and_left_out(clip: FakeClip) -> None:
    metric = Synchrony(network="own")
    silent = replace(clip, sound=None)
    faceless = replace(clip, landmarks=np.full_like(clip.landmarks, np.nan))
    short = replace(clip, frames=clip.frames[:19], landmarks=clip.landmarks[:19])
    for scored, reference, why in (
        (silent, clip, "no sound"), (clip, faceless, "no frame with a face"), (short, short, "shorter than 0.9 s"),
    ):  # fmt: skip
        values = metric.update(scored, reference)
        assert list(values) == ["sync-grid note"]
        assert why in str(values["sync-grid note"])
    assert metric.compute() == {}


def test_a_network_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="network must be auto, syncnet or own, not 'theirs'"):
        Synchrony(network="theirs")  # type: ignore[arg-type]
    with pytest.raises(DheadsError, match="no such file"):
        Synchrony(network="own", weights="nowhere.safetensors")
