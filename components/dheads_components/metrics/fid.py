"""FID: Fréchet distance of generated to real frames over Inception's features."""

from __future__ import annotations

import io
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dheads_cli.errors import DheadsError
from dheads_components.metrics.gaussian import SetDistance
from dheads_components.metrics.network_files import NetworkFile, Weights, find, read_tensors
from dheads_components.metrics.seen import Seen

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Frames

INCEPTION = NetworkFile(
    metric="fid",
    network="Inception-v3 of 2015-12-05 (TensorFlow's, in PyTorch)",
    names=("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth"),
    url="https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/pt_inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
    size_mb=96,
    licence="Apache-2.0",
)
FEATURES = "2048"  # those of the last pooling, as torch-fidelity calls them
BATCH = 16  # frames at once

Features = tuple[str, NDArray[np.float32], NDArray[np.float32]]  # speaker, generated, real


class FID:
    """Fréchet Inception distance (Heusel et al. 2017) of all generated frames to all real ones.

    Features are the 2048 of the last pooling of the Inception that TensorFlow published on 2015-12-05. Frames are
    resized to 299 x 299 by TensorFlow 1's bilinear interpolation, without antialiasing, inside torch-fidelity's
    network, as FID was first measured; other resizing gives other numbers.

    0: the same frames. FID is biased upwards, the more the fewer frames there are, and below 2049 a covariance is not
    of full rank: compare only values of the same clips and of the same `FID frames`. `FID of halves` is of one half of
    the clips' generated frames to the other half's real ones, `FID of real halves` of real to real, with the same
    numbers of frames and so the same bias: the floor. With other weights than the
    published the value is called `Inception FD`, which no paper's FID compares with.

    Args:
        weights: the network's file; None looks in ~/.cache/dheads and torch.hub's cache, then fetches it (96 MB).
        stride: every how many frames one is taken; the paper's is 1.
        device: where it is computed.
    """

    def __init__(self, weights: str | None = None, stride: int = 1, device: str = "cpu") -> None:
        if stride < 1:
            raise ValueError(f"stride must be at least 1, not {stride}")
        _require_torch_fidelity()
        self.stride, self.device = stride, device
        self._file = find(INCEPTION, weights)
        self._network = _load(self._file, device)
        self._seen = Seen(self.embed)
        self._set = SetDistance()

    @property
    def weights(self) -> str:
        """Network, file and checksum, and the resizing."""
        taken = "every frame" if self.stride == 1 else f"every {self.stride}. frame"
        resize = f"TensorFlow 1's bilinear resize to 299 px (torch-fidelity {version('torch-fidelity')})"
        return f"{self._file.in_words(INCEPTION)}; {taken}, {resize}"

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """Take a clip in; a distance is only of a set."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> Features:
        """Speaker, features of generated and of real frames, [F, 2048] each."""
        generated, real = (each.frames[:: self.stride] for each in (clip, reference))
        return clip.speaker, self._seen(generated), self._seen(real)

    def add(self, measured: Features) -> dict[str, float | str]:
        """Take a clip's features in."""
        self._set.add(*measured)
        return {}

    def compute(self) -> dict[str, float]:
        """The distances, and of how many frames on either side the first is."""
        return self._set.values("FID" if self._file.published else "Inception FD", "frames")

    def embed(self, frames: Frames) -> NDArray[np.float32]:
        """uint8 RGB [F, H, W, 3] -> features [F, 2048]."""
        features = []
        with torch.inference_mode():
            for begin in range(0, len(frames), BATCH):
                batch = torch.from_numpy(frames[begin : begin + BATCH].copy()).to(self.device).permute(0, 3, 1, 2)
                features.append(self._network(batch)[0].cpu().numpy())
        return np.concatenate(features)


def _require_torch_fidelity() -> Any:
    try:
        from torch_fidelity import feature_extractor_inceptionv3
    except ImportError as error:
        raise DheadsError(
            f"metric 'fid' needs torch-fidelity: install it with `pip install 'dheads[networks]'` ({error})"
        ) from error
    return feature_extractor_inceptionv3


@cache
def _load(weights: Weights, device: str) -> Any:
    """The network, frozen. torch-fidelity unpickles the file it is given: it gets one that was written here."""
    inception = _require_torch_fidelity()
    tensors_alone = io.BytesIO()
    torch.save(read_tensors(weights, INCEPTION), tensors_alone)
    tensors_alone.seek(0)
    try:
        network = inception.FeatureExtractorInceptionV3(
            "inception-v3-compat", [FEATURES], feature_extractor_weights_path=tensors_alone
        )
    except RuntimeError as error:  # other names or shapes
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise DheadsError(f"{weights.path}: not weights of {INCEPTION.network}: {first[:160]}") from error
    return network.to(device)
