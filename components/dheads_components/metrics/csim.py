"""Identity: cosine similarity of face-recognition embeddings to the identity frame."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_components.metrics.face_box import mean_place
from dheads_components.metrics.seen import Remembered

if TYPE_CHECKING:
    from dheads_cli.protocols import Clip, Frames

NETWORK = "dlib face recognition ResNet"
WEIGHTS_FILE = "dlib_face_recognition_resnet_model_v1.dat"  # Davis King, CC0
WEIGHTS_SHA256 = "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
WEIGHTS_PACKAGE = "face_recognition_models"  # import name; face-recognition-models and its -ng fork carry the file
CACHE = Path("~/.cache/dheads")
CHIP_PX, CHIP_PADDING = 150, 0.25  # what the network was trained on
KEPT = 4096  # embeddings, 1 kB each
WORK_PX = 256  # smaller frames are enlarged first: dlib takes landmarks as whole pixels


@dataclass(frozen=True)
class Likeness:
    """One clip: embeddings of its identity frame and, the mean, of its real frames [128]; cosines to the former."""

    speaker: str
    identity: NDArray[np.float64]
    mean_real: NDArray[np.float64]
    ours: float
    real: float


class CSIM:
    """Mean cosine of dlib ResNet embeddings [128] of a clip's frames to that of its identity frame.

    CSIM: of the clip's own frames. CSIM of real: of the real clip's frames to the same identity frame, which is what a
    perfect copy scores; `CSIM / real` is the one over the other. CSIM of others: of the real frames of all other
    speakers among the clips to the same identity frame, the floor: what a stranger scores. Absent where there is one
    speaker. 1: the identity frame itself.

    The network learned Euclidean distances, so its cosines are high throughout: read a value between those two, and
    docs/METRICS.md. Faces are aligned by the mean landmarks of the real clip, as all frames of an aligned clip, and its
    identity frame, share one geometry: a frame without a face is scored too, and low.

    Args:
        weights: the network's file; None looks in ~/.cache/dheads, then in the package of the extra dheads[csim].
        stride: every how many frames one is scored.
    """

    def __init__(self, weights: str | None = None, stride: int = 5) -> None:
        if stride < 1:
            raise ValueError(f"stride must be at least 1, not {stride}")
        self.stride = stride
        self._network = _load(find_weights(weights))  # of all metrics that embed faces
        self._clips: list[Likeness] = []

    @property
    def weights(self) -> str:
        """Network, file and checksum."""
        return f"{NETWORK}, {WEIGHTS_FILE} sha256 {WEIGHTS_SHA256[:12]}, every {self.stride}. frame"

    def update(self, clip: Clip, reference: Clip) -> dict[str, float | str]:
        """CSIM of one clip."""
        return self.add(self.measure(clip, reference))

    def measure(self, clip: Clip, reference: Clip) -> Likeness | None:
        """Embeddings and cosines of one clip; None without a face in the real one."""
        place = mean_place(reference.landmarks)
        if place is None:
            return None
        pictures = [clip.identity[None], clip.frames[:: self.stride], reference.frames[:: self.stride]]
        embeddings = self.embed(np.concatenate(pictures), place)
        identity, ours, real = np.split(embeddings, np.cumsum([len(each) for each in pictures])[:-1])
        return Likeness(
            clip.speaker, identity[0], real.mean(axis=0), float((ours @ identity[0]).mean()),
            float((real @ identity[0]).mean()),
        )  # fmt: skip

    def add(self, measured: Likeness | None) -> dict[str, float | str]:
        """Take a clip's likeness in."""
        if measured is None:
            return {"CSIM note": "the real clip has no frame with a face: left out of CSIM"}
        self._clips.append(measured)
        return {"CSIM": measured.ours, "CSIM of real": measured.real, "CSIM / real": measured.ours / measured.real}

    def compute(self) -> dict[str, float]:
        """Means over clips."""
        if not self._clips:
            return {}
        ours, real = (float(np.mean([getattr(clip, name) for clip in self._clips])) for name in ("ours", "real"))
        values = {"CSIM": ours, "CSIM of real": real, "CSIM / real": ours / real}
        others = [
            float(other.mean_real @ clip.identity)  # the mean of the cosines, as every embedding has length 1
            for clip in self._clips
            for other in self._clips
            if other.speaker != clip.speaker
        ]
        return values | ({"CSIM of others": float(np.mean(others))} if others else {})

    def embed(self, frames: Frames, landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
        """uint8 RGB [F, H, W, 3], the face at landmarks [68, 2] px in each -> embeddings of length 1, [F, 128]."""
        import dlib

        scale = max(1.0, WORK_PX / min(frames.shape[1:3]))
        x_y = np.floor(landmarks * scale).astype(int)  # the pixel that holds each point
        low, high = x_y.min(axis=0), x_y.max(axis=0)
        face = dlib.full_object_detection(
            dlib.rectangle(*map(int, (*low, *high))), [dlib.point(int(x), int(y)) for x, y in x_y]
        )
        chips = [dlib.get_face_chip(_enlarge(frame, scale), face, CHIP_PX, CHIP_PADDING) for frame in frames]
        vectors = self._network(chips)
        unit: NDArray[np.float64] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit


def is_installed() -> bool:
    """Whether dlib and the network's file are there."""
    try:
        _load(find_weights())
    except DheadsError:
        return False
    return True


def find_weights(option: str | None = None) -> Path:
    """The network's file: as given, cached, or inside the package that carries it.

    Raises:
        DheadsError: it is nowhere, or is another file than expected.
    """
    if option is not None:
        places = [Path(option).expanduser()]
    else:
        spec = importlib.util.find_spec(WEIGHTS_PACKAGE)  # only located: the package's own code is not run
        folders = (spec.submodule_search_locations if spec else None) or []
        places = [CACHE.expanduser() / WEIGHTS_FILE, *(Path(folder) / "models" / WEIGHTS_FILE for folder in folders)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise DheadsError(
            f"metric 'csim' needs {WEIGHTS_FILE} (looked at {', '.join(map(str, places))}): "
            f"install it with `pip install 'dheads[csim]'`, or put the file in {CACHE}."
        )
    if (sha256 := sha256_of(found)) != WEIGHTS_SHA256:
        raise DheadsError(
            f"{found} is not the {NETWORK}: its sha256 is {sha256}, not {WEIGHTS_SHA256}. Replace it, or remove it."
        )
    return found


class FaceNetwork:
    """dlib's network, which remembers the embeddings of the last pictures.

    Several metrics embed the same frames, and each row of the table the same real clip.

    Args:
        network: dlib's.
        kept: how many embeddings are remembered.
    """

    def __init__(self, network: Any, kept: int = KEPT) -> None:
        self._remembered = Remembered(
            lambda chips: np.array(network.compute_face_descriptor(chips), dtype=np.float64), kept
        )

    def __call__(self, chips: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Aligned faces, uint8 RGB [CHIP_PX, CHIP_PX, 3] each -> embeddings [N, 128]."""
        return np.array(self._remembered(chips))


@cache
def _load(path: Path) -> FaceNetwork:
    try:
        import dlib
    except ImportError as error:
        raise DheadsError("metric 'csim' needs dlib: install it with `pip install 'dheads[csim]'`.") from error
    return FaceNetwork(dlib.face_recognition_model_v1(str(path)))


def _enlarge(frame: NDArray[np.uint8], scale: float) -> NDArray[np.uint8]:
    if scale == 1:
        return np.ascontiguousarray(frame)
    enlarged = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(enlarged, dtype=np.uint8)
