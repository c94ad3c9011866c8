"""Are lips and sound in step? SyncNet's offset and confidence, or those of this project's own network, by its name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dheads_cli.data.sync_input import HOP, SPECTRA_PER_FRAME, at_25_fps, log_mel, middles, mouth_crops, resampled
from dheads_cli.files import sha256_of
from dheads_cli.model.sync import load_sync
from dheads_cli.model.sync_curve import Sync, sync_of
from dheads_components.metrics.face_box import mean_place
from dheads_components.metrics.network_files import Weights, find
from dheads_components.metrics.syncnet import FILE, Original

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Frames

Pair = tuple[Tensor, Tensor]  # embeddings of lips and of sound, [N, D] each, on the CPU
SHIPPED = Path(__file__).with_name("sync-grid.safetensors")  # trained by this project on GRID, CC BY 4.0
VALUES = ("offset", "confidence", "agreement", "distance")  # of a Sync
LEAST_S = 0.9  # of a clip: 16 windows of 5 frames, so that each shift of up to 15 frames has a pair


class Network(Protocol):
    """Compares lips and sound."""

    weights: str  # network, file and checksum
    zeros_beyond: bool  # as sync_of takes it

    def names(self, value: str) -> str:
        """What a value is called."""
        ...

    def __call__(
        self, frames: Frames, fps: float, place: NDArray[np.float64], waveform: NDArray[np.float32], sample_rate: int
    ) -> Pair | None:
        """Embeddings of a clip's windows of lips and sound, [N, D] each; None where it has none.

        Args:
            frames: uint8 RGB [F, H, W, 3].
            fps: of them.
            place: mean landmarks [68, 2] px.
            waveform: float32 [T] in [-1, 1], from the first frame on.
            sample_rate: of it.
        """
        ...


class Synchrony:
    """Offset and confidence of lips and sound, frames of 40 ms.

    5 frames of the mouth and 0.2 s of sound each become an embedding. The distance of the two is averaged over the clip
    for shifts of -15 ... 15 frames. The offset is 15 less the place of the least mean: positive where the sound comes
    before the lips that make it, negative where it comes after them. Confidence: median less least distance.

    SyncNet's own values are `AV offset [frames]`, `AV confidence` (LSE-C) and `LSE-D`, the least distance. Its weights,
    syncnet_v2.model, are looked for in ~/.cache/dheads. Where they are not, a network of this project does the same,
    and its values are called `sync-grid ...`: they are no SyncNet values, and don't compare with them.

    Beside them, of either: `confidence of other sound`, that of the same lips with the sound of the speaker's clip
    before: what lips score that have nothing to do with a sound; absent where each speaker has one clip. `agreement`,
    the median less the distance at offset 0, which is the confidence where the offset is 0, and falls where lips and
    sound are apart. `in step`, the share of clips whose offset is within a frame.

    The face is cut by the real clip's mean landmarks, as all frames of an aligned clip share one geometry.

    Args:
        network: auto takes SyncNet where its weights are there; syncnet fetches them where they are not; own is this
            project's.
        weights: file of SyncNet's weights, or a run or checkpoint of `dheads train sync/...`; None as `network` says.
        device: where SyncNet runs; the small network runs on the CPU.
    """

    def __init__(
        self, network: Literal["auto", "syncnet", "own"] = "auto", weights: str | None = None, device: str = "cpu"
    ) -> None:
        if network not in ("auto", "syncnet", "own"):
            raise ValueError(f"network must be auto, syncnet or own, not {network!r}")
        self.network = _choose(network, weights, device)
        self._clips: list[dict[str, float]] = []
        self._heard: dict[str, Tensor] = {}  # the newest embeddings of sound, by speaker

    @property
    def weights(self) -> str:
        """Network, file and checksum."""
        return self.network.weights

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """One clip's values, with its own sound."""
        note = self.network.names("note")
        place = mean_place(reference.landmarks)
        if place is None:
            return {note: "the real clip has no frame with a face: left out of sync"}
        if clip.sound is None:
            return {note: "the clip has no sound: left out of sync"}
        waveform, sample_rate = clip.sound
        pair = self.network(clip.frames, clip.fps, place, waveform, sample_rate)
        found = self._compare(*pair) if pair else None
        if pair is None or found is None:
            return {note: f"picture or sound is shorter than {LEAST_S} s: left out of sync"}
        values: dict[str, float] = {name: getattr(found, name) for name in VALUES}
        if clip.speaker in self._heard and (other := self._compare(pair[0], self._heard[clip.speaker])):
            values["confidence of other sound"] = other.confidence
        self._heard[clip.speaker] = pair[1]
        self._clips.append(values)
        return {**self._named(values)}

    def compute(self) -> dict[str, float]:
        """Means over clips, and the share of clips in step."""
        if not self._clips:
            return {}
        names = dict.fromkeys(name for clip in self._clips for name in clip)
        means = {name: float(np.mean([clip[name] for clip in self._clips if name in clip])) for name in names}
        return self._named(means | {"in step": float(np.mean([abs(clip["offset"]) <= 1 for clip in self._clips]))})

    def _compare(self, lips: Tensor, sound: Tensor) -> Sync | None:
        n = min(len(lips), len(sound))
        return sync_of(lips[:n], sound[:n], zeros_beyond=self.network.zeros_beyond)

    def _named(self, values: dict[str, float]) -> dict[str, float]:
        return {self.network.names(name): float(value) for name, value in values.items()}


