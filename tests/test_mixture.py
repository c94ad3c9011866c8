"""Several corpora in one training: each has its share of the samples, and all else is as with one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from corpus import make_clip, make_corpus, write_corpus
from test_dataset import CHANGED, NOISIER, training_set
from test_train import bytes_of, recipe, stop_at_3

from dheads_cli import registry
from dheads_cli.data.mixture import Mixture, mixed
from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import load_model
from dheads_cli.run.batch_parts import Part, cut
from dheads_cli.run.sample import sample
from dheads_cli.run.train import train

SHARES = [0.25, 0.75]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two corpora of different sizes whose clips have the same ids and other frames and sound."""
    tmp = tmp_path_factory.mktemp("corpora")
    first = make_corpus(tmp / "a", {"train": 4})
    others = [replace(make_clip(number + 10, "train"), id=f"s{number}/clip{number}") for number in range(2)]
    return [first, write_corpus(tmp / "b", others)]


def mixture(folders: list[Path], encoder=None, frozen=True, targets=1, shared=False, **changes) -> Mixture:
    sets = [training_set(each, encoder, frozen, targets=targets, versions=NOISIER, **changes) for each in folders]
    for each in sets if shared else ():
        each.memory = sets[0].memory
    return Mixture(sets, SHARES, seed=0, targets_per_clip=targets)


def same(a, b) -> bool:
    """Whether two batches have the same values."""
    for name, value in vars(a).items():
        values, others = ([each] if torch.is_tensor(each) else each for each in (value, getattr(b, name)))
        if (values is None) != (others is None) or not all(map(torch.equal, values or [], others or [])):
            return False
    return True


def test_one_corpus_is_no_mixture(folders):
    data = training_set(folders[0])
    assert mixed([data], [1.0], seed=0) is data


def test_samples_come_from_each_corpus_by_its_share_and_not_its_size(folders):
    drawn = torch.cat([mixture(folders).batch(step, 16).corpus for step in range(20)])
    share = (drawn == 1).float().mean().item()
    assert share == pytest.approx(0.75, abs=3 * (0.25 * 0.75 / 320) ** 0.5)


@pytest.mark.parametrize("frozen", [True, False])
def test_a_sample_is_that_of_its_corpus(folders, frozen):
    encoder = None if frozen else registry.build("audio_encoders", "logmel", {"embed_dim": 8})
    data = mixture(folders, encoder, frozen, **CHANGED)
    batch = data.batch(3, 8)
    assert set(batch.corpus.tolist()) == {0, 1}
    for i, corpus in enumerate(batch.corpus.tolist()):
        alone = data.sets[corpus].batch(3, 8)
        assert torch.equal(batch.x_0[i], alone.x_0[i])
        assert torch.equal(batch.audio[i], alone.audio[i])
        assert torch.equal(batch.motion_noise[i], alone.motion_noise[i])
        assert torch.equal(batch.start[0][i], alone.start[0][i])


def test_a_batch_follows_from_seed_and_step_alone(folders):
    data = mixture(folders, **CHANGED)
    data.batch(1, 8)
    assert same(data.batch(7, 8), mixture(folders, **CHANGED).batch(7, 8))


def test_a_part_of_a_batch_is_that_of_the_whole(folders):
    data = mixture(folders, targets=2, **CHANGED)
    whole = data.batch(7, 8)
    assert whole.corpus[::2].tolist() == whole.corpus[1::2].tolist()
    for part in (Part(0, 3, 8), Part(3, 5, 8)):
        assert same(cut(whole, part), data.batch(7, 8, part.samples))


def test_clips_of_the_same_id_in_one_memory_are_told_apart(folders):
    apart, together = mixture(folders), mixture(folders, shared=True)
    for step in range(4):
        assert same(apart.batch(step, 8), together.batch(step, 8))
    assert {id for _, id in together.sets[0].memory.held} == {ref.id for ref in together.sets[0].clips}
    assert len(together.sets[0].memory.held) == 6


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two corpora with the splits of a training, in folders of the same name."""
    tmp = tmp_path_factory.mktemp("watched")
    return [
        make_corpus(tmp / "one" / "faces", {"train": 3, "val": 2, "test": 1}, n_frames=12),
        make_corpus(tmp / "two" / "faces", {"train": 2, "val": 1}, n_frames=12),
    ]


def weighted(folders: list[Path]) -> list[dict]:
    """`data.path` of several corpora."""
    return [{"path": str(folder), "weight": i + 1} for i, folder in enumerate(folders)]


@pytest.fixture(scope="module")
def unbroken(watched: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    train(recipe(weighted(watched)), run, device="cpu")
    return run


def test_the_log_has_each_corpus_s_losses(unbroken):
    lines = [json.loads(line) for line in (unbroken / "log.jsonl").read_text().splitlines()]
    names = {name for line in lines for name in line}
    assert {"loss", "val_loss", "loss/faces", "loss/faces-2", "val_loss/faces", "val_loss/faces-2"} <= names
    assert not any("share/" in name for name in names)
    val = next(line for line in lines if "val_loss" in line)
    low, high = sorted([val["val_loss/faces"], val["val_loss/faces-2"]])
    assert low < val["val_loss"] < high


def test_one_corpus_is_logged_as_ever(watched, tmp_path):
    train(recipe(weighted(watched[:1]), steps=1), tmp_path / "run", device="cpu")
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert not any(name.endswith("/faces") for line in lines for name in line)


def test_a_resumed_run_equals_an_unbroken_one_byte_for_byte(watched, unbroken, tmp_path):
    run = tmp_path / "resumed"
    stop_at_3(weighted(watched), run)
    train(recipe(weighted(watched)), run, device="cpu")
    assert bytes_of(run) == bytes_of(unbroken)


def test_a_checkpoint_carries_all_corpora_and_is_sampled_from_the_first(watched, unbroken, tmp_path):
    carried = load_model(unbroken, torch.device("cpu")).recipe
    assert carried.data.paths == watched
    assert sample(unbroken, split="test", out=tmp_path / "samples", device="cpu").is_dir()


def test_a_corpus_without_the_split_is_named(watched, tmp_path):
    other = make_corpus(tmp_path / "other", {"train": 2}, n_frames=12)
    with pytest.raises(DheadsError, match=r"other has no clips in the split 'val'"):
        train(recipe(weighted([watched[0], other])), tmp_path / "run", device="cpu")


def test_a_corpus_of_another_frame_rate_is_named(watched, tmp_path):
    slow = [replace(make_clip(number, "train", 12), fps=20.0) for number in range(2)]
    made = write_corpus(tmp_path / "slow", [*slow, replace(slow[0], id="v", split="val")])
    with pytest.raises(DheadsError, match=r"slow: has 20 frames/s, but .*faces 25"):
        train(recipe(weighted([watched[0], made])), tmp_path / "run", device="cpu")


def test_all_clips_have_one_memory(watched, tmp_path):
    settings = recipe(weighted(watched), steps=1)
    data = settings.data.model_copy(update={"cache": "ram", "cache_gb": 1e-5})
    with pytest.raises(DheadsError, match=r"the 5 clips of .*one/faces, .*two/faces, split 'train'"):
        train(settings.model_copy(update={"data": data}), tmp_path / "run", device="cpu")
