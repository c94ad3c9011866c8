"""`dheads bench`: how fast this machine does what dheads does, all in one run. Read from `bench` downwards."""

from __future__ import annotations

import os
import statistics
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from dheads_cli import console, registry
from dheads_cli.data import media
from dheads_cli.data.corpora import ClipSource
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import choose_device, choose_precision, random_inputs
from dheads_cli.model.checkpoint import Trained, load_model
from dheads_cli.run import bench_parts, bench_preprocess
from dheads_cli.run.animate_clip import DEFAULT_MODEL
from dheads_cli.run.bench_animate import AnimateLoop, write_speech
from dheads_cli.run.bench_parts import Peak, Timing
from dheads_cli.run.bench_preprocess import usable_clips
from dheads_cli.run.bench_table import COLUMNS, rows
from dheads_cli.run.device_speed import Call, Clock, shapes_of
from dheads_cli.run.doctor import FACE
from dheads_cli.run.identity import find_face
from dheads_cli.run.look import DEFAULT_SIZE

PASS_SECONDS = 5  # a pass of the animate loop takes at most this many times a measurement's seconds
QUIET = 0.3  # load a core, above which the machine is said to be busy


def bench(
    *,
    model: str | None = None,
    device: str = "auto",
    seconds: float = 3.0,
    face: Path | None = None,
    speech: Path | None = None,
    corpus: Path | None = None,
) -> dict[str, Any]:
    """Measure, and print what was found.

    Args:
        model: checkpoint, run folder or shipped model; None is `small`.
        device: torch device or "auto".
        seconds: for each measurement.
        face: photo for the animate loop; None is a small one that ships with dheads.
        speech: recording for it; None is 3 s of a made-up sound.
        corpus: folder of videos to measure preprocessing on; None leaves it out.

    Returns:
        What was measured: times in s, speeds, ratios; also printed under --json.

    Raises:
        DheadsError: there are no weights, or an input can't be used.
    """
    target = choose_device(device)
    trained = load_weights(model or registry.load("models", DEFAULT_MODEL)(), target)
    has_bf16 = choose_precision("auto", target) == torch.bfloat16
    machine = describe_machine(target, has_bf16)
    if machine["load"] > QUIET * machine["cores"]:
        console.warn(f"other work runs here (load {machine['load']}): times are of what it leaves over")
    clips = None if corpus is None else usable_clips(corpus, trained.recipe.preprocess)
    found: dict[str, Any] = {
        "machine": machine,
        "model": {"name": trained.recipe.name, "path": str(trained.path), "size": trained.recipe.model.size},
        "seconds": seconds,
        **measure_model(trained, target, has_bf16, seconds, face, speech),
        "preprocess": None if clips is None else measure_preprocessing(clips, trained, seconds),
    }
    skipped = []
    if "bf16" not in found["peak"]:
        skipped.append(f"{target} has no arithmetic of its own for bf16: only float32 was measured.")
    if clips is None:
        skipped.append("Preprocessing was not measured: name a folder of videos with --corpus.")
    title = f"dheads bench: {trained.recipe.name} on {machine['device']}"
    console.table(title, COLUMNS, rows(found), footer="\n".join(skipped))
    console.result(found | {"skipped": skipped})
    return found


def load_weights(reference: str | Path, device: torch.device) -> Trained:
    """The model to measure; a Path is that of a shipped one.

    Raises:
        DheadsError: it has no weights.
    """
    if isinstance(reference, Path) and not reference.is_file():
        raise DheadsError(
            f"{reference}: the shipped model's weights are not there, and `dheads bench` measures a trained model: "
            "name one with --model (a checkpoint or a run folder)."
        )
    return load_model(reference, device)


def describe_machine(device: torch.device, has_bf16: bool) -> dict[str, Any]:
    """What is measured, and how busy it is before."""
    n_cores, n_threads = os.cpu_count() or 1, torch.get_num_threads()
    name = f"cpu ({torch.backends.cpu.get_cpu_capability()}, {n_cores} cores, {n_threads} threads)"
    if device.type == "cuda":
        name = f"{device} ({torch.cuda.get_device_name(device)}, {n_cores} cores)"
    return {
        "device": name,
        "cores": n_cores,
        "threads": n_threads,
        "bf16": has_bf16,
        "load": round(os.getloadavg()[0], 2),
        "torch": torch.__version__,
    }


