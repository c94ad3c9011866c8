"""The metric wer: counted by hand with a lip-reader of another package, and real lips by the one that ships."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import FakeClip
from distributions import install
from test_docs import blocks

from dheads_cli import registry
from dheads_cli.conformance import assert_conforms, problems
from dheads_cli.data.media import read_video
from dheads_cli.errors import DheadsError
from dheads_cli.run.eval_report import intervals
from dheads_components.landmark_detectors.mediapipe import MediaPipe
from dheads_components.lip_readers.grid import GridLipReader
from dheads_components.metrics.wer import WER

METRICS = Path(__file__).parents[1] / "docs/METRICS.md"
READER = """
class Reader:
    vocabulary = None
    weights = "a made-up reader"

    def __init__(self, reads: str = "bin blue", name: str = "WER"):
        self.reads, self.value_name = reads.split(), name

    def __call__(self, frames, landmarks, fps):
        return self.reads
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package with a lip-reader that says what its option says."""
    install(tmp_path, "dheads-reader", "1.0", {"lip_readers/parrot": "dheads_reader:Reader"}, {"dheads_reader": READER})
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.entries.cache_clear()
    yield
    registry.entries.cache_clear()


def parrot(reads: str, name: str = "WER") -> WER:
    return WER(reader="parrot", options={"reads": reads, "name": name})


def saying(words: str | None) -> FakeClip:
    return FakeClip(words=words.split() if words else None)


@pytest.mark.usefixtures("installed")
def test_wrong_missing_and_added_words_are_counted_over_all_that_are_said() -> None:
    metric = parrot("bin blue at")
    for said, rate in (("bin blue at", 0), ("bin red at", 1 / 3), ("bin blue at f", 1 / 4), ("blue at", 1 / 2)):
        assert metric.update(saying(said), saying(said)) == {"WER": pytest.approx(rate)}
    assert metric.compute() == {"WER": pytest.approx(3 / 12)}
    assert metric.weights == "a made-up reader"


@pytest.mark.usefixtures("installed")
def test_over_sentences_of_one_length_it_is_the_mean_over_clips_and_so_has_an_interval() -> None:
    metric = parrot("bin blue at")
    said = [saying(words) for words in ("bin blue at", "bin red at", "lay red at", "lay red by", "bin red by")]
    clips = [{"values": metric.update(clip, clip)} for clip in said]
    assert intervals(clips, metric.compute()).keys() == {"WER"}


@pytest.mark.usefixtures("installed")
def test_words_are_those_of_the_sound_and_the_real_clip_s_stand_beside_them() -> None:
    metric = parrot("bin blue")
    values = metric.update(saying("bin blue"), saying("lay blue"))
    assert values == {"WER": 0.0, "WER of other words": 0.5}
    assert metric.update(saying("bin red"), saying("bin red")) == {"WER": 0.5}
    assert metric.compute() == {"WER": 0.25, "WER of other words": 0.5}


@pytest.mark.usefixtures("installed")
def test_a_clip_whose_words_are_not_known_is_left_out_with_a_remark() -> None:
    metric = parrot("bin")
    assert metric.update(saying(None), saying("bin")) == {"WER note": "it is not known which words are said: left out"}
    assert metric.compute() == {}


@pytest.mark.usefixtures("installed")
def test_a_reader_of_another_package_is_listed_and_tried_by_the_kit() -> None:
    assert "parrot" in registry.entries("lip_readers")
    assert_conforms("lip_readers", registry.build("lip_readers", "parrot"))
    assert_conforms("metrics", WER(reader="parrot"))
    with pytest.raises(DheadsError, match="reads"):
        registry.build("metrics", "wer", {"reader": "parrot", "options": {"read": "bin"}})
    with pytest.raises(DheadsError, match="no option 'weights'"):
        registry.build("metrics", "wer", {"reader": "parrot", "weights": "a.pt"})
    with pytest.raises(DheadsError, match="no lip reader is called 'parot'; did you mean 'parrot'"):
        registry.build("metrics", "wer", {"reader": "parot"})


class Odd:
    """A lip-reader with one fault."""

    def __init__(self, fault: str) -> None:
        self.fault, self.calls = fault, 0
        self.vocabulary = "bin" if fault == "text" else ["bin"]
        self.value_name, self.weights = ("" if fault == "nameless" else "WER"), ""

    def __call__(self, frames: np.ndarray, landmarks: np.ndarray, fps: float) -> list[str] | str:
        self.calls += 1
        if self.fault == "paints":
            frames[:] = 0
        if self.fault == "one frame" and len(frames) == 1:
            raise IndexError
        if self.fault == "remembers" and self.calls < 3:
            return []
        return {"sentence": "bin", "loud": ["BIN"], "unknown": ["blue"]}.get(self.fault, ["bin"])


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("sentence", "must give a sequence of words in lower case, not 'bin'"),
        ("loud", "must give a sequence of words in lower case"),
        ("unknown", "words that its vocabulary has not: blue"),
        ("remembers", "it gives other words"),
        ("paints", "it changes the clip it is given"),
        ("one frame", "raises IndexError"),
        ("text", "vocabulary must hold words"),
        ("nameless", "value_name must be a text"),
    ],
)
def test_the_kit_finds_a_lip_reader_s_faults(fault: str, message: str) -> None:
    assert any(message in problem for problem in problems("lip_readers", Odd(fault)))
    assert problems("lip_readers", Odd("")) == []


# The lip-reader that ships


def test_words_that_the_lip_reader_does_not_know_are_left_out() -> None:
    metric = WER()
    values = metric.update(saying("about"), saying("about"))
    assert values == {"lips-grid WER note": "words are said that the lip-reader does not know: left out"}


def test_lips_without_a_face_say_nothing() -> None:
    clip = saying("bin blue at f two now")
    clip.landmarks[:] = np.nan
    values = WER().update(clip, clip)
    assert values == {"lips-grid WER": 1.0, "lips-grid WER note": "no word is read, as where no face is found"}


def test_a_clip_that_it_has_learned_is_read_as_filmed_and_says_something_else_backwards() -> None:
    video = read_video(Path(__file__).parent / "data/grid/s1/bbaf2n.mp4", 25)
    landmarks, said = MediaPipe()(video.frames), ["bin", "blue", "at", "f", "two", "now"]
    reader = GridLipReader()
    assert reader(video.frames, landmarks, 25.0) == said
    assert sum(a == b for a, b in zip(reader(video.frames[::-1], landmarks[::-1], 25.0), said, strict=True)) < 4


def test_another_frame_rate_is_read_at_25() -> None:
    reader, clip = GridLipReader(), saying(None)
    clip.frames[:] = np.random.default_rng(0).integers(0, 255, clip.frames.shape, dtype=np.uint8)
    twice = replace(clip, frames=clip.frames.repeat(2, axis=0), landmarks=clip.landmarks.repeat(2, axis=0))
    assert reader(twice.frames, twice.landmarks, 50.0) == reader(clip.frames, clip.landmarks, 25.0)


def test_the_lip_reader_of_the_document_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_network.py").write_text("def transcribe(frames, fps):\n    return 'Bin blue'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    (source,) = blocks(METRICS.read_text(), "python")
    made: dict[str, Any] = {}
    exec(source, made)
    assert_conforms("lip_readers", made["MyLipReader"]())
