"""Several corpora in one training."""

import json
from dataclasses import fields, replace

import pytest
import torch
from corpus import make_clip, make_corpus, write_corpus
from test_dataset import training_set
from test_train import bytes_of
from test_train import recipe as small_recipe

from dheads_cli.data.mixture import Mixture, corpus_names
from dheads_cli.errors import DheadsError
from dheads_cli.recipe_data import Data
from dheads_cli.run.train import train


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("corpora")
    splits = {"train": 4, "val": 2}
    first = make_corpus(root / "a", splits)
    clips = [make_clip(number + 50, split) for number, split in enumerate(["train"] * 4 + ["val"] * 2)]
    # Another corpus, some of whose clips have the same ids.
    second = write_corpus(root / "b", [replace(clip, id=f"s0/clip{i}") for i, clip in enumerate(clips)])
    return first, second


@pytest.fixture(scope="module")
def mixture(folders):
    return Mixture([training_set(folder) for folder in folders], [1, 3])


def same(a, b):
    for field in fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, list):
            assert len(left) == len(right)
            assert all(map(torch.equal, left, right)), field.name
        elif left is not None:
            assert torch.equal(left, right), field.name


def test_samples_come_from_the_corpora_by_their_weights(mixture):
    drawn = torch.cat([mixture.batch(step, 32).corpus for step in range(30)])
    assert drawn.float().mean().item() == pytest.approx(0.75, abs=0.05)


def test_each_sample_is_what_its_corpus_makes_of_its_number(mixture):
    batch = mixture.batch(3, 16)
    for number, corpus in enumerate(batch.corpus.tolist()):
        alone = mixture.sets[corpus].batch(3, 16, [number])
        assert torch.equal(batch.x_0[number], alone.x_0[0])
        assert torch.equal(batch.audio[number], alone.audio[0])
        assert torch.equal(batch.motion_noise[number], alone.motion_noise[0])


def test_a_part_of_a_batch_is_as_it_is_in_the_whole(mixture):
    whole, part = mixture.batch(5, 16), mixture.batch(5, 16, range(4, 12))
    for field in fields(whole):
        value = getattr(whole, field.name)
        if isinstance(value, torch.Tensor):
            assert torch.equal(value[4:12], getattr(part, field.name)), field.name


def test_the_same_step_gives_the_same_batch_whatever_was_made_before(folders, mixture):
    mixture.batch(9, 8)
    fresh = Mixture([training_set(folder) for folder in folders], [1, 3])
    same(mixture.batch(2, 8), fresh.batch(2, 8))


def test_names_of_corpora_are_unique(tmp_path):
    assert corpus_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert len(set(corpus_names([tmp_path / "x/a", tmp_path / "y/a"]))) == 2


def test_corpora_of_other_frame_rates_are_refused(tmp_path, folders):
    slow = write_corpus(tmp_path / "slow", [replace(make_clip(i, "train"), fps=20.0) for i in range(2)])
    with pytest.raises(DheadsError, match="slow"):
        Mixture([training_set(folders[0]), training_set(slow)], [1, 1])


@pytest.mark.parametrize(
    ("path", "paths"),
    [("x", ["x"]), (["x", {"path": "y", "weight": 2.0}], ["x", "y"])],
)
def test_a_path_is_one_corpus_or_several(path, paths):
    data = Data(path=path)
    assert [source.path for source in data.sources] == paths
    assert str(data.first) == "x"


@pytest.mark.parametrize("path", [[], ["x", "x"], [{"path": "x", "weight": 0.0}]])
def test_no_corpus_a_corpus_twice_and_no_weight_are_mistakes(path):
    with pytest.raises(ValueError, match=r"corpus|greater"):
        Data(path=path)


def mixed(folders, steps=6):
    recipe = small_recipe(folders[0], steps)
    sources = [{"path": str(folders[0])}, {"path": str(folders[1]), "weight": 3.0}]
    return recipe.model_copy(update={"data": Data(path=sources)})


def test_the_log_tells_the_loss_of_each_corpus(folders, tmp_path):
    train(mixed(folders), tmp_path / "run", device="cpu")
    lines = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    logged = {name for line in lines for name in line}
    assert {"loss/a", "loss/b", "val_loss/a", "val_loss/b"} <= logged
    validation = next(line for line in lines if "val_loss" in line)
    low, high = sorted([validation["val_loss/a"], validation["val_loss/b"]])
    assert low <= validation["val_loss"] <= high


def test_a_resumed_mixture_equals_an_unbroken_one(folders, tmp_path):
    broken = mixed(folders)
    stopped = broken.model_copy(update={"train": broken.train.model_copy(update={"steps": 3, "lr_final": 1.0})})
    whole = broken.model_copy(update={"train": broken.train.model_copy(update={"lr_final": 1.0})})
    train(whole, tmp_path / "whole", device="cpu")
    train(stopped, tmp_path / "resumed", device="cpu")
    train(whole, tmp_path / "resumed", device="cpu")
    assert bytes_of(tmp_path / "resumed") == bytes_of(tmp_path / "whole")
