"""Landmarks by the package face-alignment: the S3FD face detector and the 2D-FAN landmark network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from dheads_cli import downloads
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_cli.model.build import choose_device

if TYPE_CHECKING:
    from dheads_cli.protocols import Frames, Landmarks

NETWORK = "2DFAN-4"


class FaceAlignment:
    """S3FD and 2D-FAN (Bulat and Tzimiropoulos 2017), every frame looked at on its own; made for a GPU.

    The weights, 180 MB in two files, are downloaded once from where the package has them, or lie in a folder of yours.
    They are read as tensors alone: no code of a file is run.

    Args:
        weights: folder with the package's two files, under their own names; nothing is downloaded into it. None is
            where the package itself keeps them, torch's ~/.cache/torch/hub/checkpoints.
        device: cpu, cuda, cuda:1 ...; auto takes a GPU where there is one.
        batch_size: frames that are looked at together.
        min_confidence: lowest score of a face, in 0 ... 1.

    Raises:
        DheadsError: a file is missing and can't be downloaded, or is not what it should be.
    """

    def __init__(
        self,
        weights: str | None = None,
        device: str = "auto",
        batch_size: int = 16,
        min_confidence: float = 0.5,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        if not 0 <= min_confidence <= 1:
            raise ValueError(f"min_confidence is {min_confidence}, not in 0 ... 1")
        self.batch_size = batch_size
        try:
            place = str(choose_device(device))
        except DheadsError as error:
            raise DheadsError(f"face_alignment: {str(error).removeprefix('--')}") from error
        self._files = find_weights(weights)
        self._networks = _build(self._files, place, batch_size, min_confidence)

    @property
    def weights(self) -> str:
        """Networks, files and checksums, for whoever reports values measured with them."""
        names = [f"{path.name} sha256 {sha256_of(path)[:12]}" for path in self._files]
        return f"S3FD and 2D-FAN, {' and '.join(names)}"

    def __call__(self, frames: Frames) -> Landmarks:
        """Follow one face through a clip: the largest of the first frame with a face.

        Args:
            frames: uint8 RGB [F, H, W, 3].

        Returns:
            float32 [F, 68, 2] px (x, y), NaN where no face is found.
        """
        landmarks = np.full((len(frames), 68, 2), np.nan, dtype=np.float32)
        place: NDArray[np.float32] | None = None
        for index, faces in enumerate(self._faces_of(frames)):
            if place is not None:
                centre = place
                faces.sort(key=lambda face: float(np.linalg.norm(face.mean(axis=0) - centre)))
            if faces:
                landmarks[index], place = faces[0], faces[0].mean(axis=0)
        return landmarks

    def all_faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        """uint8 RGB [H, W, 3] -> float32 [68, 2] px for each face, the largest first; empty where there is none."""
        return next(self._faces_of(image[None]))

    def _faces_of(self, frames: Frames) -> Iterator[list[NDArray[np.float32]]]:
        """The faces of each frame, the largest first."""
        for begin in range(0, len(frames), self.batch_size):
            yield from self._faces_of_batch(np.ascontiguousarray(frames[begin : begin + self.batch_size]))

    def _faces_of_batch(self, frames: Frames) -> list[list[NDArray[np.float32]]]:
        """S3FD on all frames together, then 2D-FAN on all their faces together.

        The package takes faces of one image together, so the frames are laid out as one strip, with room between them:
        a crop around a face reaches beyond its frame, where the package sees black, not into the next frame.
        """
        batch = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())
        boxes = [np.array(found).reshape(-1, 5) for found in self._networks.face_detector.detect_from_batch(batch)]
        if not any(len(found) for found in boxes):
            return [[] for _ in frames]
        height, width = frames.shape[1:3]
        room = int(np.ceil(2 * max(float((found[:, 2:4] - found[:, :2]).max()) for found in boxes if len(found))))
        tops = [room + index * (height + room) for index in range(len(frames))]
        strip = np.zeros((tops[-1] + height + room, width, 3), np.uint8)
        for top, frame in zip(tops, frames, strict=True):
            strip[top : top + height] = frame
        owners = [index for index, found in enumerate(boxes) for _ in found]
        moved = [box + np.array([0, top, 0, top, 0]) for top, found in zip(tops, boxes, strict=True) for box in found]
        faces: list[list[NDArray[np.float32]]] = [[] for _ in frames]
        for index, points in zip(owners, self._networks.get_landmarks_from_image(strip, moved), strict=True):
            # The package cuts fractions of a px off: in the mean half a px.
            faces[index].append((points + np.array([0.5, 0.5 - tops[index]])).astype(np.float32))
        return [sorted(found, key=lambda face: -float(np.prod(np.ptp(face, axis=0)))) for found in faces]


def find_weights(folder: str | None) -> list[Path]:
    """The files of S3FD and of 2D-FAN, downloaded where no folder is given.

    Raises:
        DheadsError: one is missing, or can't be downloaded.
    """
    from face_alignment import api
    from face_alignment.detection.sfd import sfd_detector

    place = Path(folder).expanduser() if folder else Path(torch.hub.get_dir()) / "checkpoints"
    urls = {place / url.rsplit("/", 1)[-1]: url for url in (sfd_detector.models_urls["s3fd"], api.models_urls[NETWORK])}
    missing = {file: url for file, url in urls.items() if not file.is_file()}
    if missing and folder:
        raise DheadsError(
            f"{folder} has not all weights of the landmark detector 'face_alignment': download "
            f"{' and '.join(missing.values())} into it"
        )
    for file, url in missing.items():
        downloads.fetch(url, file, "landmark detector 'face_alignment'", "`weights: FOLDER` beside `use`")
    return list(urls)


def _build(files: list[Path], device: str, batch_size: int, min_confidence: float) -> Any:
    """The package's object, its networks loaded from these files and from nowhere else.

    The package itself would unpickle S3FD's file whole, and compile the networks with a cache that it unpickles too.
    """
    import face_alignment
    from face_alignment.models import FAN

    detector, network = files

    class FromFiles(face_alignment.FaceAlignment):  # type: ignore[misc]
        def _load_native(self, network_name: str, network_size: int, device: str, dtype: torch.dtype) -> Any:
            fan = FAN(network_size)
            fan.load_state_dict(torch.load(network, map_location=device, weights_only=True))  # noqa: TID251
            return fan.to(device, dtype=dtype).eval()

    with _readable(files):
        return FromFiles(
            face_alignment.LandmarksType.TWO_D,
            device=device,
            face_detector_kwargs={"path_to_detector": str(detector), "filter_threshold": min_confidence},
            compile=False,
            max_batch_size=batch_size,
        )


@contextmanager
def _readable(files: list[Path]) -> Iterator[None]:
    """Turn what a wrong file raises into an error that names the files."""
    try:
        yield
    except Exception as error:  # torch raises its unpickler's, archive's and networks' errors here
        names = " or ".join(str(file) for file in files)
        reason = str(error).splitlines()[0]
        raise DheadsError(f"{names}: not weights that face-alignment takes ({reason}): download it again") from error
