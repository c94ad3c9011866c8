"""LRW and CREMA-D as they lie on disk, made from real clips: from the folder to what is stored."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from odd_media import Film, Track, write_film, write_wav

from dheads_cli.data import media
from dheads_cli.data.manifest import read_manifest
from dheads_cli.data.shards import Corpus
from dheads_cli.recipe import Preprocess
from dheads_cli.run.preprocess import preprocess

GRID = Path(__file__).parent / "data/grid"
SHARED_GRID = Path(__file__).parents[2] / "shared/data/grid"
SETTINGS = Preprocess(size=32, workers=1, test_fraction=0, val_fraction=0)


def test_lrw_clips_keep_split_length_and_the_words_time(tmp_path: Path) -> None:
    for split, speaker, name in (("train", "s1", "bbaf2n"), ("val", "s2", "bbaf1n")):
        path = tmp_path / f"lipread_mp4/ABOUT/{split}/ABOUT_00001.mp4"
        source = GRID / speaker / f"{name}.mp4"
        frames = media.read_video(source, 25).frames[:29, 20:276, 50:306]
        sound = Track(media.read_audio(source, 16000)[None, :18560])
        write_film(path, frames, tracks=[sound])
        path.with_suffix(".txt").write_text("Channel: BBC1 HD\nClip start: 91.14 seconds\nDuration: 0.47 seconds\n")
    path.with_suffix(".txt").write_text("Duration: none\n")
    (path.parent / "ABOUT_00002.mp4").write_bytes(path.read_bytes())
    summary = preprocess(tmp_path, tmp_path / "out", SETTINGS)
    assert (summary["layout"], summary["splits"], summary["frames"]) == ("lrw", {"train": 1, "val": 1}, 58)
    assert summary["skipped"] == {"damaged": 1}  # whose .txt is broken
    corpus = Corpus(tmp_path / "out")
    clip = corpus.load(corpus.clip("ABOUT/train/ABOUT_00001"))
    assert (clip.speaker, len(clip.frames), len(clip.waveform)) == ("unknown", 29, 18560)
    assert clip.info["words"] == [{"word": "about", "start": 0.345, "end": 0.815}]
    assert corpus.load(corpus.clip("ABOUT/val/ABOUT_00002")).info["words"] is None


def test_crema_clips_are_resampled_and_paired(tmp_path: Path) -> None:
    """The same face at 30 frames a second with its sound apart is stored as at 25 with its sound inside."""
    original = GRID / "s1/bbaf2n.mp4"
    frames, sound = media.read_video(original, 30).frames, media.read_audio(original, 16000)[None]
    for actor in ("1001", "1089"):
        film = Film(fps=Fraction(30000, 1001), codec="flv")
        write_film(tmp_path / f"crema/VideoFlash/{actor}_DFA_ANG_XX.flv", frames, film)
    write_wav(tmp_path / "crema/AudioWAV/1001_DFA_ANG_XX.wav", sound)
    summary = preprocess(tmp_path / "crema", tmp_path / "out", SETTINGS)
    assert (summary["layout"], summary["splits"]) == ("crema", {"train": 1})
    rows = {row.id: row for row in read_manifest(tmp_path / "out")}
    skipped = rows["1089_DFA_ANG_XX"]
    assert (skipped.split, skipped.reason) == ("test", "no sound")
    assert skipped.detail.endswith("AudioWAV/1089_DFA_ANG_XX.wav is missing")
    shutil.copytree(GRID / "s1", tmp_path / "as it was")
    preprocess(tmp_path / "as it was", tmp_path / "whole", SETTINGS)
    corpus, whole = Corpus(tmp_path / "out"), Corpus(tmp_path / "whole")
    clip, same = corpus.load(corpus.clip("1001_DFA_ANG_XX")), whole.load(whole.clip("bbaf2n"))
    assert clip.info["source_fps"] == pytest.approx(30000 / 1001, abs=0.05)
    assert len(clip.frames) == pytest.approx(len(same.frames), abs=1)
    n_frames = min(len(clip.frames), len(same.frames))
    assert np.abs(clip.landmarks[:n_frames] - same.landmarks[:n_frames]).mean() < 0.5
    n_samples = n_frames * 640
    assert np.abs(clip.waveform[:n_samples] - same.waveform[:n_samples]).max() < 1e-3


@pytest.mark.skipif(not SHARED_GRID.is_dir(), reason=f"{SHARED_GRID} is not there")
def test_grid_is_read_from_the_corpus_or_one_speaker(tmp_path: Path) -> None:
    """The corpus as it was handed out: align beside the speakers, which one speaker's folder does not show."""
    for speaker, n_clips in (("s1", 1), ("s2", 1)):
        (tmp_path / "grid" / speaker).mkdir(parents=True)
        for path in sorted((SHARED_GRID / speaker).glob("*.mp4"))[:n_clips]:
            (tmp_path / "grid" / speaker / path.name).symlink_to(path.resolve())
    (tmp_path / "grid/align").symlink_to((SHARED_GRID / "align").resolve())
    summary = preprocess(tmp_path / "grid", tmp_path / "all", SETTINGS)
    assert (summary["layout"], summary["clips"], summary["speakers"]) == ("grid", 2, 2)
    preprocess(tmp_path / "grid/s1", tmp_path / "one", SETTINGS)
    every, one = Corpus(tmp_path / "all"), Corpus(tmp_path / "one")
    for ref in one.clips("train"):
        clip = one.load(ref)
        assert [word["word"] for word in clip.info["words"]] == clip.info["text"].split()
        assert every.clip(clip.id).sha256 == ref.sha256
