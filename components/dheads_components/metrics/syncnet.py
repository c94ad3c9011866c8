"""SyncNet (Chung and Zisserman, "Out of time", 2016): the network whose offsets and confidences papers report.

Its weights, FILE, are published by its authors and are no part of this package.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dheads_cli.data.sync_input import SAMPLE_RATE, at_25_fps, resampled
from dheads_cli.errors import DheadsError
from dheads_cli.model.pickled import read_state_dict
from dheads_components.metrics.mfcc import mfcc
from dheads_components.metrics.network_files import NetworkFile, Weights

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames

FILE = NetworkFile(
    metric="sync",
    network="SyncNet",
    names=("syncnet_v2.model",),
    url="https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/syncnet_v2.model",
    sha256="961e8696f888fce4f3f3a6c3d5b3267cf5b343100b238e79b2659bff2c605442",
    size_mb=54,
    licence="licence not stated",
    asked="'{use: sync, network: syncnet}'",
)
SIDE_PX, WINDOW_FRAMES, WINDOW_CEPS, CEPS_PER_FRAME = 224, 5, 20, 4
SAMPLES_PER_FRAME = SAMPLE_RATE // 25
EMBED_DIM = 1024
BATCH = 16  # windows at a time: 0.6 GB
BEYOND = 110  # gray of what lies outside the frame
FOREHEAD = 0.3  # of the height from brows to chin: how far a face detector's box reaches above the brows
CROP_GROWTH = 0.4  # of half a box, to either side; twice that below


class SyncNet(nn.Module):
    """Mouths and sound to embeddings; the names of its parts are those of the published state dict."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(  # [B, 1, 13, 20] -> [B, 512, 1, 1]
            *_block(nn.Conv2d(1, 64, 3, padding=1)), nn.Identity(),
            *_block(nn.Conv2d(64, 192, 3, padding=1)), nn.MaxPool2d(3, (1, 2)),
            *_block(nn.Conv2d(192, 384, 3, padding=1)),
            *_block(nn.Conv2d(384, 256, 3, padding=1)),
            *_block(nn.Conv2d(256, 256, 3, padding=1)), nn.MaxPool2d(3, 2),
            *_block(nn.Conv2d(256, 512, (5, 4))),
        )  # fmt: skip
        self.netcnnlip = nn.Sequential(  # [B, 3, F, 224, 224] -> [B, 512, F - 4, 1, 1]
            *_block(nn.Conv3d(3, 96, (WINDOW_FRAMES, 7, 7), (1, 2, 2))), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block(nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_block(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))), nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_block(nn.Conv3d(256, 512, (1, 6, 6))),
        )  # fmt: skip
        self.netfcaud, self.netfclip = (
            nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, EMBED_DIM))
            for _ in range(2)
        )

    def sound(self, ceps: Tensor) -> Tensor:
        """Cepstra of windows [B, 13, 20] -> [B, 1024]."""
        embeddings: Tensor = self.netfcaud(self.netcnnaud(ceps[:, None]).flatten(1))
        return embeddings

    def lips(self, frames: Tensor) -> Tensor:
        """Frames one after another, [F, 3, 224, 224] BGR 0 ... 255 -> an embedding of each 5 of them, [F - 4, 1024]."""
        h = self.netcnnlip(frames.transpose(0, 1)[None])[0, :, :, 0, 0]  # only the first layer looks along time
        embeddings: Tensor = self.netfclip(h.T)
        return embeddings


def _block(convolution: nn.Conv2d | nn.Conv3d) -> list[nn.Module]:
    norm = nn.BatchNorm2d if isinstance(convolution, nn.Conv2d) else nn.BatchNorm3d
    return [convolution, norm(convolution.out_channels), nn.ReLU()]


