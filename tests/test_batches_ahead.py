"""Batches made ahead: the same whoever makes them, and all clips in memory where that is asked for."""

import threading
from pathlib import Path

import pytest
import torch
from corpus import make_corpus
from test_dataset import CHANGED, NOISIER, training_set
from toy_training import Numbers

from dheads_cli.errors import DheadsError
from dheads_cli.recipe_io import load_recipe
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.batches_ahead import batches, n_workers
from dheads_cli.run.decode_ahead import decode_ahead

WHOLE = Part(0, 6, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "c", {"train": 4})


def test_batches_do_not_depend_on_the_number_of_workers_or_on_what_stays_in_memory(folder: Path) -> None:
    made = []
    for workers, cache in ((1, 1e9), (3, 0)):
        data = training_set(folder, versions=NOISIER, cache=cache, **CHANGED)
        with batches(data, 2, 9, WHOLE, workers) as queue:
            made.append([(batch.x_0, batch.motion[0], batch.audio, batch.start[0]) for batch, _ in queue])
    assert len(made[0]) == 7
    for ours, theirs in zip(*made, strict=True):
        assert all(map(torch.equal, ours, theirs))


def test_each_process_makes_its_own_samples_alone() -> None:
    with batches(Numbers(), 0, 3, Part(2, 2, 6)) as queue:
        for step, (batch, _) in enumerate(queue, start=1):
            assert torch.equal(batch.x, Numbers().batch(step, 6).x[2:4])


def test_nothing_is_made_beside_the_first_step() -> None:
    makers = []

    class Noted(Numbers):
        def batch(self, step: int, size: int, samples: range | None = None):
            makers.append((step, threading.current_thread() is threading.main_thread()))
            return super().batch(step, size, samples)

    with batches(Noted(), 0, 4, WHOLE) as queue:
        next(queue)
        assert makers == [(1, True)]
        for _ in queue:
            pass
    assert sorted(makers) == [(1, True), (2, False), (3, False), (4, False)]


def test_a_cpu_that_trains_is_left_alone_unless_asked() -> None:
    assert n_workers(0, torch.device("cpu")) == 1
    assert n_workers(3, torch.device("cpu")) == 3
    assert 1 <= n_workers(0, torch.device("cuda")) <= 8


def test_all_clips_are_held_and_take_what_was_said(folder: Path) -> None:
    data = training_set(folder)
    said = data.bytes_of_all()
    decode_ahead([data], 2)
    assert data.memory.held.keys() == {(folder, ref.id) for ref in data.clips}
    assert data.memory.n_bytes == said


def test_clips_that_do_not_fit_are_refused_with_what_they_take(folder: Path) -> None:
    data = training_set(folder, cache=100_000)
    with pytest.raises(DheadsError, match=r"the 4 clips of .*'train', take 0\.00 GiB, .*: set data\.cache_gb=0\.1"):
        decode_ahead([data], 1)


def test_a_batch_that_holds_no_whole_clips_is_refused_where_its_size_is_given() -> None:
    changes = ["data.targets_per_clip=3", "train.batch_size=8"]
    with pytest.raises(DheadsError, match=r"train\.batch_size.*must be a multiple of data\.targets_per_clip=3, not 8"):
        load_recipe("tiny", changes)
    assert load_recipe("tiny", ["data.targets_per_clip=4"]).recipe.data.targets_per_clip == 4
