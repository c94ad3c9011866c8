"""What a device could do, and what of it training uses: the peak of its convolutions, the operations of a step."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dheads_cli.model.rollout import evaluating
from dheads_cli.model.unet import UNet

Call = Callable[[], object]

# (batch, channels, px) of the convolutions: a small U-Net's on a CPU, a large one's elsewhere.
SHAPES = {"cpu": [(1, 128, 32), (8, 64, 32), (8, 128, 32), (8, 128, 16), (8, 256, 16)]}
SHAPES_OF_A_GPU = [(8, 256, 64), (32, 256, 64), (32, 512, 32), (32, 768, 32), (32, 512, 64)]
PEAK_S = 0.1  # for each shape, when a training begins


@dataclass(frozen=True)
class Speed:
    """What a run's speed is measured by.

    Attributes:
        flop_per_sample: floating-point operations of the network's forward and backward pass.
        peak: of the devices of all processes together, FLOP/s.
    """

    flop_per_sample: float
    peak: float

    def share(self, samples_per_s: float) -> float:
        """The share of the peak that so many samples a second are."""
        return samples_per_s * self.flop_per_sample / self.peak


def shapes_of(device: torch.device) -> list[tuple[int, int, int]]:
    """(batch, channels, px) of the convolutions that a device's peak is measured with."""
    return SHAPES.get(device.type, SHAPES_OF_A_GPU)


def convolution(
    shape: tuple[int, int, int],
    precision: torch.dtype,
    device: torch.device,
    memory_format: torch.memory_format = torch.channels_last,
) -> tuple[Call, float]:
    """A 3x3 convolution that keeps its (batch, channels, px); the call and its FLOP."""
    batch, channels, px = shape
    draws = torch.Generator(device).manual_seed(0)
    h, weight = (
        torch.randn(size, generator=draws, device=device).to(precision, memory_format=memory_format)
        for size in ((batch, channels, px, px), (channels, channels, 3, 3))
    )

    def call() -> None:
        with torch.inference_mode():
            F.conv2d(h, weight, padding=1)

    call()
    return call, 2.0 * 9 * channels**2 * batch * px**2


class Clock:
    """Seconds, read when the device has done all it was given."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def __call__(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def convolution_peak(device: torch.device, precision: torch.dtype, seconds: float = PEAK_S) -> float:
    """FLOP/s of the fastest call of the fastest convolution, each tried for some seconds: nothing gets beyond it."""
    clock, best = Clock(device), 0.0
    for shape in shapes_of(device):
        call, flop = convolution(shape, precision, device)
        ended = clock() + seconds
        while (began := clock()) < ended:
            call()
            best = max(best, flop / (clock() - began))
    return best


def flop_of_training(unet: UNet, inputs: tuple[Tensor | None, ...]) -> float:
    """FLOP of the network's forward and backward pass on inputs of its forward, by torch's counter.

    A multiplication and an addition are two. What is computed again to save memory counts once.
    """
    recomputes, unet.recompute_activations = unet.recompute_activations, False
    with evaluating(unet), FlopCounterMode(display=False) as counter:
        torch.autograd.grad(unet(*inputs).sum(), list(unet.parameters()), allow_unused=True)
    unet.recompute_activations = recomputes
    return float(counter.get_total_flops())
