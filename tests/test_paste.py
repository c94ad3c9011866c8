"""A face goes back to where it was in the photo: the rest of the photo stands still, and no seam is seen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from commands import FACE, OTHER_FACE, dheads, make_checkpoint, write_speech
from numpy.typing import NDArray

from dheads_cli.data import align, media
from dheads_cli.data.paste import PasteBack, face_mask
from dheads_cli.recipe import Preprocess
from dheads_cli.run.identity import Identity, find_face

S = 128


@pytest.fixture(scope="module")
def identity() -> Identity:
    return find_face(media.read_image(FACE), FACE, Preprocess(), S, None)


def paste_of(identity: Identity, longest: int = 1280) -> PasteBack:
    return PasteBack(identity.picture, identity.transform, S, align.MARGINS, longest)


def apart(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.abs(a.astype(float) - b)


def test_the_photo_s_own_crop_gives_the_photo_back(identity: Identity) -> None:
    frame = paste_of(identity)(identity.crop)
    assert frame.shape == identity.picture.shape == (288, 360, 3)
    assert apart(frame, identity.picture).mean() < 0.5
    assert np.percentile(apart(frame, identity.picture), 99) < 12  # what two resamplings blur


def test_a_crop_in_another_tint_is_matched_at_the_seam_and_by_the_same_amount_ever_after(identity: Identity) -> None:
    paste = paste_of(identity)
    tinted = np.clip(identity.crop + np.array([12, -10, 8]), 0, 255).astype(np.uint8)
    assert apart(paste(tinted), identity.picture).mean() < 0.6
    later = paste(identity.crop).astype(float) - identity.picture  # the first frame's difference holds
    centre = later[120:150, 170:190].mean(axis=(0, 1))
    assert centre == pytest.approx([-12, 10, -8], abs=2.5)


def test_only_the_face_moves(identity: Identity) -> None:
    paste, rng = paste_of(identity), np.random.default_rng(0)
    frames = [paste(rng.integers(0, 255, (S, S, 3), np.uint8)) for _ in range(2)]
    moved = apart(frames[0], frames[1]).max(axis=2) > 0
    ys, xs = np.nonzero(moved)
    corners = align.apply(identity.transform, np.stack([xs + 0.5, ys + 0.5], axis=1).astype(np.float64))
    assert corners.min() > -1
    assert corners.max() < S + 1
    assert (frames[0][:40] == identity.picture[:40]).all()


def test_the_mask_is_whole_on_the_face_and_gone_at_the_border() -> None:
    mask = face_mask(S, align.MARGINS)
    face = align.mean_face_in_crop(S)[17:].round().astype(int)  # brows, eyes, nose, lips
    assert mask[face[:, 1], face[:, 0]].min() > 0.9
    assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) == 0


@pytest.mark.parametrize("longest", [64, 201, 300])
def test_a_smaller_photo_has_the_face_in_the_same_place(identity: Identity, longest: int) -> None:
    paste = paste_of(identity, longest)
    width, height = paste.size
    assert (width % 2, height % 2) == (0, 0)
    assert abs(max(paste.size) - longest) <= 1
    frame = paste(identity.crop)
    assert frame.shape == (height, width, 3)
    reference = paste._photo
    assert apart(frame, reference).mean() < 1.0


def test_a_crop_that_stands_over_the_photo_s_border_is_cut_off(identity: Identity) -> None:
    picture = np.ascontiguousarray(identity.picture[40:200, 120:240])
    transform = identity.transform.copy()
    transform[:, 2] += transform[:, :2] @ [120, 40]
    paste = PasteBack(picture, transform, S, align.MARGINS, 1280)
    assert apart(paste(align.warp(picture, transform, S)), picture).mean() < 1.5


def test_animate_pastes_back_and_shows_the_crop(tmp_path: Path) -> None:
    model = make_checkpoint(tmp_path / "small.safetensors")
    speech, out = write_speech(tmp_path / "speech.flac", 0.12), tmp_path / "a.mp4"
    words = ("animate", OTHER_FACE, speech, "-o", out, "--model", model, "--paste-back", "--crop-preview")
    ended = dheads(*words, tmp_path / "crop.png")
    assert ended.code == 0, ended.stderr
    assert "drawn in 32 px and enlarged" in ended.stderr
    frames, photo = media.read_video(out, 25).frames, media.read_image(OTHER_FACE)
    assert frames.shape == (3, *photo.shape)
    assert apart(frames[2][300:], photo[300:]).mean() < 6  # H.264's own error
    assert media.read_image(tmp_path / "crop.png").shape == (32, 32, 3)
