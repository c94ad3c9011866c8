"""Ways of making batches that `dheads bench train` compares, alone and in a training."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from dheads_cli import console
from dheads_cli.data.batch import Batch
from dheads_cli.data.dataset import TrainingSet
from dheads_cli.data.mixture import SampleSet
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.batches_ahead import MOST_WORKERS, batches
from dheads_cli.run.device_speed import Call, Clock

HELD = 8  # clips that stand for a corpus in memory
TARGETS = 4  # of each clip, beside 1
LOOP_ROUNDS = 3
UNTIMED = 2  # steps of a training, until its threads are ahead


@dataclass(frozen=True)
class Feed:
    """A way of making batches.

    Attributes:
        held: all clips lie decoded in memory; else each is decoded whenever it is drawn.
        workers: threads.
        targets_per_clip: targets drawn from each clip.
    """

    held: bool
    workers: int
    targets_per_clip: int

    def __str__(self) -> str:
        clips = "clips in memory" if self.held else "clips decoded anew"
        workers = "1 worker" if self.workers == 1 else f"{self.workers} workers"
        return f"{clips}, {workers}, {self.targets_per_clip} of a clip"


@dataclass
class Loop:
    """Trains on the batches of a feed, a few steps at a call.

    Attributes:
        data: makes them.
        feed: how.
        size: samples of a batch.
        step: takes a batch.
        seconds: a call is timed for so long, or for three steps.
        clock: of the device.
        rates: of each call, samples a second.
        waits: share of its time that a batch was waited for.
    """

    data: SampleSet[Batch]
    feed: Feed
    size: int
    step: Callable[[Batch], object]
    seconds: float
    clock: Clock
    rates: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)

    def __call__(self) -> None:
        n_steps, waited, began = 0, 0.0, 0.0
        with batches(self.data, 0, 10**6, Part(0, self.size, self.size), self.feed.workers) as queue:
            for number, (batch, wait_s) in enumerate(queue, start=1):
                if number > UNTIMED:
                    n_steps, waited = n_steps + 1, waited + wait_s
                self.step(batch)
                now = self.clock()
                if number == UNTIMED:
                    began = now
                if n_steps >= 3 and now - began > self.seconds:
                    break
        self.rates.append(n_steps * self.size / (now - began))
        self.waits.append(waited / (now - began))


def feeds_of(size: int) -> list[Feed]:
    """The ways of making batches that are compared."""
    several = max(2, min(MOST_WORKERS, os.cpu_count() or 1))
    found = [Feed(False, 1, 1), Feed(False, several, 1), Feed(True, 1, 1), Feed(True, several, 1)]
    return found if size % TARGETS else [*found, Feed(False, 1, TARGETS), Feed(False, several, TARGETS)]


def data_of(feed: Feed, sets: Mapping[int, SampleSet[Batch]], first: TrainingSet) -> SampleSet[Batch]:
    """What makes a feed's batches: by targets of a clip, or, where clips are to be held, a few of the first corpus."""
    if not feed.held:
        return sets[feed.targets_per_clip]
    few = first.few(HELD)
    few.memory.most_bytes = few.bytes_of_all()
    for ref in few.clips:
        for version in range(1 + few.hearing.versions.n):
            few.sound(ref, version)
    return few


def making(data: SampleSet[Batch], feed: Feed, size: int, stack: ExitStack) -> Call:
    """A call in which each worker makes a batch."""
    pool = stack.enter_context(ThreadPoolExecutor(feed.workers))
    numbers = iter(range(1, 10**9))

    def call() -> None:
        chosen = [next(numbers) for _ in range(feed.workers)]
        for _ in pool.map(lambda number: data.batch(number, size), chosen):
            pass

    call()
    return call


def train_on(
    feeds: Mapping[Feed, SampleSet[Batch]], size: int, step: Callable[[Batch], object], seconds: float, clock: Clock
) -> list[Loop]:
    """Train on the batches of each feed, in turns."""
    loops = [Loop(data, feed, size, step, seconds / LOOP_ROUNDS, clock) for feed, data in feeds.items()]
    with console.progress("bench training", total=len(loops) * LOOP_ROUNDS, unit="turns") as bar:
        for loop in loops * LOOP_ROUNDS:
            loop()
            bar.advance(1)
    return loops
