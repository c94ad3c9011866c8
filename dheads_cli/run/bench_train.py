"""`dheads bench train`: steps, batches, and a training of both: who waits for whom. Read from `bench_train` on."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch

from dheads_cli import console
from dheads_cli.data.dataset import Batch, TrainingSet
from dheads_cli.model.build import Parts, build_model, choose_device, choose_precision, random_inputs
from dheads_cli.model.timesteps import TIMESTEPS
from dheads_cli.recipe import Recipe
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.batches_ahead import MOST_WORKERS, batches
from dheads_cli.run.bench_parts import ROUNDS, interleave, shown
from dheads_cli.run.compiled import compiled
from dheads_cli.run.device_speed import Call, Clock, convolution, flop_of_training, shapes_of
from dheads_cli.run.encode_ahead import encode_ahead
from dheads_cli.run.train import training_loss, training_set
from dheads_cli.run.training_loop import optimise
from dheads_cli.run.training_loss import TrainingLoss
from dheads_cli.run.training_state import fresh_state

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

    data: TrainingSet
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


def bench_train(
    recipe: Recipe, *, device: str = "auto", seconds: float = 3.0, compiles: bool = False
) -> dict[str, Any]:
    """Measure a recipe's training on its corpus, with weights that are thrown away.

    Args:
        recipe: the recipe.
        device: torch device or "auto".
        seconds: for each measurement.
        compiles: whether to measure the compiled network too.

    Returns:
        What was measured: times in s, samples a second, shares; also printed under --json.

    Raises:
        DheadsError: there is no corpus, or nothing can be compiled here.
    """
    target = choose_device(device)
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    torch.manual_seed(recipe.seed)
    clock, size = Clock(target), recipe.train.batch_size
    parts = build_model(recipe.model, target)
    state = fresh_state(parts, recipe)
    state.step = 1
    one = random_inputs(recipe.model, parts.audio_encoder.embed_dim, 1, target)
    flop = size * flop_of_training(parts.unet, one)
    split = recipe.data.train_split
    sets = {n: training_set(with_targets(recipe, n), parts, split, augmented=True) for n in (1, TARGETS)}
    for data in sets.values():  # as training does
        encode_ahead(data, len(data.clips) * (1 + data.hearing.versions.n))
    batch = sets[1].batch(1, size)
    losses = losses_of(recipe, parts, target, compiles)
    calls: dict[str, Call] = {}
    peaks_of: dict[str, tuple[str, float]] = {}
    for label, precision in precisions_of(target).items():
        for shape in shapes_of(target):
            name = f"convolution {label} {shape}"
            calls[name], convolution_flop = convolution(shape, precision, target)
            peaks_of[name] = label, convolution_flop
    for name, loss_of in losses.items():
        console.info(f"first step, {name}")
        calls[name] = partial(optimise, recipe, state, loss_of, batch)
        calls[name]()
    with ExitStack() as stack:
        feeds = {feed: data_of(feed, recipe, sets) for feed in feeds_of(size)}
        for feed, data in feeds.items():
            calls[str(feed)] = making(data, feed, size, stack)
        with console.progress("bench steps, batches", total=len(calls) * ROUNDS, unit="turns") as bar:
            timings = interleave(calls, seconds, clock, bar)
    peaks = {label: 0.0 for label, _ in peaks_of.values()}
    for name, (label, convolution_flop) in peaks_of.items():
        peaks[label] = max(peaks[label], convolution_flop / timings[name].fastest)
    steps = [step_of(name, timings[name].median, size, flop, peaks) for name in losses]
    fastest = min(losses, key=lambda name: timings[name].median)
    step = partial(optimise, recipe, state, losses[fastest])
    loops = {feed: Loop(data, feed, size, step, seconds / LOOP_ROUNDS, clock) for feed, data in feeds.items()}
    with console.progress("bench training", total=len(loops) * LOOP_ROUNDS, unit="turns") as bar:
        for loop in list(loops.values()) * LOOP_ROUNDS:
            loop()
            bar.advance(1)
    found: dict[str, Any] = {
        "recipe": recipe.name,
        "device": str(target),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "batch_size": size,
        "gflop_per_sample": flop / size / 1e9,
        "peak_gflops": {label: peak / 1e9 for label, peak in peaks.items()},
        "steps": steps,
        "feeds": [
            {**asdict(feed), "samples_per_s": feed.workers * size / timings[str(feed)].median} for feed in feeds
        ],
        "training": [
            {
                **asdict(feed),
                "step": fastest,
                "samples_per_s": statistics.median(loop.rates),
                "wait_share": statistics.median(loop.waits),
                "share_of_peak": statistics.median(loop.rates) * flop / size / peaks[fastest.split(", ")[1]],
            }
            for feed, loop in loops.items()
        ],
    }
    show(found)
    console.result(found)
    return found


def feeds_of(size: int) -> list[Feed]:
    """The ways of making batches that are compared."""
    several = max(2, min(MOST_WORKERS, os.cpu_count() or 1))
    found = [Feed(False, 1, 1), Feed(False, several, 1), Feed(True, 1, 1), Feed(True, several, 1)]
    return found if size % TARGETS else [*found, Feed(False, 1, TARGETS), Feed(False, several, TARGETS)]


def with_targets(recipe: Recipe, n: int) -> Recipe:
    """The recipe with n targets of each clip and no memory for clips."""
    data = recipe.data.model_copy(update={"targets_per_clip": n, "cache_gb": 0.0})
    return recipe.model_copy(update={"data": data})


def data_of(feed: Feed, recipe: Recipe, sets: dict[int, TrainingSet]) -> TrainingSet:
    """The set that makes a feed's batches; where they are to be held, one of a few clips that are."""
    if not feed.held:
        return sets[feed.targets_per_clip]
    few = sets[1].few(HELD)
    few.memory.most_bytes = few.bytes_of_all()
    for ref in few.clips:
        for version in range(1 + few.hearing.versions.n):
            few.sound(ref, version)
    return few


