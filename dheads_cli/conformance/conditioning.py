"""What every conditioning must do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS, TIME_DIM, AUDIO_DIM, N_WINDOW = 64, 32, 16, 5


def _conditions(conditioning: Any, n_window: int = N_WINDOW) -> tuple[nn.Module, nn.Module, Tensor, Tensor, Tensor]:
    """(embed, layer, h, time, audio window), batch 3, not square."""
    embed = conditioning.embed(n_window, AUDIO_DIM, TIME_DIM)
    layer = conditioning.layer(CHANNELS, TIME_DIM, TIME_DIM)
    h = 2 + 3 * torch.randn(3, CHANNELS, 6, 4)
    return embed, layer, h, torch.randn(3, TIME_DIM), torch.randn(3, n_window, AUDIO_DIM)


def conditioning_begins_as_group_norm(conditioning: Any) -> Iterator[str]:
    """Before training a layer equals GroupNorm(32, eps 1e-5), whatever time and audio are, for any window."""
    for n_window in (1, N_WINDOW):
        embed, layer, h, time, window = _conditions(conditioning, n_window)
        audio = embed(window)
        if audio.dim() != 3 or audio.shape[0] != 3 or audio.shape[1] < 1 or audio.shape[2] != TIME_DIM:
            yield f"embed must turn [3, {n_window}, {AUDIO_DIM}] into [3, K, {TIME_DIM}], not {list(audio.shape)}"
            return
        out = layer(h, time, audio)
        if out.shape != h.shape:
            yield f"a layer must keep the shape {list(h.shape)}, not give {list(out.shape)}"
        elif not torch.allclose(out, F.group_norm(h, 32, eps=1e-5), rtol=1e-4, atol=1e-4):
            yield "before training a layer does not equal GroupNorm(32, eps 1e-5)"


def conditioning_learns_time_and_speech(conditioning: Any) -> Iterator[str]:
    """After a few steps time and audio move the output, each sample's its own, in float32 and under bf16 autocast."""
    embed, layer, h, time, window = _conditions(conditioning)
    parameters = [each for each in (*embed.parameters(), *layer.parameters()) if each.requires_grad]
    target = torch.randn(h.shape)
    for _ in range(5):
        loss = (layer(h, time, embed(window)) - target).square().mean()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(0.05 * gradient.sign())
    embed.eval()
    layer.eval()
    time.requires_grad_()
    window.requires_grad_()
    out = layer(h, time, embed(window))
    gradients = torch.autograd.grad((out[0] * target[0]).sum(), (time, window), allow_unused=True)
    for name, gradient in zip(("time", "audio"), gradients, strict=True):
        if gradient is None or not gradient[0].abs().sum() > 0:
            yield f"{name} does not reach the output after training"
        elif gradient[1:].abs().sum() > 0:
            yield f"a sample's output depends on the {name} of other samples"
    with torch.autocast("cpu", torch.bfloat16):
        if not layer(h, time, embed(window)).isfinite().all():
            yield "under bf16 autocast the output is not finite"


TESTS = (conditioning_begins_as_group_norm, conditioning_learns_time_and_speech)
