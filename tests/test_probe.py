"""`dheads data probe`: encoders of which it is known what a linear map finds in them."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import dheads, make_checkpoint
from corpus import make_clip, make_corpus
from numpy.typing import NDArray
from torch import Tensor

from dheads_cli.data.augment import AUGMENTATIONS
from dheads_cli.data.manifest import ManifestRow, read_rows, write_rows
from dheads_cli.data.shard_writer import ShardWriter
from dheads_cli.data.shards import Corpus
from dheads_cli.data.stored_clip import encode_sample
from dheads_cli.errors import DheadsError
from dheads_cli.run.probe import Probed, probe
from dheads_cli.run.probe_baseline import LogMelColumns
from dheads_cli.run.probe_changes import augmentations, voices
from dheads_cli.run.probe_clips import SoundClip, read_clips
from dheads_cli.run.probe_fit import HeardClip, Window, moments, ridge, targets

FPS, RATE = 25.0, 16000
HOP = round(RATE / FPS)


def smooth(seed: int, n_frames: int = 60) -> NDArray[np.float64]:
    """A trace that moves as slowly as a mouth does, between 0 and 1."""
    noise = np.random.default_rng(seed).standard_normal(n_frames + 4)
    trace = np.convolve(noise, np.ones(5) / 5, "valid")
    return (trace - trace.min()) / np.ptp(trace)


def clip(seed: int, speaker: str = "a", sign: float = 1.0, n_frames: int = 60) -> SoundClip:
    """A clip whose sound is, in each frame, as loud as its mouth is open."""
    trace = smooth(seed, n_frames)
    wave = np.repeat(trace, HOP).astype(np.float32)
    return SoundClip(f"{speaker}/{seed}", speaker, wave, sign * trace, FPS, RATE)


def clips(speakers: str = "a") -> dict[str, list[SoundClip]]:
    return {
        "train": [clip(seed, speakers[seed % len(speakers)]) for seed in range(12)],
        "val": [clip(seed) for seed in range(20, 23)],
        "test": [clip(seed) for seed in range(30, 36)],
        "test-speakers": [clip(seed, "z") for seed in range(40, 44)],
    }


class Loudness:
    """Mean loudness of the frame `late` frames ago, beside dimensions of noise that know nothing."""

    sample_rate, embed_dim, stride_frames, context_frames = RATE, 6, 20, 8

    def __init__(self, late: int = 0, deaf: bool = False) -> None:
        self.late, self.deaf = late, deaf

    def __call__(self, waveform: Tensor, n_frames: int) -> Tensor:
        loudness = waveform.view(len(waveform), n_frames, -1).mean(-1)
        noise = torch.randn(len(waveform), n_frames, 6, generator=torch.Generator().manual_seed(n_frames))
        if not self.deaf:
            noise[..., 2] = loudness.roll(self.late, dims=1)
        return noise


def mean_r(result: Probed, split: str = "test") -> float:
    return float(np.mean(list(result.scores[split].r.values())))


def test_an_encoder_that_hears_the_mouth_scores_1():
    result = probe(Loudness(), clips())
    for split in ("test", "test-speakers"):
        assert min(result.scores[split].r.values()) > 0.999
        assert result.scores[split].lag == 0
        assert abs(np.mean(list(result.scores[split].shuffled.values()))) < 0.3


def test_an_encoder_of_noise_scores_about_0():
    assert abs(mean_r(probe(Loudness(deaf=True), clips()))) < 0.3


@pytest.mark.parametrize("late", [1, 2])
def test_an_encoder_that_lags_is_told_by_its_lag(late):
    result = probe(Loudness(late), clips(), audio_context=0)
    assert result.scores["test"].lag == late
    assert mean_r(result) < 0.95


def test_the_window_lets_the_probe_look_ahead():
    result = probe(Loudness(late=2), clips(), audio_context=2)
    assert result.scores["test"].lag == 0
    assert mean_r(result) > 0.98  # all but the ends, where the window repeats the last embedding


def heard(embeddings: NDArray[np.float64], opening: NDArray[np.float64], speaker: str = "a") -> HeardClip:
    return HeardClip("", speaker, embeddings.astype(np.float32), opening)


def test_a_ridge_of_no_strength_is_least_squares():
    rng = np.random.default_rng(0)
    made = [heard(3 + rng.standard_normal((40, 3)) * [1, 5, 0.1], rng.standard_normal(40)) for _ in range(11)]
    window = Window.of(made, 1)
    inputs = np.concatenate([window(each.embeddings) for each in made])
    wanted = np.concatenate([each.opening for each in made])
    expected = np.linalg.lstsq(np.column_stack([inputs, np.ones(len(inputs))]), wanted, rcond=None)[0][:-1]
    weak, strong = ridge(moments(made, [each.opening for each in made], window), [1e-9, 10.0])
    np.testing.assert_allclose(weak, expected, atol=1e-5)
    assert np.linalg.norm(strong) < 0.5 * np.linalg.norm(weak)


def test_the_sums_of_a_part_can_be_taken_away():
    made = [heard(np.random.default_rng(i).standard_normal((30, 4)), smooth(i, 30)) for i in range(20)]
    window, wanted = Window.of(made, 2), [each.opening for each in made]
    rest = moments(made, wanted, window).without(moments(made[:9], wanted[:9], window))
    expected = moments(made[9:], wanted[9:], window)
    assert rest.n == expected.n
    np.testing.assert_allclose(rest.xx, expected.xx, atol=1e-3)
    np.testing.assert_allclose(rest.xy, expected.xy, atol=1e-3)


def test_frames_without_a_face_are_left_out():
    made = heard(np.random.default_rng(0).standard_normal((30, 4)), smooth(0, 30))
    hidden = replace(made, opening=np.where(np.arange(30) < 10, np.nan, made.opening))
    window = Window.of([made], 0)
    sums = moments([hidden], [hidden.opening], window)
    assert sums.n == 20
    np.testing.assert_allclose(sums.x, window(made.embeddings)[10:].sum(axis=0), atol=1e-4)


def test_an_input_that_never_varies_gets_no_weight():
    made = heard(np.column_stack([np.ones(30), smooth(0, 30)]), smooth(0, 30))
    assert ridge(moments([made], [made.opening], Window.of([made], 0)), [1e-6])[0][0] == 0


def test_openings_are_standardised_over_a_speakers_clips():
    still = np.zeros((20, 1))
    wanted = targets([heard(still, 5 + 10 * smooth(0, 20), "wide"), heard(still, smooth(1, 20), "a"),
                      heard(still, 2 + smooth(2, 20), "a"), heard(still, np.full(20, 7.0), "mute")])  # fmt: skip
    of_a = np.concatenate(wanted[1:3])
    for trace in (wanted[0], of_a):
        assert trace.mean() == pytest.approx(0, abs=1e-9)
        assert trace.std() == pytest.approx(1)
    assert wanted[2].mean() > wanted[1].mean() + 1  # not clip by clip
    assert np.all(wanted[3] == 0)


def test_held_out_clips_do_not_reach_the_probe():
    one, other = clips(), clips()
    other["test"] = [clip(seed, sign=-1) for seed in range(50, 60)]
    other["test-speakers"] = [clip(seed, "y", sign=-1) for seed in range(60, 66)]
    first, second = probe(Loudness(), one), probe(Loudness(), other)
    assert np.array_equal(first.probe.weights, second.probe.weights)
    assert mean_r(second) < -0.99
    del one["test"]  # a corpus may have one of them only
    assert list(probe(Loudness(), one).scores) == ["test-speakers"]


def test_a_left_out_speaker_is_scored_by_the_others_alone():
    odd = clips("abc")
    odd["train"] = [replace(each, opening=-each.opening) if each.speaker == "c" else each for each in odd["train"]]
    left_out = probe(Loudness(), odd, leave_speakers_out=True).left_out
    assert len(left_out) == 12
    assert max(r for name, r in left_out.items() if name.startswith("c/")) < -0.9
    assert probe(Loudness(), odd).left_out == {}


def test_changed_sound_is_scored_by_the_probe_of_clean_sound():
    asked = []

    def silence(clip):
        asked.append(clip.id)
        return np.zeros_like(clip.waveform)

    result = probe(Loudness(), clips(), changes={"silence": silence, "same": lambda clip: clip.waveform})
    assert abs(np.mean(list(result.changed["silence"]["test"].r.values()))) < 0.3
    assert result.changed["same"]["test"].r == result.scores["test"].r
    assert mean_r(result) > 0.999
    assert asked == [clip.id for split in ("test", "test-speakers") for clip in clips()[split]]


def test_a_change_is_scored_on_the_clips_it_can_be_made_of():
    first = clips()["test"][0].id
    change = {"first": lambda clip: clip.waveform if clip.id == first else None}
    result = probe(Loudness(), clips(), changes=change)
    assert result.changed["first"].keys() == {"test"}
    assert result.changed["first"]["test"].r == {first: result.scores["test"].r[first]}


def test_voices_speak_the_clips_whose_words_have_times():
    silent = clips()["test"][0]
    words = ({"word": "blue", "start": 0.2, "end": 0.5},)
    aligned = replace(silent, words=words)
    with pytest.raises(DheadsError, match="no held-out clip of the corpus has words whose times are known"):
        voices(["de"], [silent])
    change = voices(["de"], [silent, aligned])["voice de"]
    assert change(silent) is None
    if shutil.which("espeak-ng") is None:
        with pytest.raises(DheadsError, match="espeak-ng is not installed"):
            change(aligned)
        return
    spoken = change(aligned)
    assert spoken.shape == silent.waveform.shape
    loud = np.flatnonzero(spoken) / RATE
    assert 0.19 < loud.min() < 0.25
    assert 0.4 < loud.max() < 0.5


@pytest.mark.parametrize("fps", [25, 30])
def test_the_baselines_columns_lie_in_their_frame(fps):
    wave = 1e-3 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(0))
    wave[0, RATE * 11 // fps + 200 : RATE * 11 // fps + 300] = 0.5
    loudness = LogMelColumns(RATE)(wave, fps)[0].view(fps, 4, 80).mean((1, 2))
    assert loudness.argmax() == 11


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    splits = {"train": 10, "val": 3, "test": 4, "test-speakers": 3}
    return make_corpus(tmp_path_factory.mktemp("probe") / "corpus", splits, n_frames=40)


def test_the_command_finds_the_made_up_mouths(corpus, tmp_path):
    run = make_checkpoint(tmp_path / "model.safetensors")
    lines = tmp_path / "clips.csv"
    words = ("data", "probe", corpus, "--encoders", "logmel", "--from", run, "--context", "0")
    more = ("--csv", lines, "--leave-speakers-out", "--augment", "gain,noise", "--strength", "1")
    ended = dheads(*words, *more, "--json")
    assert ended.code == 0, ended.stderr
    report = json.loads(ended.stdout)
    assert report["clips"] == {"train": 10, "val": 3, "test": 4, "test-speakers": 3}
    baseline, fresh, trained = report["encoders"]
    assert baseline["scores"]["test"]["mean"] > 0.9
    assert baseline["scores"]["test"]["lag_frames"] == 0
    assert baseline["left_out"]["speakers"].keys() == {"s0", "s1"}
    assert (fresh["encoder"], trained["encoder"]) == ("logmel", f"logmel of {run}")
    assert fresh["note"].startswith("untrained")
    assert trained["note"] == ""
    assert (fresh["embed_dim"], trained["embed_dim"]) == (256, 8)
    assert fresh["latency_s"] == pytest.approx(107 / 25)
    with lines.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (1 + 2) * 7
    for change, scores in {"": baseline["scores"], **baseline["changed"]}.items():
        which = {"encoder": "log-mel columns", "change": change, "split": "test"}
        r = [float(row["r"]) for row in rows if which.items() <= row.items()]
        assert np.mean(r) == pytest.approx(scores["test"]["mean"])
    assert baseline["changed"].keys() == {"gain", "noise"}
    assert baseline["changed"]["noise"]["test"]["mean"] != baseline["scores"]["test"]["mean"]
    shown = dheads(*words)
    assert "Held-out speakers" in shown.stdout
    assert f"{baseline['scores']['test']['mean']:.3f}" in shown.stdout


def test_augmentations_are_changes_that_a_clip_always_gets_alike():
    made = augmentations(["all"], 0.5, 0)
    assert list(made) == list(AUGMENTATIONS)
    noise, a = made["noise"], clips()["test"][0]
    b = replace(a, id="b")
    assert np.array_equal(noise(a), noise(a))
    assert not np.array_equal(noise(a), noise(b))
    assert not np.array_equal(noise(a), augmentations(["noise"], 0.5, 1)["noise"](a))
    assert np.array_equal(augmentations(["noise"], 0, 0)["noise"](a), a.waveform)
    with pytest.raises(DheadsError, match=r"no augmentation 'nois'; did you mean 'noise'\?"):
        augmentations(["nois"], 0.5, 0)


def test_untrained_weights_come_from_the_seed(corpus):
    def mean(seed):
        words = ("--encoders", "logmel", "--context", "0", "--limit", "3", "--json")
        ended = dheads("data", "probe", corpus, *words, "--seed", seed)
        return json.loads(ended.stdout)["encoders"][1]["scores"]["test"]["mean"]

    assert mean(1) == mean(1) != mean(2)


def test_a_clip_whose_mouth_is_still_is_left_out(tmp_path):
    shard, rows = ShardWriter(tmp_path / "all-000000.tar"), []
    for number, split in enumerate(["train", "train", "val", "test"]):
        made = make_clip(number, split)
        if number == 1:
            made = replace(made, landmarks=np.repeat(made.landmarks[:1], len(made.landmarks), axis=0))
        places, digest = shard.add(str(number), encode_sample(made))
        rows.append(ManifestRow(made.id, str(number), split, made.speaker, "clip.mp4", "ok", shard=shard.path.name,
                                n_frames=20, members=places, sha256=digest))  # fmt: skip
    shard.close()
    write_rows(tmp_path / "manifest.jsonl", rows)
    read, n_silent = read_clips(Corpus(tmp_path), None)
    assert n_silent == 1
    assert [each.id for each in read["train"]] == ["s0/clip0"]
    assert read["test"][0].waveform.shape == (20 * HOP,)


@pytest.mark.parametrize(("missing", "said"), [
    ({"val"}, "no clips in the split 'val'"), ({"test", "test-speakers"}, "neither a split 'test' nor 'test-speakers'"),
])  # fmt: skip
def test_a_missing_split_is_named(corpus, tmp_path, missing, said):
    rows = [row for row in read_rows(corpus / "manifest.jsonl") if row.split not in missing]
    write_rows(tmp_path / "manifest.jsonl", rows)
    for shard in corpus.glob("*.tar"):
        (tmp_path / shard.name).symlink_to(shard)
    with pytest.raises(DheadsError, match=said):
        read_clips(Corpus(tmp_path), None)


def test_a_wrong_encoder_is_told_at_once(corpus):
    ended = dheads("data", "probe", corpus, "--encoders", "whisper,logmell")
    assert ended.code == 2
    assert "did you mean 'logmel'?" in ended.stderr


def test_mistakes_are_told_before_the_work(corpus, tmp_path):
    ended = dheads("data", "probe", corpus, "--encoders", "logmel", "--csv", tmp_path / "none" / "clips.csv")
    assert ended.code == 2
    assert "there is no folder" in ended.stderr
    ended = dheads("data", "probe", corpus, "--encoders", "logmel", "--csv", tmp_path)
    assert ended.code == 2
    assert "is a folder: give the file to write" in ended.stderr
    ended = dheads("data", "probe", corpus, "--encoders", "logmel", "--limit", "1", "--leave-speakers-out")
    assert ended.code == 2
    assert "one speaker only in the split 'train'" in ended.stderr
