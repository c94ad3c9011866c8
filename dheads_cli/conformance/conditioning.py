"""What every conditioning must do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dheads_cli.protocols import AttentionConditioning

CHANNELS, N_HEADS, TIME_DIM, AUDIO_DIM, N_WINDOW, SIZE = 64, 4, 32, 16, 5, 6


class _Heard(nn.Module):
    """A conditioning's modules one after another: layer, then attention where it has one."""

    def __init__(self, conditioning: Any, n_window: int = N_WINDOW) -> None:
        super().__init__()
        self.embed = conditioning.embed(n_window, AUDIO_DIM, TIME_DIM)
        self.layer = conditioning.layer(CHANNELS, TIME_DIM, TIME_DIM)
        attends = isinstance(conditioning, AttentionConditioning)
        self.attention = conditioning.attention(CHANNELS, N_HEADS, SIZE, TIME_DIM) if attends else None

    def forward(self, h: Tensor, time: Tensor, window: Tensor) -> Tensor:
        audio = self.embed(window)
        h = self.layer(h, time, audio)
        return h if self.attention is None else self.attention(h, time, audio)


def _conditions(n_window: int = N_WINDOW) -> tuple[Tensor, Tensor, Tensor]:
    """(h, time, audio window), batch 3."""
    return 2 + 3 * torch.randn(3, CHANNELS, SIZE, SIZE), torch.randn(3, TIME_DIM), torch.randn(3, n_window, AUDIO_DIM)


def conditioning_begins_as_group_norm(conditioning: Any) -> Iterator[str]:
    """Before training a layer equals GroupNorm(32, eps 1e-5), whatever time and audio are, for any window and shape."""
    for n_window in (1, N_WINDOW):
        heard, (h, time, window) = _Heard(conditioning, n_window), _conditions(n_window)
        audio = heard.embed(window)
        if audio.dim() != 3 or audio.shape[0] != 3 or audio.shape[1] < 1 or audio.shape[2] != TIME_DIM:
            yield f"embed must turn [3, {n_window}, {AUDIO_DIM}] into [3, K, {TIME_DIM}], not {list(audio.shape)}"
            return
        h = h[..., :4]  # not square
        out = heard.layer(h, time, audio)
        if out.shape != h.shape:
            yield f"a layer must keep the shape {list(h.shape)}, not give {list(out.shape)}"
        elif not torch.allclose(out, F.group_norm(h, 32, eps=1e-5), rtol=1e-4, atol=1e-4):
            yield "before training a layer does not equal GroupNorm(32, eps 1e-5)"


def attention_begins_as_nothing(conditioning: Any) -> Iterator[str]:
    """Before training the attention of a conditioning that has one returns what it is given."""
    heard, (h, time, window) = _Heard(conditioning), _conditions()
    if heard.attention is None:
        return
    out = heard.attention(h, time, heard.embed(window))
    if out.shape != h.shape:
        yield f"attention must keep the shape {list(h.shape)}, not give {list(out.shape)}"
    elif not torch.allclose(out, h, rtol=1e-4, atol=1e-4):
        yield "before training attention changes what it is given"


def conditioning_learns_time_and_speech(conditioning: Any) -> Iterator[str]:
    """After a few steps time and audio move the output, each sample's its own, in float32 and under bf16 autocast."""
    heard, (h, time, window) = _Heard(conditioning), _conditions()
    parameters = [each for each in heard.parameters() if each.requires_grad]
    target = torch.randn(h.shape)
    for _ in range(5):
        loss = (heard(h, time, window) - target).square().mean()
        gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        with torch.no_grad():
            for parameter, gradient in zip(parameters, gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(0.05 * gradient.sign())
    heard.eval()
    time.requires_grad_()
    window.requires_grad_()
    out = heard(h, time, window)
    gradients = torch.autograd.grad((out[0] * target[0]).sum(), (time, window), allow_unused=True)
    for name, gradient in zip(("time", "audio"), gradients, strict=True):
        if gradient is None or not gradient[0].abs().sum() > 0:
            yield f"{name} does not reach the output after training"
        elif gradient[1:].abs().sum() > 0:
            yield f"a sample's output depends on the {name} of other samples"
    with torch.autocast("cpu", torch.bfloat16):
        if not heard(h, time, window).isfinite().all():
            yield "under bf16 autocast the output is not finite"


TESTS = (conditioning_begins_as_group_norm, attention_begins_as_nothing, conditioning_learns_time_and_speech)
