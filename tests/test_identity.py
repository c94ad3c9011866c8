"""Who speaks: found in any photo, in the best frame of a film, and warned of in numbers where the face is unusual."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
from commands import FACE, OTHER_FACE
from numpy.typing import NDArray
from PIL import Image

from dheads_cli.data import align, media
from dheads_cli.data.portrait import Portrait, doubts, measure
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import Preprocess
from dheads_cli.registry import build
from dheads_cli.run.identity import Identity, find_face, read_identity

CLIP = Path(__file__).parent / "data/grid/s1/bbaf2n.mp4"
WELL = Portrait(200, 0, 0, eyes=0.3, mouth=0.02, sharpness=0.27, misfit=0.02, outside=0)


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    return media.read_image(FACE)


def found(picture: NDArray[np.uint8], path: Path = Path("a.png")) -> Identity:
    return find_face(np.ascontiguousarray(picture), path, Preprocess(), 64, None)


def test_a_good_photo_is_taken_without_a_word(photo: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]) -> None:
    found(photo)
    assert capsys.readouterr().err == ""
    assert list(doubts(WELL)) == []


@pytest.mark.parametrize(
    ("measures", "text"),
    [
        ({"yaw_deg": -32.0}, "turned to the side by 32 degrees (trained: up to 10)"),
        ({"pitch_deg": 21.0}, "turned up or down by 21 degrees"),
        ({"mouth": 0.21}, "the mouth is open, by 0.21 of"),
        ({"eyes": 0.05}, "the eyes are closed, 0.05 as high"),
        ({"sharpness": 0.07}, "blurred, sharpness 0.07 (trained: from 0.20)"),
        ({"misfit": 0.062}, "6.2% of the crop off a mean face's (trained: to 4.1%)"),
        ({"outside": 0.25}, "25% of the crop lies outside the picture"),
    ],
)
def test_each_doubt_has_its_number(measures: dict[str, float], text: str) -> None:
    (said,) = doubts(Portrait(**{**vars(WELL), **measures}))
    assert text in said


def test_what_is_measured_is_what_was_done_to_the_photo(photo: NDArray[np.uint8]) -> None:
    (face,) = build("landmark_detectors", "mediapipe").all_faces(photo)
    whole = measure(photo, face, align.MARGINS)
    assert list(doubts(whole)) == []
    assert whole.outside == pytest.approx(0, abs=1e-3)
    blurred = cv2.GaussianBlur(photo, (0, 0), 4)
    assert measure(np.asarray(blurred, np.uint8), face, align.MARGINS).sharpness < 0.14 < whole.sharpness
    left = int(face[:, 0].mean())  # half of the face is cut away
    half = measure(np.ascontiguousarray(photo[:, left:]), face - np.array([left, 0], np.float32), align.MARGINS)
    assert half.outside == pytest.approx(0.5, abs=0.05)


def test_a_covered_face_is_doubted(photo: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]) -> None:
    (face,) = build("landmark_detectors", "mediapipe").all_faces(photo)
    masked = photo.copy()
    (left, right), top, bottom = face[[2, 14], 0].astype(int), int(face[30, 1]), int(face[8, 1]) + 5
    masked[top:bottom, left:right] = (120, 160, 200)
    found(masked)
    assert "less than 90% sure of the face; is it covered?" in capsys.readouterr().err


@pytest.mark.parametrize("quarter_turns", [1, 2, 3])
def test_a_photo_lying_on_its_side_is_turned(
    photo: NDArray[np.uint8], quarter_turns: int, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = found(np.rot90(photo, quarter_turns))
    assert (identity.picture == photo).all()
    assert (identity.crop == found(photo).crop).all()
    assert f"turned clockwise by {90 * quarter_turns} degrees" in capsys.readouterr().err


def film(path: Path, frames: list[NDArray[np.uint8]]) -> Path:
    with media.VideoWriter(path, 25, (360, 288)) as video:
        for frame in frames:
            video.write(frame)
    return path


def test_a_film_gives_its_best_frame(
    photo: NDArray[np.uint8], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blurred, nobody = np.asarray(cv2.GaussianBlur(photo, (0, 0), 3), np.uint8), np.zeros_like(photo)
    path = film(tmp_path / "a.mp4", [nobody, blurred, blurred, photo, blurred, nobody])
    best = read_identity(path, Preprocess(), None)
    assert np.abs(best.astype(int) - photo).mean() < 4
    assert "a.mp4: frame 3 suits best, of 6 looked at (--frame N takes another)" in capsys.readouterr().err
    assert read_identity(path, Preprocess(), 0).mean() < 2


def test_a_frame_in_which_something_passes_before_the_face_is_not_the_best(
    photo: NDArray[np.uint8], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (face,) = build("landmark_detectors", "mediapipe").all_faces(photo)
    covered, (x, y) = photo.copy(), face[8].astype(int)
    covered[y - 25 : y, x - 30 : x + 30 : 2] = 0  # finely striped: the sharpest
    softer = np.asarray(cv2.GaussianBlur(photo, (0, 0), 0.6), np.uint8)
    read_identity(film(tmp_path / "a.mp4", [softer, softer, covered, softer, softer]), Preprocess(), None)
    assert "frame 2 suits best" not in capsys.readouterr().err


def test_eyes_open_and_a_closed_mouth_suit_better() -> None:
    assert WELL.fitness > Portrait(**{**vars(WELL), "mouth": 0.2}).fitness
    assert WELL.fitness > Portrait(**{**vars(WELL), "eyes": 0.1}).fitness
    assert WELL.fitness > Portrait(**{**vars(WELL), "yaw_deg": 10.0}).fitness
    frames = media.read_video(CLIP, 25).frames
    detector, best = build("landmark_detectors", "mediapipe"), read_identity(CLIP, Preprocess(), None)
    openings = [measure(frame, detector.all_faces(frame)[0], align.MARGINS).mouth for frame in frames[::8]]
    assert measure(best, detector.all_faces(best)[0], align.MARGINS).mouth < max(openings) / 2


def test_frames_that_are_not_there_are_told(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [np.zeros_like(photo)] * 3)
    with pytest.raises(DheadsError, match="no frame 7; it has 3"):
        read_identity(path, Preprocess(), 7)
    with pytest.raises(DheadsError, match="no face in 3 frames"):
        read_identity(path, Preprocess(), None)
    with pytest.raises(DheadsError, match="--frame 2 is for films"):
        read_identity(FACE, Preprocess(), 2)


# Every kind of picture


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif", ".tiff", ".bmp"])
def test_every_format_gives_the_same_face(photo: NDArray[np.uint8], tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(photo).save(path, **({"quality": 95} if suffix in (".jpg", ".webp", ".avif") else {}))
    assert np.abs(found(read_identity(path, Preprocess(), None)).crop.astype(int) - found(photo).crop).mean() < 3


def test_heic_takes_a_package_and_says_which(photo: NDArray[np.uint8]) -> None:
    path = Path(__file__).parent / "data/face.heic"
    assert not media.is_film(path)
    if importlib.util.find_spec("pi_heif") is None:
        with pytest.raises(DheadsError, match="`pip install pi-heif`, or save it as JPEG"):
            media.read_image(path)
        return
    small = np.asarray(Image.fromarray(photo).resize((120, 96)))
    assert np.abs(media.read_image(path).astype(int) - small).mean() < 3


def test_a_photo_of_8000_px_is_taken(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(photo).resize((8000, 6400), Image.Resampling.BILINEAR).save(tmp_path / "a.jpg")
    large = found(read_identity(tmp_path / "a.jpg", Preprocess(), None)).crop
    assert np.abs(large.astype(int) - found(photo).crop).mean() < 6


def test_other_faces_are_taken_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    found(media.read_image(OTHER_FACE), OTHER_FACE)
    assert capsys.readouterr().err.count("warning") == 1  # an open smile


def test_an_open_mouth_is_closed_where_the_model_wants_that(capsys: pytest.CaptureFixture[str]) -> None:
    picture = media.read_image(OTHER_FACE)
    closed = find_face(picture, OTHER_FACE, Preprocess(), 64, None, closing=True).crop
    said = capsys.readouterr().err
    assert "its mouth, open by 0.1" in said
    assert "--set sample.close_mouth=false leaves it" in said
    assert "warning" not in said
    changed = np.abs(closed.astype(int) - found(picture).crop).max(axis=2)
    assert changed[36:52].max() > 60  # from nose to chin
    changed[36:52] = 0
    assert changed.max() < 15  # it is drawn from a finer crop


def test_a_closed_mouth_is_left_as_it_is(photo: NDArray[np.uint8], capsys: pytest.CaptureFixture[str]) -> None:
    assert np.array_equal(find_face(photo, FACE, Preprocess(), 64, None, closing=True).crop, found(photo).crop)
    assert capsys.readouterr().err == ""