def measure_model(
    trained: Trained, device: torch.device, has_bf16: bool, seconds: float, face: Path | None, speech: Path | None
) -> dict[str, Any]:
    """Convolutions, the network, the animate loop and training, in turns."""
    recipe, clock = trained.recipe, Clock(device)
    loop_precision = choose_precision(recipe.train.precision, device)
    # The loop's precision and batch 1 last: the forwards that the loop is compared with come right before it.
    wanted = {torch.float32, loop_precision} | ({torch.bfloat16} if has_bf16 else set())
    precisions = {label_of(each): each for each in sorted(wanted, key=lambda each: each == loop_precision)}
    batches = sorted({recipe.sample.batch_size, 1}, reverse=True)
    convolutions = bench_parts.Convolutions()
    for label, precision in precisions.items():
        convolutions.add(label, shapes_of(device), precision, device)
    calls: dict[str, Call] = dict(convolutions.calls)
    flop: dict[str, float] = {}
    unet, embed_dim = trained.parts.unet, trained.parts.audio_encoder.embed_dim
    inputs = {batch: random_inputs(recipe.model, embed_dim, batch, device) for batch in batches}
    one = bench_parts.forward_flop(unet, inputs[1])
    for label, precision in precisions.items():
        for batch in batches:
            name = f"forward {label} {batch}"
            calls[name], flop[name] = bench_parts.forward(unet, inputs[batch], precision), batch * one
            calls[name]()  # warm
    with tempfile.TemporaryDirectory() as folder:
        if speech is None:
            speech = Path(folder) / "speech.wav"
            write_speech(speech)
        photo = face or FACE
        crop = find_face(media.read_image(photo), photo, recipe.preprocess, recipe.model.size, None).crop
        size = max(DEFAULT_SIZE, recipe.model.size)
        loop = AnimateLoop(trained, crop, speech, Path(folder) / "out.mp4", size, PASS_SECONDS * seconds, clock)
        calls["animate"] = loop
        calls["train"] = bench_parts.training_step(trained, device)
        with console.progress("bench", total=len(calls) * bench_parts.ROUNDS, unit="turns") as bar:
            timings = bench_parts.interleave(calls, seconds, clock, bar)
    peaks = {label: told(convolutions.peak(timings, label)) for label in precisions}
    return {
        "peak": peaks,
        "forward": [
            forward_of(label, batch, timings, flop, peaks[label]["gflops"])
            for label in precisions
            for batch in reversed(batches)
        ],
        "animate": animate_of(loop, timings, label_of(loop_precision)),
        "train": {
            "precision": label_of(loop_precision),
            "batch_size": recipe.train.batch_size,
            **spread(timings["train"]),
            "samples_per_s": recipe.train.batch_size / timings["train"].median,
        },
    }


def label_of(precision: torch.dtype) -> str:
    return "bf16" if precision == torch.bfloat16 else str(precision).removeprefix("torch.")


def spread(timing: Timing, per: int = 1) -> dict[str, float]:
    """Fastest and median call, s."""
    return {"fastest_s": timing.fastest / per, "median_s": timing.median / per}


def told(peak: Peak) -> dict[str, Any]:
    """The fastest call of the fastest convolution, for the report."""
    return {"shape": "x".join(map(str, peak.shape)), **spread(peak.timing), "gflops": peak.flop_per_s / 1e9}


def forward_of(
    label: str, batch: int, timings: dict[str, Timing], flop: dict[str, float], peak: float
) -> dict[str, Any]:
    """The network at one batch size; speed and share of the peak are those of the fastest call, as the peak's is."""
    name = f"forward {label} {batch}"
    speed = flop[name] / timings[name].fastest / 1e9
    return {
        "precision": label,
        "batch_size": batch,
        **spread(timings[name]),
        "gflop": flop[name] / 1e9,
        "gflops": speed,
        "share_of_peak": speed / peak,
    }


def animate_of(loop: AnimateLoop, timings: dict[str, Timing], precision: str) -> dict[str, Any]:
    """The loop: its speed, where its time goes, and what it adds to the forwards."""
    passes, bare = loop.passes, timings[f"forward {precision} 1"]
    n_forwards = passes[0].n_forwards
    # Round by round, so that what slows a whole round slows both.
    rounds = zip(timings["animate"].rounds, bare.rounds, strict=False)
    ratios = [statistics.median(loops) / (n_forwards * statistics.median(forwards)) for loops, forwards in rounds]
    names = passes[0].shares
    return {
        "precision": precision,
        "frames": loop.n_frames,
        "forwards_per_frame": n_forwards / loop.n_frames,
        **spread(timings["animate"], per=loop.n_frames),
        "frames_per_s": loop.n_frames / timings["animate"].median,
        "shares": {name: statistics.median(each.shares[name] for each in passes) for name in names},
        "overhead": statistics.median(ratios) - 1,
        "overhead_over_own_forwards": statistics.median(each.total / each.network for each in passes) - 1,
    }


def measure_preprocessing(clips: list[ClipSource], trained: Trained, seconds: float) -> dict[str, Any]:
    """Frames a second, clips an hour, what share of (workers x detector alone) they are, and LRW's hours by them."""
    with console.progress("bench preprocessing", total=3 * bench_preprocess.ROUNDS, unit="turns") as bar:
        rates = bench_preprocess.preprocessing(clips, trained.recipe.preprocess, seconds, bar)
    names = ("detector", "alone", "together")
    share = [
        together / (rates.n_workers * detector)
        for together, detector in zip(rates.together, rates.detector, strict=True)
    ]
    speeds = {name: statistics.median(getattr(rates, name)) for name in names}
    frames_per_clip = statistics.median(rates.frames_per_clip)
    return {
        "workers": rates.n_workers,
        **{f"{name}_frames_per_s": speed for name, speed in speeds.items()},
        **{f"{name}_clips_per_h": speeds[name] / frames_per_clip * 3600 for name in ("alone", "together")},
        "frames_per_clip": frames_per_clip,
        "share_of_detector": statistics.median(share),
        "share_of_detector_alone": statistics.median(
            alone / detector for alone, detector in zip(rates.alone, rates.detector, strict=True)
        ),
        "estimated_lrw_h": bench_preprocess.estimate_lrw_hours(speeds["together"], rates.n_workers),
        "rounds": asdict(rates),
    }