class Original:
    """SyncNet with its weights, shown and told what the authors' code does.

    Args:
        weights: their file, or the same tensors as another state dict: torch.save's or safetensors.
        device: where to run.

    Raises:
        DheadsError: the file can't be read, or does not hold exactly this network's tensors.
    """

    zeros_beyond = True  # as in the authors' code

    def __init__(self, weights: Weights, device: str = "cpu") -> None:
        self.network, self.device = read_weights(weights.path).to(device), device
        self.weights = weights.in_words(FILE)

    def names(self, value: str) -> str:
        """What a value of the metric is called here."""
        return {"offset": "AV offset [frames]", "confidence": "AV confidence", "distance": "LSE-D"}.get(
            value, f"AV {value}"
        )

    @torch.no_grad()
    def __call__(
        self, frames: Frames, fps: float, place: NDArray[np.float64], waveform: NDArray[np.float32], sample_rate: int
    ) -> tuple[Tensor, Tensor] | None:
        """Embeddings of a clip's lips and sound, [N, 1024] each, on the CPU; None where it has no window.

        The authors' code leaves out the last window, so N is F - 5.

        Args:
            frames: uint8 RGB [F, H, W, 3].
            fps: of them; SyncNet sees 25 a second.
            place: mean landmarks [68, 2] px.
            waveform: float32 [T] in [-1, 1], from the first frame on.
            sample_rate: of it.
        """
        sound = resampled(waveform, sample_rate).numpy()
        shown = at_25_fps(len(frames), fps)
        n_windows = min(len(shown), len(sound) // SAMPLES_PER_FRAME) - WINDOW_FRAMES
        if n_windows < 1:
            return None
        lips, n_frames = [], n_windows + WINDOW_FRAMES - 1
        for first in range(0, n_windows, BATCH):
            chosen = shown[first : min(first + BATCH + WINDOW_FRAMES - 1, n_frames)]
            crops = torch.from_numpy(face_crops(frames[chosen], place)).permute(0, 3, 1, 2)
            lips.append(self.network.lips(crops.float().to(self.device)).cpu())
        ceps = torch.from_numpy(mfcc(np.round(sound * 32768)).astype(np.float32)).T  # [13, N]
        windows = ceps.unfold(1, WINDOW_CEPS, CEPS_PER_FRAME)[:, :n_windows].transpose(0, 1)  # [n_windows, 13, 20]
        return torch.cat(lips), self.network.sound(windows.to(self.device)).cpu()


def face_crops(frames: Frames, place: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The face as SyncNet is shown it: uint8 BGR [F, 224, 224, 3].

    The authors take a face detector's box of half side s, and cut from its top to 1.8 s below its centre and 1.4 s to
    either side, gray 110 where that leaves the frame. A detector's box begins above the brows; here it is the box of
    the landmarks, higher by FOREHEAD of its height.

    Args:
        frames: uint8 RGB [F, H, W, 3].
        place: mean landmarks [68, 2] px.
    """
    low, high = place.min(axis=0), place.max(axis=0)
    low[1] -= FOREHEAD * (high[1] - low[1])
    half, (x, y) = max(high - low) / 2, (low + high) / 2
    side = 2 * half * (1 + CROP_GROWTH)
    left, top, scale = x - side / 2, y - half, SIDE_PX / side
    move = np.array([[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]])
    return np.stack([
        cv2.warpAffine(
            cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), move, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT, borderValue=(BEYOND,) * 3,
        )
        for frame in frames
    ]).astype(np.uint8)  # fmt: skip


def read_weights(path: Path) -> SyncNet:
    """The network with a file's weights, evaluating.

    Raises:
        DheadsError: the file can't be read, or does not hold exactly this network's tensors.
    """
    stored, _ = read_state_dict(path, f"SyncNet's weights, {FILE.names[0]}")
    network = SyncNet()
    expected = network.state_dict()
    counts = {name for name in expected if name.endswith("num_batches_tracked")}  # older torch did not keep these
    stored = {name.removeprefix("__S__."): tensor for name, tensor in stored.items()}
    wrong = sorted(
        name for name in (expected.keys() | stored.keys()) - counts
        if name not in stored or name not in expected or stored[name].shape != expected[name].shape
    )  # fmt: skip
    if wrong:
        raise DheadsError(
            f"{path}: not SyncNet's weights: {len(wrong)} tensors do not fit, {wrong[0]} first; they are published at "
            f"{FILE.url}"
        )
    if bad := [name for name, tensor in stored.items() if not tensor.isfinite().all()]:
        raise DheadsError(f"{path}: {bad[0]} is not finite: get the file again from {FILE.url}")
    network.load_state_dict({**expected, **{name: tensor.float() for name, tensor in stored.items()}})
    return network.requires_grad_(False).eval()
