"""`dheads bench --recipe`: one forward of a recipe's network with made-up weights, beside what the machine could do."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from dheads_cli import console
from dheads_cli.model.build import build_component, build_unet, choose_device, choose_precision, random_inputs
from dheads_cli.model.unet import UNet
from dheads_cli.recipe import Recipe
from dheads_cli.run import bench_parts
from dheads_cli.run.bench_parts import Timing, shown
from dheads_cli.run.device_speed import Call, Clock

LONGEST_S = 100  # a forward that takes longer even at the speed of its fastest convolution is not tried
LAYOUTS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}


def bench_network(recipe: Recipe, *, device: str = "auto", seconds: float = 3.0) -> dict[str, Any]:
    """Time a forward of one frame in each precision and memory layout, in turns with convolutions of its own sizes.

    Args:
        recipe: whose network; no weights and no data are needed.
        device: torch device or "auto".
        seconds: for each measurement.

    Returns:
        Times in s, speeds, and shares of the convolution peak; also printed under --json.
    """
    target = choose_device(device)
    clock, precisions = Clock(target), (torch.float32, torch.bfloat16)
    embed_dim: int = build_component("audio_encoders", recipe.model.audio_encoder).embed_dim
    unet = build_unet(recipe.model, build_component("conditioning", recipe.model.conditioning), embed_dim)
    unet = unet.to(target).eval()
    inputs = random_inputs(recipe.model, embed_dim, 1, target)
    n_flop = bench_parts.forward_flop(unet, inputs)
    settings = [(precision, layout) for precision in precisions for layout in LAYOUTS]
    convolutions = bench_parts.Convolutions()
    for precision, layout in settings:
        convolutions.add(f"{precision} {layout}", shapes_of(recipe), precision, target, LAYOUTS[layout])
    timings = time_in_turns(convolutions.calls, seconds, clock)

    def peak_of(precision: torch.dtype, *layouts: str) -> float:
        """FLOP a second of the fastest convolution, in any layout where none is named."""
        labels = [f"{precision} {layout}" for layout in layouts or LAYOUTS]
        return convolutions.peak(timings, *labels).flop_per_s

    few_seconds = {each: n_flop / peak_of(*each) for each in settings if n_flop / peak_of(*each) <= LONGEST_S}
    timings |= time_in_turns({f"{each}": forward(unet, inputs, *each) for each in few_seconds}, seconds, clock)
    found: dict[str, Any] = {
        "recipe": recipe.name,
        "device": str(target),
        "threads": torch.get_num_threads(),
        "own_bf16": choose_precision("auto", target) == torch.bfloat16,
        "n_parameters": sum(parameter.numel() for parameter in unet.parameters()),
        "tflop": n_flop / 1e12,
        "forwards": [],
    }
    for precision, layout in settings:
        each: dict[str, Any] = {
            "precision": str(precision).removeprefix("torch."),
            "layout": layout,
            "peak_gflops": peak_of(precision) / 1e9,
            "at_least_s": n_flop / peak_of(precision, layout),
        }
        if timing := timings.get(f"{(precision, layout)}"):
            speed = n_flop / timing.fastest
            each |= {"fastest_s": timing.fastest, "median_s": timing.median, "gflops": speed / 1e9}
            each["share_of_peak"] = speed / peak_of(precision)
        found["forwards"].append(each)
    show(found)
    console.result(found)
    return found


def time_in_turns(calls: dict[str, Call], seconds: float, clock: Clock) -> dict[str, Timing]:
    """Time calls, with a bar."""
    with console.progress("bench", total=len(calls) * bench_parts.ROUNDS, unit="turns") as bar:
        return bench_parts.interleave(calls, seconds, clock, bar)


def shapes_of(recipe: Recipe) -> list[tuple[int, int, int]]:
    """(batch, channels, px) of the 3x3 convolutions that each level of the network is mostly made of."""
    model = recipe.model
    size = model.size // model.patch_size
    return [(1, model.channels * factor, size // 2**level) for level, factor in enumerate(model.channel_mult)]


def forward(unet: UNet, inputs: tuple[Any, ...], precision: torch.dtype, layout: str) -> Call:
    """The U-Net as generate() calls it, its convolutions in one memory layout."""
    memory_format, call = LAYOUTS[layout], bench_parts.forward(unet, inputs, precision)

    def arranged() -> None:
        if unet.memory_format != memory_format:  # the turn before had the other one
            arrange(unet, memory_format)
        call()

    arranged()
    return arranged


def arrange(unet: UNet, memory_format: torch.memory_format) -> None:
    """Lay the weights and activations of the 2-d convolutions out in a memory format."""
    unet.memory_format = memory_format
    for module in unet.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=memory_format)


def show(found: dict[str, Any]) -> None:
    """The table."""
    rows = []
    for each in found["forwards"]:
        cells = ["", "", "", f"not tried: at least {each['at_least_s']:.3g} s"]
        if "gflops" in each:
            share = f"{each['share_of_peak']:.0%} of {each['peak_gflops']:.4g} GFLOP/s"
            cells = [shown(each["fastest_s"]), shown(each["median_s"]), f"{each['gflops']:.4g} GFLOP/s", share]
        rows.append([f"{each['precision']}, {each['layout']}", *cells])
    title = f"{found['recipe']} on {found['device']}: {found['n_parameters']:,} parameters, {found['tflop']:.4g} TFLOP"
    columns = ["one forward, batch 1", "fastest", "median", "speed", "share of the convolution peak"]
    footer = f"{found['threads']} threads; the peak is the fastest 3x3 convolution's in that precision."
    if not found["own_bf16"]:
        footer += f"\n{found['device']} has no arithmetic of its own for bf16: it is emulated."
    console.table(title, columns, rows, footer)
