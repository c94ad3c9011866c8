"""LPIPS: how different frames look, by a network's features and weights fitted to what people say."""

from __future__ import annotations

import warnings
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_components.metrics.network_files import NetworkFile, Weights, find, read_tensors

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip

ALEXNET = NetworkFile(
    metric="lpips",
    network="AlexNet of torchvision (ImageNet)",
    names=("alexnet-owt-7be5be79.pth",),
    url="https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    sha256="7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    size_mb=244,
    licence="BSD-3",
)
HEADS = ("weights", "v0.1", "alex.pth")  # in the package lpips, BSD-2
BATCH = 32  # frames at once
MIN_PX = 32  # smaller, nothing is left of a frame at AlexNet's last layer


class LPIPS:
    """Learned perceptual image patch similarity (Zhang et al. 2018), version 0.1 over AlexNet, of frame to frame.

    A clip's value is the mean over its frames, at the size they have, the set's the mean over clips. 0: equal frames;
    less is better. With other weights of AlexNet than the published the value is called `AlexNet distance`.

    Args:
        weights: AlexNet's file; None looks in ~/.cache/dheads and torch.hub's cache, then fetches it (244 MB).
        device: where it is computed.
    """

    def __init__(self, weights: str | None = None, device: str = "cpu") -> None:
        self.device = device
        heads = _heads()
        self._file = find(ALEXNET, weights)
        self._network = _load(self._file, device)
        self._heads = f"heads v0.1 of lpips {version('lpips')} sha256 {sha256_of(heads)[:12]}, BSD-2"
        self._clips: list[float] = []

    @property
    def weights(self) -> str:
        """Network and heads, files and checksums."""
        return f"{self._file.in_words(ALEXNET)}; {self._heads}"

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """LPIPS of one clip."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> float | None:
        """LPIPS of one clip; None where frames are too small."""
        if min(clip.frames.shape[1:3]) < MIN_PX:
            return None
        values = []
        with torch.inference_mode():
            for begin in range(0, len(clip.frames), BATCH):
                ours, real = (
                    torch.from_numpy(each.frames[begin : begin + BATCH].copy()).to(self.device).permute(0, 3, 1, 2)
                    / 127.5 - 1
                    for each in (clip, reference)
                )  # fmt: skip
                values.append(self._network(ours, real).reshape(-1).double().cpu().numpy())
        return float(np.concatenate(values).mean())

    def add(self, measured: float | None) -> dict[str, float | str]:
        """Take a clip's LPIPS in."""
        if measured is None:
            return {"LPIPS note": f"frames smaller than {MIN_PX} px: left out of LPIPS"}
        self._clips.append(measured)
        return {self._name: measured}

    def compute(self) -> dict[str, float]:
        """Mean over clips."""
        return {self._name: float(np.mean(self._clips))} if self._clips else {}

    @property
    def _name(self) -> str:
        return "LPIPS" if self._file.published else "AlexNet distance"


def _heads() -> Path:
    """The fitted weights inside the package lpips."""
    try:
        import torchvision  # noqa: F401

        return Path(str(files("lpips").joinpath(*HEADS)))
    except ImportError as error:
        raise DheadsError(
            f"metric 'lpips' needs lpips and torchvision: install them with `pip install 'dheads[networks]'` ({error})"
        ) from error


@cache
def _load(weights: Weights, device: str) -> Any:
    """lpips' network with its own heads, and AlexNet's layers out of the file."""
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision: an argument by its old name
        network = lpips.LPIPS(net="alex", version="0.1", pnet_rand=True, verbose=False)
    tensors = read_tensors(weights, ALEXNET)
    try:  # lpips' "slice2.3.weight" is torchvision's "features.3.weight"
        taken = {name: tensors[f"features.{name.split('.', 1)[1]}"] for name in network.net.state_dict()}
        network.net.load_state_dict(taken)
    except (KeyError, RuntimeError) as error:
        raise DheadsError(f"{weights.path}: not weights of {ALEXNET.network}: {str(error)[:160]}") from error
    return network.requires_grad_(False).eval().to(device)