class Own:
    """A network of this project with its weights.

    Args:
        reference: run, checkpoint or file.

    Raises:
        DheadsError: it is none, or of another task.
    """

    zeros_beyond = False

    def __init__(self, reference: str | Path) -> None:
        self.towers, recipe, path = load_sync(reference)
        self.name = recipe.name
        self.weights = f"{self.name} (this project's, not SyncNet), {path.name} sha256 {sha256_of(path)[:12]}"

    def names(self, value: str) -> str:
        """What a value of the metric is called here."""
        return f"{self.name} {'offset [frames]' if value == 'offset' else value}"

    @torch.no_grad()
    def __call__(
        self, frames: Frames, fps: float, place: NDArray[np.float64], waveform: NDArray[np.float32], sample_rate: int
    ) -> Pair | None:
        """Embeddings [N, D] of a clip's lips and sound, each of length 1; N is F - 4."""
        shown = at_25_fps(len(frames), fps)
        sound = resampled(waveform, sample_rate)
        n_frames = min(len(shown), round(len(sound) / (SPECTRA_PER_FRAME * HOP)))
        crops = mouth_crops(frames[shown[:n_frames]], place[None].astype(np.float32)) if n_frames > 4 else None
        if crops is None:
            return None
        return self.towers.lips(middles(crops)[None])[0], self.towers.sound(log_mel(sound, n_frames)[None])[0]


def _choose(network: str, weights: str | None, device: str) -> Network:
    if weights is not None:
        path = Path(weights).expanduser()
        return _own(path) if network == "own" or _is_checkpoint(path) else _original(find(FILE, weights), device)
    if network == "syncnet" or (network == "auto" and any(place.is_file() for place in FILE.places)):
        return _original(find(FILE, None), device)
    return _own(SHIPPED)


def _is_checkpoint(path: Path) -> bool:
    """Whether it is a run, or a file that `dheads train` wrote."""
    if path.suffix != ".safetensors" or not path.is_file():
        return path.is_dir()
    try:
        with safe_open(path, framework="pt") as file:
            return "dheads" in (file.metadata() or {})
    except SafetensorError:  # as reading it as SyncNet's will say
        return False


@cache  # rows of one table share them
def _own(reference: Path) -> Own:
    return Own(reference)


@cache
def _original(weights: Weights, device: str) -> Original:
    return Original(weights, device)
