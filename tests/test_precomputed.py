"""The detector that reads landmarks from files, alone and in preprocessing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dheads_cli import registry
from dheads_cli.conformance import assert_conforms
from dheads_cli.data import media
from dheads_cli.data.manifest import read_manifest
from dheads_cli.data.shards import Corpus
from dheads_cli.data.stored_clip import decode_sample
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.recipe import Preprocess
from dheads_cli.recipe_section import Component
from dheads_cli.run.preprocess import preprocess
from dheads_components.landmark_detectors.mediapipe import MediaPipe
from dheads_components.landmark_detectors.precomputed import Precomputed

GRID = Path(__file__).parent / "data/grid"


@pytest.fixture(scope="module")
def landmarks() -> NDArray[np.float32]:
    """MediaPipe's landmarks of the clip s1/bbaf2n."""
    return MediaPipe()(media.read_video(GRID / "s1/bbaf2n.mp4", 25).frames)


def test_a_clip_s_file_is_found_by_its_id(tmp_path: Path, landmarks: NDArray[np.float32]) -> None:
    (tmp_path / "s1").mkdir()
    stored = landmarks.astype(np.float64)
    stored[3, 5, 0] = np.nan  # half a face is none
    np.save(tmp_path / "s1/bbaf2n.npy", stored)
    found = Precomputed(str(tmp_path)).of_clip("s1/bbaf2n", 32)
    assert found.dtype == np.float32
    assert np.isnan(found[3]).all()
    assert np.array_equal(np.delete(found, 3, 0), np.delete(landmarks, 3, 0))


def test_files_that_do_not_fit_are_refused_with_the_reason(tmp_path: Path, landmarks: NDArray[np.float32]) -> None:
    np.save(tmp_path / "short.npy", landmarks[:30])
    np.save(tmp_path / "flat.npy", landmarks.reshape(32, -1))
    np.save(tmp_path / "text.npy", np.array(["a"] * 32))
    np.save(tmp_path / "infinite.npy", np.full((32, 68, 2), np.inf))
    np.save(tmp_path / "object.npy", np.array([{}] * 32), allow_pickle=True)
    (tmp_path / "damaged.npy").write_bytes(b"\x93NUMPY")
    detector = Precomputed(str(tmp_path))
    wanted = {
        "absent": "no landmarks: .*absent.npy: no such file",
        "short": r"wrong landmarks: .*holds 30 frames, but the clip has 32 at the frame rate",
        "flat": r"must be numbers \[32, 68, 2\], not float32 \[32, 136\]",
        "text": "must be numbers",
        "infinite": "infinite coordinates",
        "object": "no array of numbers",
        "damaged": "no array of numbers",
    }
    for clip, words in wanted.items():
        with pytest.raises(UnusableClip, match=words):
            detector.of_clip(clip, 32)


def test_pictures_can_not_be_looked_at(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="finds no face in a picture: choose another"):
        Precomputed(str(tmp_path)).all_faces(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DheadsError, match="no such folder"):
        registry.build("landmark_detectors", "precomputed", {"folder": str(tmp_path / "x")})


def test_it_conforms(tmp_path: Path) -> None:
    assert_conforms("landmark_detectors", Precomputed(str(tmp_path)))


def test_preprocessing_takes_the_landmarks_of_each_clip(tmp_path: Path, landmarks: NDArray[np.float32]) -> None:
    corpus, points = tmp_path / "corpus", tmp_path / "points"
    corpus.mkdir()
    points.mkdir()
    for name in ("a", "b"):
        shutil.copy(GRID / "s1/bbaf2n.mp4", corpus / f"{name}.mp4")
    np.save(points / "a.npy", landmarks)
    detector = Component(use="precomputed", folder=str(points))  # type: ignore[call-arg]
    preprocess(corpus, tmp_path / "out", Preprocess(size=64, workers=1, detector=detector, test_fraction=0))
    rows = {row.id: row for row in read_manifest(tmp_path / "out")}
    assert (rows["b"].reason, rows["a"].status) == ("no landmarks", "ok")
    members = Corpus(tmp_path / "out").read(rows["a"])
    transforms = np.array(json.loads(members["json"])["transforms"]).reshape(-1, 2, 3)
    stored = decode_sample(members).landmarks
    mapped = np.einsum("fij,fpj->fpi", transforms[:, :, :2], landmarks) + transforms[:, None, :, 2]
    assert np.abs(stored - mapped).max() < 0.05
