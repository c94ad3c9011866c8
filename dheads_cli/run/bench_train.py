"""`dheads bench train`: steps, batches, and a training of both: who waits for whom. Read from `bench_train` on."""

from __future__ import annotations

import os
import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import Any

import torch

from dheads_cli import console
from dheads_cli.data.batch import Batch
from dheads_cli.data.mixture import SampleSet
from dheads_cli.model.build import Parts, build_model, choose_device, choose_precision, random_inputs
from dheads_cli.model.timesteps import TIMESTEPS
from dheads_cli.recipe import Recipe
from dheads_cli.run.bench_feeds import TARGETS, Feed, data_of, feeds_of, making, train_on
from dheads_cli.run.bench_parts import ROUNDS, Convolutions, Timing, interleave, shown
from dheads_cli.run.compiled import compiled
from dheads_cli.run.device_speed import Call, Clock, flop_of_training, shapes_of
from dheads_cli.run.encode_ahead import encode_ahead
from dheads_cli.run.train import mixed_sets, training_loss, training_sets
from dheads_cli.run.training_loop import optimise
from dheads_cli.run.training_loss import TrainingLoss
from dheads_cli.run.training_state import fresh_state


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
    recipes = {n: with_targets(recipe, n) for n in (1, TARGETS)}
    sets = {n: training_sets(each, parts, split, augmented=True) for n, each in recipes.items()}
    for data in chain(*sets.values()):  # as training does
        encode_ahead(data, len(data.clips) * (1 + data.hearing.versions.n))
    mixtures = {n: mixed_sets(each, sets[n]) for n, each in recipes.items()}
    batch = mixtures[1].batch(1, size)
    steps = {
        name: partial(optimise, recipe, state, loss_of)
        for name, loss_of in losses_of(recipe, parts, target, compiles).items()
    }
    feeds = {feed: data_of(feed, mixtures, sets[1][0]) for feed in feeds_of(size)}
    on_one_batch = {name: partial(step, batch) for name, step in steps.items()}
    timings, peaks = time_apart(on_one_batch, feeds, size, seconds, clock)
    fastest = min(steps, key=lambda name: timings[name].median)
    found: dict[str, Any] = {
        "recipe": recipe.name,
        "device": str(target),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "batch_size": size,
        "gflop_per_sample": flop / size / 1e9,
        "peak_gflops": {label: peak / 1e9 for label, peak in peaks.items()},
        "steps": [step_of(name, timings[name].median, size, flop, peaks) for name in steps],
        "feeds": [
            {**asdict(feed), "samples_per_s": feed.workers * size / timings[str(feed)].median} for feed in feeds
        ],
        "training": [
            {
                **asdict(loop.feed),
                "step": fastest,
                "samples_per_s": statistics.median(loop.rates),
                "wait_share": statistics.median(loop.waits),
                "share_of_peak": statistics.median(loop.rates) * flop / size / peaks[fastest.split(", ")[1]],
            }
            for loop in train_on(feeds, size, steps[fastest], seconds, clock)
        ],
    }
    show(found)
    console.result(found)
    return found


def time_apart(
    steps: Mapping[str, Call], feeds: Mapping[Feed, SampleSet[Batch]], size: int, seconds: float, clock: Clock
) -> tuple[dict[str, Timing], dict[str, float]]:
    """Time steps, batches of each feed and convolutions in turns: the times, and the peak by precision, FLOP/s."""
    convolutions = Convolutions()
    for label, precision in precisions_of(clock.device).items():
        convolutions.add(label, shapes_of(clock.device), precision, clock.device)
    for name, step in steps.items():
        console.info(f"first step, {name}")
        step()
    with ExitStack() as stack:
        batches_of = {str(feed): making(data, feed, size, stack) for feed, data in feeds.items()}
        calls = {**convolutions.calls, **steps, **batches_of}
        with console.progress("bench steps, batches", total=len(calls) * ROUNDS, unit="turns") as bar:
            timings = interleave(calls, seconds, clock, bar)
    return timings, {label: convolutions.peak(timings, label).flop_per_s for label in precisions_of(clock.device)}


def with_targets(recipe: Recipe, n: int) -> Recipe:
    """The recipe with n targets of each clip and no memory for clips."""
    data = recipe.data.model_copy(update={"targets_per_clip": n, "cache_gb": 0.0})
    return recipe.model_copy(update={"data": data})


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
