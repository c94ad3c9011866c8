"""FVD: Fréchet distance of generated to real pieces of video over I3D's logits."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dheads_cli import trust
from dheads_cli.errors import DheadsError
from dheads_components.metrics.gaussian import SetDistance
from dheads_components.metrics.network_files import NetworkFile, Weights, find
from dheads_components.metrics.seen import Seen

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Frames

I3D = NetworkFile(
    metric="fvd",
    network="I3D of Kinetics-400 (DeepMind's, TorchScript of StyleGAN-V)",
    names=("i3d_torchscript.pt",),
    url="https://huggingface.co/flateon/FVD-I3D-torchscript/resolve/main/i3d_torchscript.pt",
    sha256="bec6519f66ea534e953026b4ae2c65553c17bf105611c746d904657e5860a5e2",
    size_mb=51,
    licence="DeepMind's weights Apache-2.0",
    runs_code=True,
)
MIN_LENGTH = 16  # frames; I3D halves time three times, and shorter pieces are no field's FVD
N_LOGITS = 400
BATCH = 2  # pieces at once: 224 px and 16 frames take some 300 MB each

Logits = tuple[str, NDArray[np.float32], NDArray[np.float32]]  # speaker, generated, real


class FVD:
    """Fréchet video distance (Unterthiner et al. 2018) of generated to real clips, in pieces of `length` frames.

    Each clip is cut into pieces that follow each other; what is left at its end, and clips shorter than a piece, are
    left out. The network brings frames to 224 x 224 by bilinear interpolation and gives logits of the 400 classes of
    Kinetics, as StyleGAN-V and those after it measure FVD.

    0: the same clips. FVD is biased upwards, the more the fewer pieces there are, below 401 a covariance is not of full
    rank: compare only values of the same clips, of the same `length` and the same `FVD pieces`. `FVD of halves` and its
    floor, `FVD of real halves`, are as in `fid`. With other weights
    than the published the value is called `I3D FD`.

    The file is TorchScript, which can run code: it is opened only with --trust.

    Args:
        weights: the network's file; None looks in ~/.cache/dheads and torch.hub's cache, then fetches it (51 MB).
        length: frames of a piece.
        device: where it is computed.
    """

    def __init__(self, weights: str | None = None, length: int = MIN_LENGTH, device: str = "cpu") -> None:
        if length < MIN_LENGTH:
            raise ValueError(f"length must be at least {MIN_LENGTH} frames, not {length}")
        self.length, self.device = length, device
        self._file = find(I3D, weights)
        self._network = _load(self._file, device)
        self._seen = Seen(self.embed)
        self._set = SetDistance()

    @property
    def weights(self) -> str:
        """Network, file and checksum, and the length of a piece."""
        return f"{self._file.in_words(I3D)}; pieces of {self.length} frames, resized to 224 px by the network"

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """Take a clip in; a distance is only of a set."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> Logits | None:
        """Speaker, logits of generated and of real pieces, [N, 400] each; None for a clip shorter than a piece."""
        if len(clip.frames) < self.length:
            return None
        return clip.speaker, self._seen(clip.frames), self._seen(reference.frames)

    def add(self, measured: Logits | None) -> dict[str, float | str]:
        """Take a clip's logits in."""
        if measured is None:
            return {"FVD note": f"shorter than {self.length} frames: left out of FVD"}
        self._set.add(*measured)
        return {}

    def compute(self) -> dict[str, float]:
        """The distances, and of how many pieces on either side the first is."""
        return self._set.values("FVD" if self._file.published else "I3D FD", "pieces")

    def embed(self, frames: Frames) -> NDArray[np.float32]:
        """uint8 RGB [F, H, W, 3] -> logits of each piece of `length` frames, [F // length, 400]."""
        pieces = frames[: len(frames) // self.length * self.length].reshape(-1, self.length, *frames.shape[1:])
        logits = []
        with torch.inference_mode():
            for begin in range(0, len(pieces), BATCH):
                batch = torch.from_numpy(pieces[begin : begin + BATCH].copy()).to(self.device)
                channels_first = batch.permute(0, 4, 1, 2, 3).float()  # [B, C, F, H, W], 0 ... 255
                found = self._network(channels_first, rescale=True, resize=True, return_features=True)
                logits.append(found.float().cpu().numpy())
        return np.concatenate(logits)


@cache
def _load(weights: Weights, device: str) -> Any:
    network = trust.open_torchscript(weights.path, f"the network of metric 'fvd', {I3D.network}", weights.sha256)
    return _checked(network.eval().to(device), weights, device)


def _checked(network: Any, weights: Weights, device: str) -> Any:
    """The network, if it answers as I3D does."""
    blank = torch.zeros(1, 3, MIN_LENGTH, 32, 32, device=device)
    try:
        with torch.inference_mode():
            shape = tuple(network(blank, rescale=True, resize=True, return_features=True).shape)
    except (RuntimeError, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise DheadsError(f"{weights.path}: does not take video as {I3D.network} does: {first[:160]}") from error
    if shape != (1, N_LOGITS):
        raise DheadsError(f"{weights.path}: gives {list(shape)} for a piece of video, not {N_LOGITS} logits")
    return network
