"""What `dheads bench` times in turns: convolutions, the network, the animate loop and training, each as a call."""

from __future__ import annotations

import copy
import itertools
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dheads_cli.console import Bar
from dheads_cli.data.batch import Batch
from dheads_cli.model.build import Parts, choose_precision
from dheads_cli.model.checkpoint import Trained
from dheads_cli.model.diffusion import Objective
from dheads_cli.model.speech import samples_of
from dheads_cli.model.timesteps import TIMESTEPS
from dheads_cli.model.unet import UNet
from dheads_cli.recipe import Recipe
from dheads_cli.run.device_speed import Call, Clock, convolution
from dheads_cli.run.training_loop import optimise
from dheads_cli.run.training_loss import TrainingLoss
from dheads_cli.run.training_state import fresh_state

ROUNDS = 5
SLOW = 15  # a measurement that has taken this many times its seconds is not called in further rounds


@dataclass
class Timing:
    """Seconds of each call of one measurement, round by round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def calls(self) -> list[float]:
        return list(itertools.chain(*self.rounds))

    @property
    def fastest(self) -> float:
        return min(self.calls)

    @property
    def median(self) -> float:
        return statistics.median(self.calls)


def interleave(calls: Mapping[str, Call], seconds: float, clock: Clock, bar: Bar) -> dict[str, Timing]:
    """Time all measurements in turns, so that whatever else the machine does hits all alike.

    Args:
        calls: what to time, by name; made once before by whoever made them, so that nothing is cold.
        seconds: for each in all; at least one call a round.
        clock: of the device.
        bar: advanced once for each measurement and round.
    """
    timings = {name: Timing() for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            bar.advance(1)
            if sum(timings[name].calls) > SLOW * seconds:
                continue
            taken: list[float] = []
            while sum(taken) < seconds / ROUNDS:
                began = clock()
                call()
                taken.append(clock() - began)
            timings[name].rounds.append(taken)
    return timings


@dataclass(frozen=True)
class Peak:
    """The fastest of some convolutions: its (batch, channels, px), its times, FLOP/s of its fastest call."""

    shape: tuple[int, int, int]
    timing: Timing
    flop_per_s: float


class Convolutions:
    """3x3 convolutions that are timed in turns with what is measured: the fastest shows what can be reached.

    Attributes:
        calls: by name.
    """

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self._facts: dict[str, tuple[str, tuple[int, int, int], float]] = {}  # label, shape, FLOP

    def add(
        self,
        label: str,
        shapes: Iterable[tuple[int, int, int]],
        precision: torch.dtype,
        device: torch.device,
        memory_format: torch.memory_format = torch.channels_last,
    ) -> None:
        """Add one of each (batch, channels, px) under a label."""
        for shape in shapes:
            name = f"convolution {label} {shape}"
            self.calls[name], flop = convolution(shape, precision, device, memory_format)
            self._facts[name] = label, shape, flop

    def peak(self, timings: Mapping[str, Timing], *labels: str) -> Peak:
        """The fastest of those under the labels."""
        peaks = [
            Peak(shape, timings[name], flop / timings[name].fastest)
            for name, (label, shape, flop) in self._facts.items()
            if label in labels
        ]
        return max(peaks, key=lambda peak: peak.flop_per_s)


def forward(unet: UNet, inputs: tuple[Any, ...], precision: torch.dtype) -> Call:
    """The U-Net on inputs of its forward, as generate() calls it."""
    device = inputs[0].device.type

    def call() -> None:
        with torch.inference_mode(), torch.autocast(device, precision, enabled=precision != torch.float32):
            unet(*inputs)

    return call


def forward_flop(unet: UNet, inputs: tuple[Any, ...]) -> float:
    """Floating-point operations of a forward; a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        unet(*inputs)
    return float(counter.get_total_flops())


def training_step(trained: Trained, device: torch.device) -> Call:
    """One optimise() of `run/train.py` on a synthetic batch, on a copy of the model."""
    recipe = trained.recipe
    settings = recipe.train
    parts = copy.deepcopy(trained.parts)
    objective = Objective(
        prediction=recipe.model.prediction,
        snr_weight_max=settings.snr_weight_max,
        vlb_weight=settings.vlb_weight,
        lip_sync_weight=settings.lip_sync_weight,
    )
    precision, timesteps = choose_precision(settings.precision, device), TIMESTEPS[settings.timesteps]
    loss_of = TrainingLoss(parts, objective, device, precision, recipe.seed, timesteps(recipe.model.n_timesteps))
    call = partial(optimise, recipe, fresh_state(parts, recipe), loss_of, synthetic_batch(recipe, parts))
    call()
    return call


def synthetic_batch(recipe: Recipe, parts: Parts) -> Batch:
    """A training batch of noise."""
    model, encoder, size = recipe.model, parts.audio_encoder, recipe.train.batch_size
    draws = torch.Generator().manual_seed(0)
    frames = torch.rand(2 + model.n_motion_frames, size, 3, model.size, model.size, generator=draws) * 2 - 1
    n_window = 2 * model.audio_context + 1
    audio: Tensor = torch.randn(size, n_window, encoder.embed_dim, generator=draws)
    audio_index = None
    if "audio_encoder" in parts.trained_modules():
        n_frames = n_window + 2 * encoder.context_frames
        n_samples = samples_of(n_frames, recipe.preprocess.fps, encoder.sample_rate)
        audio = torch.rand(size, n_samples, generator=draws) - 0.5
        audio_index = (torch.arange(n_window) + encoder.context_frames).expand(size, -1)
    mouth_mask = torch.zeros(size, 1, model.size, model.size)
    mouth_mask[:, :, model.size * 5 // 8 : model.size * 7 // 8, model.size // 4 : model.size * 3 // 4] = 1
    levels = (size, model.n_motion_frames) if model.motion_noise_per_frame else (size,)
    noise = torch.rand(levels, generator=draws) * recipe.train.motion_noise_max
    return Batch(frames[0], frames[1], list(frames[2:]), audio, audio_index, mouth_mask, noise)


def shown(seconds: float) -> str:
    """For people: "1.23 s", "4.56 ms"."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"
