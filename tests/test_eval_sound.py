"""The sound of clips as metrics hear it: generated ones' from their video, real ones' from the shards, in time."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from corpus import make_clip, write_corpus

from dheads_cli.data.media import VideoWriter
from dheads_cli.data.samples import SampleRow, read_samples, write_samples
from dheads_cli.run.eval_folders import match_folders, named_groups
from dheads_cli.run.eval_pairs import Kept, sample_groups
from dheads_cli.run.eval_report import GENERATED, GROUND_TRUTH, OTHER_REAL, SHUFFLED

N_FRAMES, RATE = 50, 16000
CLICK_S = {"a": 0.5, "b": 1.25}


def clicking(name: str) -> np.ndarray:
    wave = np.zeros(N_FRAMES * RATE // 25, np.float32)
    at = round(CLICK_S[name] * RATE)
    wave[at : at + 80] = np.hanning(80)
    return wave


def write_video(path: Path, name: str | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, 25, (32, 32), audio=clicking(name) if name else None, sample_rate=RATE) as writer:
        for k in range(N_FRAMES):
            writer.write(np.full((32, 32, 3), 2 * k, np.uint8))


class NoDetector:
    """No metric here asks for landmarks."""

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        raise AssertionError

    def all_faces(self, image: np.ndarray) -> list[np.ndarray]:
        raise AssertionError


def click_of(sound: tuple[np.ndarray, int] | None) -> float:
    """When it clicks, s."""
    assert sound is not None
    wave, rate = sound
    assert len(wave) == pytest.approx(N_FRAMES / 25 * rate, abs=1100)
    return float(np.abs(wave).argmax() - 40) / rate


def test_each_row_has_the_sound_that_its_picture_shows(tmp_path: Path) -> None:
    clips = [
        replace(make_clip(0, "test", N_FRAMES), id=f"s1/{name}", speaker="s1", waveform=clicking(name)) for name in "ab"
    ]
    write_corpus(tmp_path / "corpus", clips)
    row = SampleRow("a", "a.mp4", "s1", "test", str(tmp_path / "corpus"), "s1/a", "s1/a", 0, 0, "synced")
    shuffled = replace(row, id="a.shuffled", file="shuffled.mp4", audio_clip_id="s1/b", kind="shuffled")
    other = replace(row, id="b", file="b.mp4", clip_id="s1/b", audio_clip_id="s1/b")
    for each, sound in ((row, "a"), (shuffled, "b"), (other, None)):
        write_video(tmp_path / "samples" / each.file, sound)
    write_samples(tmp_path / "samples", [row, shuffled, other])
    rows = read_samples(tmp_path / "samples")
    pairs = {
        (pair.row, pair.reference.id): pair
        for group in sample_groups(tmp_path / "samples", rows, ground_truth=True)
        for pair in group.read(NoDetector(), Kept())
    }
    heard = {GENERATED: "a", SHUFFLED: "b", GROUND_TRUTH: "a", OTHER_REAL: "b"}
    for kind, name in heard.items():
        assert click_of(pairs[kind, "s1/a"].clip.sound) == pytest.approx(CLICK_S[name], abs=0.012), kind
        assert click_of(pairs[kind, "s1/a"].reference.sound) == pytest.approx(CLICK_S["a"], abs=0.001)
    assert pairs[GENERATED, "s1/b"].clip.sound is None


def test_videos_of_any_tool_bring_their_own_sound(tmp_path: Path) -> None:
    write_video(tmp_path / "ours/x.mp4", "b")
    write_video(tmp_path / "real/x.mp4", "a")
    (group,) = named_groups(match_folders(tmp_path / "ours", tmp_path / "real"), ground_truth=True)
    for pair in group.read(NoDetector(), Kept()):
        own = CLICK_S["b" if pair.row == GENERATED else "a"]
        assert click_of(pair.clip.sound) == pytest.approx(own, abs=0.012)
        assert click_of(pair.reference.sound) == pytest.approx(CLICK_S["a"], abs=0.012)


def test_each_row_has_the_words_of_its_sound(tmp_path: Path) -> None:
    said = {"a": "Bin blue", "b": None}
    clips = [
        replace(make_clip(0, "test", N_FRAMES), id=f"s1/{name}", speaker="s1", info={"text": text})
        for name, text in said.items()
    ]
    write_corpus(tmp_path / "corpus", clips)
    row = SampleRow("b", "b.mp4", "s1", "test", str(tmp_path / "corpus"), "s1/b", "s1/b", 0, 0, "synced")
    shuffled = replace(row, id="b.shuffled", file="shuffled.mp4", audio_clip_id="s1/a", kind="shuffled")
    spoken = replace(row, id="b.other", file="other.mp4", audio_clip_id="elsewhere", kind="shuffled")
    for each in (row, shuffled, spoken):
        write_video(tmp_path / "samples" / each.file, None)
    write_samples(tmp_path / "samples", [row, shuffled, spoken])
    (group,) = sample_groups(tmp_path / "samples", [row, shuffled, spoken], ground_truth=True)
    pairs = group.read(NoDetector(), Kept())
    assert [(pair.row, pair.clip.words) for pair in pairs] == [
        (GENERATED, None), (SHUFFLED, ["bin", "blue"]), (SHUFFLED, None), (GROUND_TRUTH, None),
    ]  # fmt: skip