def making(data: TrainingSet, feed: Feed, size: int, stack: ExitStack) -> Call:
    """A call in which each worker makes a batch."""
    pool = stack.enter_context(ThreadPoolExecutor(feed.workers))
    numbers = iter(range(1, 10**9))

    def call() -> None:
        chosen = [next(numbers) for _ in range(feed.workers)]
        for _ in pool.map(lambda number: data.batch(number, size), chosen):
            pass

    call()
    return call


def step_of(name: str, median_s: float, size: int, flop: float, peaks: dict[str, float]) -> dict[str, Any]:
    """What is told of the steps of one kind."""
    network, label = name.split(", ")
    return {
        "network": network,
        "precision": label,
        "median_s": median_s,
        "samples_per_s": size / median_s,
        "share_of_peak": flop / median_s / peaks[label],
    }


def precisions_of(device: torch.device) -> dict[str, torch.dtype]:
    """Those that the device computes in, by name."""
    has_bf16 = choose_precision("auto", device) == torch.bfloat16
    return {"float32": torch.float32} | ({"bf16": torch.bfloat16} if has_bf16 else {})


def losses_of(recipe: Recipe, parts: Parts, device: torch.device, compiles: bool) -> dict[str, TrainingLoss]:
    """The loss as each kind of step computes it, by the network's kind and the precision."""
    timesteps = TIMESTEPS[recipe.train.timesteps](recipe.model.n_timesteps)
    network = compiled(parts.unet, device) if compiles else None
    losses = {}
    for label, precision in precisions_of(device).items():
        losses[f"eager, {label}"] = training_loss(recipe, parts, device, precision, timesteps)
        if network is not None:
            losses[f"compiled, {label}"] = replace(losses[f"eager, {label}"], network=network)
    return losses


def show(found: dict[str, Any]) -> None:
    """The table."""
    rows = []
    for each in found["steps"]:
        remark = f"{shown(each['median_s'])} a step, {each['share_of_peak']:.0%} of the peak"
        rows.append([f"steps alone, {each['network']}, {each['precision']}", f"{each['samples_per_s']:.3g}", remark])
    for each in found["feeds"]:
        rows.append([f"batches alone, {feed_of(each)}", f"{each['samples_per_s']:.3g}", ""])
    for each in found["training"]:
        remark = f"{each['wait_share']:.0%} waiting for data, {each['share_of_peak']:.0%} of the peak"
        rows.append([f"training, {each['step']}, {feed_of(each)}", f"{each['samples_per_s']:.3g}", remark])
    title = f"dheads bench train: {found['recipe']} on {found['device']}, batches of {found['batch_size']}"
    peaks = ", ".join(f"{peak:.4g} ({label})" for label, peak in found["peak_gflops"].items())
    footer = f"{found['gflop_per_sample']:.3g} GFLOP a sample; peak {peaks} GFLOP/s; {found['threads']} threads"
    console.table(title, ["what", "samples/s", "remark"], rows, footer)


def feed_of(each: dict[str, Any]) -> Feed:
    return Feed(each["held"], each["workers"], each["targets_per_clip"])
