"""`dheads preprocess` on two real clips and a collection of unusable ones."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import webdataset
import yaml

from dheads_cli import console, registry
from dheads_cli.data import media
from dheads_cli.data.align import mean_face_in_crop
from dheads_cli.data.corpora import ClipSource
from dheads_cli.data.manifest import read_manifest
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import Preprocess
from dheads_cli.recipe_section import Component
from dheads_cli.run.preprocess import preprocess
from dheads_cli.run.preprocess_clip import process_clip

GRID = Path(__file__).parent / "data/grid"
SHARED_GRID = Path(__file__).parents[2] / "shared/data/grid"
SETTINGS = Preprocess(size=64, workers=1, test_fraction=0, val_fraction=0)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two usable clips and seven that are not, as a folder of one speaker's videos."""
    folder = tmp_path_factory.mktemp("corpus")
    real = media.read_video(GRID / "s1/bbaf2n.mp4", 25).frames
    sound = media.read_audio(GRID / "s1/bbaf2n.mp4", 16000)
    blank = np.full_like(real, 90)
    covered = real.copy()
    covered[10:20] = 90
    kinds = {
        "no-face": (blank, sound),
        "face-lost": (covered, sound),
        "no-sound": (real, None),
        "silent": (real, sound * 0),
        "short-sound": (real, sound[:8000]),
        "too-short": (real[:8], sound[:5120]),
    }
    for name, (frames, wave) in kinds.items():
        with media.VideoWriter(folder / f"{name}.mp4", 25, (360, 288), wave) as writer:
            for frame in frames:
                writer.write(frame)
    for speaker, name in (("s1", "bbaf2n"), ("s2", "bbaf1n")):
        shutil.copy(GRID / speaker / f"{name}.mp4", folder / f"{name}.mp4")
    (folder / "damaged.mp4").write_bytes((GRID / "s1/bbaf2n.mp4").read_bytes()[:20_000])
    return folder


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One short clip."""
    path = tmp_path_factory.mktemp("single") / "clip.mp4"
    with media.VideoWriter(path, 25, (360, 288), np.ones(16 * 640, np.float32) / 9) as writer:
        for frame in media.read_video(GRID / "s1/bbaf2n.mp4", 25).frames[:16]:
            writer.write(frame)
    return path.parent


@pytest.fixture(scope="module")
def done(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus preprocessed in one go, three clips a shard."""
    out = tmp_path_factory.mktemp("out") / "new" / "crops"
    preprocess(corpus, out, SETTINGS.model_copy(update={"clips_per_shard": 3}))
    return out


