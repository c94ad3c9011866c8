"""What a talking head's network takes, for `dheads recipe check`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from dheads_cli import console
from dheads_cli.model.build import build_model, build_unet, choose_device, choose_precision, random_inputs
from dheads_cli.recipe import Recipe

# Largest training steps that are timed, FLOP: a few seconds.
LARGEST_TIMED_STEP = {"cpu": 4e11, "cuda": 2e14}


@dataclass(frozen=True)
class VideoCost:
    """What a talking head's network takes."""

    n_parameters: int
    n_audio_parameters: int
    forward_gflop: float  # one frame
    train_memory_gib: float  # weights, gradients, AdamW, EMA and kept activations, float32; buffers add about a fifth
    device: str
    precision: str
    step_seconds: float | None
    hours: float | None

    @classmethod
    def of(cls, recipe: Recipe, built: dict[str, Any], device_name: str) -> VideoCost:
        """Count on torch's meta device, which computes shapes only; then time steps of a network that is not large."""
        device = choose_device(device_name)
        encoder, conditioning = built["model.audio_encoder"], built["model.conditioning"]
        with torch.device("meta"):
            unet = build_unet(recipe.model, conditioning, encoder.embed_dim)
            n_parameters = sum(parameter.numel() for parameter in unet.parameters())
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                unet(*random_inputs(recipe.model, encoder.embed_dim, 1, torch.device("meta")))
            own = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
            kept: dict[int, torch.Tensor] = {}  # what the backward pass needs, once for each storage

            def keep(tensor: torch.Tensor) -> torch.Tensor:
                kept[tensor.untyped_storage()._cdata] = tensor
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                inputs = random_inputs(recipe.model, encoder.embed_dim, recipe.train.batch_size, torch.device("meta"))
                output = unet(*inputs)
        activations = sum(each.untyped_storage().nbytes() for key, each in kept.items() if key not in own)
        del output
        step_flop = 3 * counter.get_total_flops() * recipe.train.batch_size
        precision = choose_precision(recipe.train.precision, device)
        seconds = None
        if step_flop <= LARGEST_TIMED_STEP.get(device.type, 0):
            seconds = _time_step(recipe, build_model(recipe.model, device).unet, encoder.embed_dim, device, precision)
        audio = encoder.parameters() if isinstance(encoder, torch.nn.Module) else ()
        return cls(
            n_parameters=n_parameters,
            n_audio_parameters=sum(parameter.numel() for parameter in audio),
            forward_gflop=counter.get_total_flops() / 1e9,
            train_memory_gib=(20 * n_parameters + activations) / 2**30,
            device=str(device),
            precision=str(precision).removeprefix("torch."),
            step_seconds=seconds,
            hours=None if seconds is None else seconds * recipe.train.steps / 3600,
        )

    def rows(self, recipe: Recipe) -> list[list[str]]:
        """Rows for people."""
        audio = f"and {self.n_audio_parameters / 1e6:.2f} M of the audio encoder"
        rows = [
            ["parameters", f"{self.n_parameters / 1e6:.2f} M", audio],
            ["forward pass", f"{self.forward_gflop:.3g} GFLOP", "one frame"],
            [
                "memory to train",
                f"about {self.train_memory_gib:.2g} GiB",
                f"at batch {recipe.train.batch_size}, float32",
            ],
        ]
        if self.step_seconds is None or self.hours is None:
            step = 3 * self.forward_gflop * recipe.train.batch_size / 1e3
            return [*rows, ["time to train", "not known", f"{step:.3g} TFLOP a step, too much to try on {self.device}"]]
        what = (
            f"{recipe.train.steps} steps of {self.step_seconds:.3g} s, {self.device}, {self.precision}, network alone"
        )
        return [*rows, ["time to train", f"about {console.duration(self.hours * 3600)}", what]]


def _time_step(recipe: Recipe, unet: Any, audio_dim: int, device: torch.device, precision: torch.dtype) -> float:
    """Seconds of the faster of two forward and backward passes, after one that warms up."""
    inputs = random_inputs(recipe.model, audio_dim, recipe.train.batch_size, device)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            output = unet(*inputs)
        output.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])
