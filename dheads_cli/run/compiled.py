"""The network compiled for training by torch.compile: the same weights and losses, other machine code."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dheads_cli.errors import DheadsError
from dheads_cli.model.unet import UNet

# Dropout's masks stay those of eager training.
OPTIONS: dict[str, str | int | bool | Callable[..., object]] = {"fallback_random": True}


def compiled(unet: UNet, device: torch.device) -> Callable[..., Tensor]:
    """The network's forward, compiled when it is first called; weights, their names and the mode stay the network's.

    torch keeps the machine code (TORCHINDUCTOR_CACHE_DIR), so that a second run begins sooner.

    Args:
        unet: the network, on its device.
        device: that device.

    Raises:
        DheadsError: nothing can be compiled here.
    """
    try_compiler(device)
    forward: Callable[..., Tensor] = torch.compile(unet.forward, dynamic=False, options=OPTIONS)
    return forward


def try_compiler(device: torch.device) -> None:
    """Compile and run one line of arithmetic.

    Raises:
        DheadsError: it fails, as where there is no C++ compiler, or (on a GPU) no Triton.
    """
    try:
        torch.compile(_line, options=OPTIONS)(torch.ones(8, device=device))
    except Exception as error:  # of torch's compilers, of the programs they call, of the system
        reason = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
        raise DheadsError(
            f"train.compile: torch.compile fails on {device} ({reason[0]}): it takes a C++ compiler (apt-get install "
            "g++) and, on a GPU, Triton; or train without it: --set train.compile=false"
        ) from error


def _line(x: Tensor) -> Tensor:
    return x * 2 + 1
