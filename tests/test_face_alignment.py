"""The detector of the package face-alignment: its cropping and decoding with networks made for the test, its files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("NUMBA_DISABLE_JIT", "1")  # compiling takes the package longer than all tests here

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_components.landmark_detectors import face_alignment as detector_module
from dheads_components.landmark_detectors.face_alignment import FaceAlignment

FILES = ("s3fd-619a316812.pth", "2DFAN4-11f355bf06.pth.tar")


class Boxes:
    """Stands for S3FD: a face is a rectangle of one gray level above 100."""

    reference_scale = 195.0

    def detect_from_batch(self, batch: Tensor) -> list[Any]:
        return [self.boxes(image[0].numpy()) for image in batch]

    def boxes(self, gray: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
        found = []
        for level in np.unique(gray[gray > 100]):
            rows, columns = np.nonzero(gray == level)
            found.append(np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1, 0.9], np.float64))
        return found


def corner_heatmaps(crops: Tensor) -> Tensor:
    """Stands for 2D-FAN: all points in the upper left corner of what is bright in each crop [N, 3, 256, 256]."""
    maps = torch.zeros(len(crops), 68, 64, 64)
    for index, crop in enumerate(crops[:, 0]):
        rows, columns = torch.nonzero(crop > 0.4, as_tuple=True)
        maps[index, :, rows.min() // 4, columns.min() // 4] = 1
    return maps


def with_stand_ins(batch_size: int = 4) -> FaceAlignment:
    """The detector with the package's own cropping and decoding, and the networks above."""
    import face_alignment

    networks = object.__new__(face_alignment.FaceAlignment)
    networks.device, networks.dtype, networks.flip_input, networks.max_batch_size = "cpu", torch.float32, False, 4
    networks.landmarks_type, networks.verbose = face_alignment.LandmarksType.TWO_D, False
    networks.face_detector, networks.face_alignment_net = Boxes(), corner_heatmaps
    detector = object.__new__(FaceAlignment)
    detector.batch_size, detector._networks = batch_size, networks
    return detector


def scene(*places: tuple[int, int, int]) -> NDArray[np.uint8]:
    """A frame [200, 300, 3] with a square at each (x, y, side)."""
    frame = np.zeros((200, 300, 3), np.uint8)
    for number, (x, y, side) in enumerate(places):
        frame[y : y + side, x : x + side] = 150 + 20 * number
    return frame


def test_points_come_back_in_px_of_their_own_frame() -> None:
    frames = np.stack([scene((40 + 10 * k, 60 + 5 * k, 80)) for k in range(6)])
    found = with_stand_ins()(frames)
    assert found.shape == (6, 68, 2)
    assert found.dtype == np.float32
    wanted = np.array([(40 + 10 * k, 60 + 5 * k) for k in range(6)])
    assert np.abs(found[:, 0] - wanted).max() < 2.6  # a heatmap's pixel is 2.6 px here


def test_batches_change_nothing_even_at_the_edges() -> None:
    frames = np.stack([scene((0, 0, 90)), scene(), scene((210, 120, 80), (20, 30, 40)), scene((5, 110, 90))])
    alone, together = with_stand_ins(1), with_stand_ins(4)
    assert np.array_equal(alone(frames), together(frames), equal_nan=True)
    assert np.isnan(together(frames)[1]).all()


def test_faces_are_sorted_and_one_is_followed() -> None:
    detector = with_stand_ins()
    frames = np.stack([scene((20, 50, 90), (200, 60, 50)), scene((200, 60, 50), (30, 50, 90)), scene((205, 60, 50))])
    assert len(detector.all_faces(frames[0])) == 2
    assert detector.all_faces(scene()) == []
    assert np.array_equal(detector(frames[:2])[:, 0, 0] < 100, [True, True])
    assert detector(frames[:0]).shape == (0, 68, 2)


def test_missing_weights_say_what_to_download_and_where_to_put_it(tmp_path: Path) -> None:
    with pytest.raises(DheadsError) as error:
        registry.build("landmark_detectors", "face_alignment", {"weights": str(tmp_path)})
    text = str(error.value)
    assert "\n" not in text
    assert all(f"https://www.adrianbulat.com/downloads/python-fan/{name}" in text for name in FILES)
    assert text.startswith(str(tmp_path))


def test_a_failed_download_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from face_alignment.detection.sfd import sfd_detector

    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setitem(sfd_detector.models_urls, "s3fd", "http://127.0.0.1:9/s3fd-619a316812.pth")
    with pytest.raises(DheadsError) as error:
        FaceAlignment(device="cpu")
    text = str(error.value)
    assert "\n" not in text
    assert "can't be fetched from http://127.0.0.1:9/s3fd-619a316812.pth" in text
    assert str(tmp_path / "checkpoints") in text
    assert "`weights: FOLDER`" in text


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("made-by-the-file",)


def test_code_in_a_weights_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        torch.save({"weight": Evil()}, tmp_path / name)
    with pytest.raises(DheadsError, match="not weights that face-alignment takes"):
        FaceAlignment(weights=str(tmp_path), device="cpu")
    assert not (tmp_path / "made-by-the-file").exists()


@pytest.mark.slow
def test_files_of_the_right_tensors_are_loaded(tmp_path: Path) -> None:
    from face_alignment.detection.sfd.net_s3fd import s3fd
    from face_alignment.models import FAN

    with torch.no_grad():
        for name, network in zip(FILES, (s3fd(), FAN(4)), strict=True):
            torch.save(network.state_dict(), tmp_path / name)
    detector = FaceAlignment(weights=str(tmp_path), device="cpu", min_confidence=1.0)
    assert detector.all_faces(np.zeros((64, 64, 3), np.uint8)) == []
    assert [name in detector.weights for name in FILES] == [True, True]
    assert detector_module.find_weights(str(tmp_path)) == [tmp_path / name for name in FILES]


def test_wrong_options_are_refused() -> None:
    for options, words in (({"batch_size": 0}, "batch_size"), ({"min_confidence": 2}, "min_confidence is 2")):
        with pytest.raises(DheadsError, match=words):
            registry.build("landmark_detectors", "face_alignment", options)