def contents(folder: Path) -> dict[str, bytes]:
    """All files; there must be no folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_unusable_clips_are_skipped_with_their_reason(done: Path) -> None:
    rows = {row.id: row for row in read_manifest(done)}
    assert {row.id for row in rows.values() if row.status == "ok"} == {"bbaf1n", "bbaf2n"}
    skipped = {name: row.reason for name, row in rows.items() if row.status == "skipped"}
    assert skipped == {
        "damaged": "damaged",
        "face-lost": "face lost",
        "no-face": "no face",
        "no-sound": "no sound",
        "short-sound": "no sound",
        "silent": "no sound",
        "too-short": "too short",
    }
    assert rows["face-lost"].detail == "in 10 frames, 10 to 19"
    assert rows["damaged"].source == "damaged.mp4"


def test_a_stored_clip_is_an_aligned_face_with_its_sound(done: Path) -> None:
    corpus = Corpus(done)
    clip = corpus.load(corpus.clip("bbaf2n"))
    assert clip.frames.shape == (32, 64, 64, 3)
    assert clip.landmarks.shape == (32, 68, 2)
    assert len(clip.waveform) == round(32 / 25 * 16000)
    assert np.abs(clip.landmarks.mean(axis=0)[36:48] - mean_face_in_crop(64)[36:48]).max() < 2.5
    original = media.read_audio(GRID / "s1/bbaf2n.mp4", 16000, 0.0)[: len(clip.waveform)]
    assert np.abs(clip.waveform[: len(original)] - original).max() < 2**-14
    assert clip.info["source_size"] == [360, 288]
    assert len(clip.info["transforms"]) == 32
    assert clip.info["quality"]["interpolated_frames"] == 0
    assert clip.info["quality"]["n_faces"] == 1
    assert clip.info["quality"]["sharpness"] > 0.15
    assert corpus.clip("bbaf2n").quality == clip.info["quality"]


@pytest.mark.skipif(not SHARED_GRID.is_dir(), reason=f"{SHARED_GRID} is not there")
def test_mouths_open_with_the_sound(tmp_path: Path) -> None:
    for path in sorted((SHARED_GRID / "s1").iterdir())[:40:20]:
        (tmp_path / path.name).symlink_to(path.resolve())
    preprocess(tmp_path, tmp_path / "out", SETTINGS)
    corpus = Corpus(tmp_path / "out")
    correlations = []
    for ref in corpus.clips("train"):
        clip = corpus.load(ref)
        opening = clip.landmarks[:, 66, 1] - clip.landmarks[:, 62, 1]
        loudness = np.log(1e-4 + (clip.waveform.reshape(len(opening), -1) ** 2).mean(axis=1))
        # Pearson r with the lips -5 ... 5 frames behind the sound
        late = [np.roll(opening, -lag) for lag in range(-5, 6)]
        correlations.append([np.corrcoef(moved[5:-5], loudness[5:-5])[0, 1] for moved in late])
    mean = np.mean(correlations, axis=0)
    assert int(np.argmax(mean[3:9])) - 2 in (0, 1, 2)
    assert mean[5:8].max() > mean[[0, 1, 2]].max()


def test_a_clip_of_two_people_becomes_the_chosen_one(tmp_path: Path) -> None:
    small = media.read_video(GRID / "s1/bbaf2n.mp4", 25).frames[:16, ::2, ::2]
    large = media.read_video(GRID / "s2/bbaf1n.mp4", 25).frames[:16]
    both = np.full((16, 288, 540, 3), 90, np.uint8)
    both[:, 72:216, :180], both[:, :, 180:] = small, large
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    with media.VideoWriter(corpus / "both.mp4", 25, (540, 288), np.ones(16 * 640, np.float32) / 9) as writer:
        for frame in both:
            writer.write(frame)
    found = {}
    for rule in ("largest", "central"):
        preprocess(corpus, tmp_path / rule, SETTINGS.model_copy(update={"which_face": rule}))
        found[rule] = Corpus(tmp_path / rule).clip("both").quality
    assert found["largest"]["n_faces"] == found["central"]["n_faces"] == 2
    assert found["largest"]["face_height_px"] > 100  # and 50 px high is the other
    assert found["central"]["face_height_px"] > 100


def test_a_clip_that_cuts_to_someone_else_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    scenes = [media.read_video(GRID / name, 25).frames[:10] for name in ("s1/bbaf2n.mp4", "s2/bbaf1n.mp4")]
    with media.VideoWriter(tmp_path / "corpus/cut.mp4", 25, (360, 288), np.ones(20 * 640, np.float32) / 9) as writer:
        for frame in np.concatenate(scenes):
            writer.write(frame)
    with pytest.raises(DheadsError, match=r"can be used \(cut: 1\)"):
        preprocess(tmp_path / "corpus", tmp_path / "out", SETTINGS)


def test_webdataset_reads_the_shards(done: Path) -> None:
    urls = [str(path) for path in sorted(done.glob("*.tar"))]
    samples = list(webdataset.WebDataset(urls, shardshuffle=False))
    assert [json.loads(sample["json"])["id"] for sample in samples] == ["bbaf1n", "bbaf2n"]


def test_a_grid_corpus_keeps_words_and_held_out_speakers(tmp_path: Path) -> None:
    summary = preprocess(GRID, tmp_path, SETTINGS.model_copy(update={"test_speakers": ["s2"]}))
    assert summary["layout"] == "grid"
    assert summary["splits"] == {"test-speakers": 1, "train": 1}
    corpus = Corpus(tmp_path)
    info = corpus.load(corpus.clip("s1/bbaf2n")).info
    assert info["text"] == "bin blue at f two now"
    assert info["words"][0] == {"word": "bin", "start": 0.0, "end": 0.22}
    record = yaml.safe_load((tmp_path / "preprocess.yaml").read_text())
    assert record["settings"]["size"] == 64
    assert record["detector"].startswith("mediapipe of dheads ")


def test_an_lrw_clip_keeps_its_split_and_length(tmp_path: Path) -> None:
    path = tmp_path / "lrw/ABOUT/val/ABOUT_00001.mp4"
    path.parent.mkdir(parents=True)
    video = media.read_video(GRID / "s1/bbaf2n.mp4", 25)
    with media.VideoWriter(path, 25, (256, 256), media.read_audio(GRID / "s1/bbaf2n.mp4", 16000)[:18560]) as writer:
        for frame in video.frames[:29]:
            writer.write(frame[20:276, 50:306])
    path.with_suffix(".txt").write_text("Text:  ABOUT\n")
    summary = preprocess(tmp_path / "lrw", tmp_path / "out", SETTINGS)
    assert (summary["layout"], summary["splits"], summary["frames"]) == ("lrw", {"val": 1}, 29)


def test_a_crema_clip_of_thirty_frames_a_second_has_the_sound_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "crema"
    (folder / "VideoFlash").mkdir(parents=True)
    (folder / "AudioWAV").mkdir()
    frames = media.read_video(GRID / "s2/bbaf1n.mp4", 30).frames
    with av.open(str(folder / "VideoFlash/1001_DFA_ANG_XX.flv"), "w") as container:
        stream = container.add_stream("flv1", rate=30)
        stream.width, stream.height, stream.bit_rate = 360, 288, 2_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    wave = media.read_audio(GRID / "s2/bbaf1n.mp4", 16000)
    with av.open(str(folder / "AudioWAV/1001_DFA_ANG_XX.wav"), "w") as container:
        sound = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        samples = np.round(wave * 32767).astype(np.int16)[None]
        piece = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        piece.sample_rate = 16000
        container.mux(sound.encode(piece))
    preprocess(folder, tmp_path / "out", SETTINGS)
    corpus = Corpus(tmp_path / "out")
    clip = corpus.load(corpus.clip("1001_DFA_ANG_XX"))
    assert (clip.speaker, clip.info["text"]) == ("1001", "don't forget a jacket")
    assert clip.info["source_fps"] == pytest.approx(30, abs=0.1)
    assert abs(len(clip.frames) - len(frames) / 30 * 25) <= 1
    assert np.abs(clip.waveform[:16000] - wave[:16000]).max() < 1e-3


def has_a_row(out: Path) -> bool:
    """Whether a clip of an unfinished corpus has been stored."""
    try:
        return any(path.read_bytes() for path in out.glob(".parts/*.begun"))
    except FileNotFoundError:  # the shard has become whole in this moment
        return True


def has_a_shard(out: Path) -> bool:
    """Whether a shard is whole. The clips behind it still take a second; the last six come all at once."""
    return any(out.glob("*.tar"))


def test_a_run_killed_again_and_again_goes_on_to_the_same_bytes(corpus: Path, done: Path, tmp_path: Path) -> None:
    out = tmp_path / "crops"
    code = (
        "import sys; from pathlib import Path; from dheads_cli.recipe import Preprocess\n"
        "from dheads_cli.run.preprocess import preprocess\n"
        "settings = Preprocess.model_validate_json(sys.argv[3])\n"
        "preprocess(Path(sys.argv[1]), Path(sys.argv[2]), settings)\n"
    )
    settings = SETTINGS.model_copy(update={"clips_per_shard": 3, "workers": 2})
    kept: dict[str, int] = {}

    def kill_when(far_enough: Callable[[Path], bool]) -> bool:
        """Whether the run was killed before it was done: on a busy machine it may be before anybody looks."""
        run = subprocess.Popen([sys.executable, "-c", code, str(corpus), str(out), settings.model_dump_json()])
        until = time.monotonic() + 120
        while not far_enough(out) and time.monotonic() < until and run.poll() is None:
            time.sleep(0.01)
        run.send_signal(signal.SIGKILL)
        run.wait()
        return not (out / "manifest.jsonl").exists()

    for far_enough in (has_a_row, has_a_shard):
        for _ in range(5):
            if kill_when(far_enough):
                break
            shutil.rmtree(out)
            kept.clear()
        else:
            raise AssertionError("five runs were done before they could be killed")
        kept |= {path.name: path.stat().st_mtime_ns for path in out.glob("*.tar")}
    assert kept
    with pytest.raises(DheadsError, match="not finished"):
        Corpus(out)
    preprocess(corpus, out, settings.model_copy(update={"workers": 1}))
    assert contents(out) == contents(done)
    assert all((out / name).stat().st_mtime_ns == when for name, when in kept.items())


def test_a_finished_corpus_is_left_alone(corpus: Path, done: Path) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in done.glob("*.tar")}
    preprocess(corpus, done, SETTINGS.model_copy(update={"clips_per_shard": 3}))
    assert {path.name: path.stat().st_mtime_ns for path in done.glob("*.tar")} == before


def test_other_settings_need_overwrite(single: Path, tmp_path: Path) -> None:
    preprocess(single, tmp_path, SETTINGS)
    (tmp_path / "mine.txt").touch()
    before = contents(tmp_path)
    other = SETTINGS.model_copy(update={"size": 32, "margin_side": 0.3})
    with pytest.raises(DheadsError, match=r"made with other settings \(size, margin_side\).*--overwrite"):
        preprocess(single, tmp_path, other)
    assert contents(tmp_path) == before
    (tmp_path / "embeddings" / "0123").mkdir(parents=True)
    preprocess(single, tmp_path, other, overwrite=True)
    assert not (tmp_path / "embeddings").exists()  # they were of the old clips
    corpus = Corpus(tmp_path)
    assert corpus.load(corpus.clips("train")[0]).frames.shape[1:] == (32, 32, 3)
    assert (tmp_path / "mine.txt").exists()


def test_places_that_take_no_corpus_say_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DheadsError, match="is a file"):
        preprocess(GRID, tmp_path / "file", SETTINGS)
    with pytest.raises(DheadsError, match="is not empty and was not made by"):
        preprocess(GRID, tmp_path, SETTINGS)
    with pytest.raises(DheadsError, match="can't be written"):
        preprocess(GRID, tmp_path / "file" / "below", SETTINGS)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(DheadsError, match="is being written by another"):
            preprocess(GRID, tmp_path, SETTINGS)
    finally:
        os.close(descriptor)


def test_a_corpus_without_any_usable_clip_is_an_error(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "videos").mkdir()
    shutil.copy(corpus / "no-sound.mp4", tmp_path / "videos")
    with pytest.raises(DheadsError, match=r"no clip of .*videos can be used \(no sound: 1\)"):
        preprocess(tmp_path / "videos", tmp_path / "out", SETTINGS)


def test_the_summary_is_shown_and_is_json(capsys: pytest.CaptureFixture[str], corpus: Path, done: Path) -> None:
    settings = SETTINGS.model_copy(update={"clips_per_shard": 3})
    preprocess(corpus, done, settings)
    shown = capsys.readouterr().out
    assert "2 clips of 1 speaker, 64 frames" in shown
    assert "skipped 3 (no sound)" in shown
    console.configure(json=True)
    try:
        preprocess(corpus, done, settings)
    finally:
        console.configure()
    assert json.loads(capsys.readouterr().out)["skipped"]["no sound"] == 3


def test_a_detector_that_ends_python_loses_its_clip_only(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "quits-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: quits\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[dheads.landmark_detectors]\nquits = quits:Quits\n")
    (tmp_path / "quits.py").write_text(
        "class Quits:\n    def __call__(self, frames): raise SystemExit(3)\n    all_faces = __call__\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry.entries.cache_clear()
    settings = SETTINGS.model_copy(update={"detector": Component(use="quits")})
    outcome = process_clip(ClipSource("clip", single / "clip.mp4", "s1", ""), settings)
    registry.entries.cache_clear()
    assert str(outcome) == "crashed: SystemExit: 3"
