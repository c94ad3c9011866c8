"""Faces followed through a clip, and the choice of one: on made-up faces with known paths, and on two real clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dheads_cli.data import align, media, tracking
from dheads_cli.errors import UnusableClip
from dheads_components.landmark_detectors.mediapipe import MediaPipe

GRID = Path(__file__).parent / "data/grid"
F, RATE, SIZE = 50, 16000, (400, 200)
SILENCE = np.zeros(F * RATE // 25, np.float32)


def face(x: float, y: float = 100, width: float = 60, opening: float = 0) -> NDArray[np.float32]:
    """The mean face around (x, y), its lower inner lip `opening` widths lower."""
    points = align.MEAN_FACE.copy()
    points[65:68, 1] += opening
    return ((points - 0.5) * width + [x, y]).astype(np.float32)


def talking(x: float, moves: NDArray[np.float64], width: float = 60) -> list[NDArray[np.float32]]:
    return [face(x, width=width, opening=0.2 * each) for each in moves]


def speech(loud: NDArray[np.float64]) -> NDArray[np.float32]:
    """Noise as loud as `loud` [F] says."""
    gain = np.interp(np.arange(len(SILENCE)), (np.arange(F) + 0.5) * RATE / 25, loud)
    return (0.2 * gain**2 * np.random.default_rng(0).standard_normal(len(SILENCE))).astype(np.float32)


def rhythm(seed: int) -> NDArray[np.float64]:
    """Syllables [F], 0.02 ... 1."""
    raw = np.convolve(np.random.default_rng(seed).standard_normal(F + 2), [0.5, 1, 0.5], "valid")
    return np.clip(0.5 + raw / 3, 0.02, 1)


def middles(track: NDArray[np.float32]) -> NDArray[np.float32]:
    return track[np.isfinite(track[:, 0, 0])].mean(axis=1)[:, 0]


def test_faces_that_change_places_in_the_list_keep_their_tracks() -> None:
    left, right = [face(100 + k) for k in range(F)], [face(300 - k) for k in range(F)]
    listed = [[a, b] if k % 2 else [b, a] for k, (a, b) in enumerate(zip(left, right, strict=True))]
    tracks = tracking.link(listed, 5)
    assert len(tracks) == 2
    by_place = sorted(tracks, key=lambda track: track[0, 0, 0])
    assert np.array_equal(by_place[0], np.stack(left))
    assert np.array_equal(by_place[1], np.stack(right))


@pytest.mark.parametrize(("away", "n_tracks"), [(5, 1), (6, 2)])
def test_a_face_is_the_same_after_a_short_gap_only(away: int, n_tracks: int) -> None:
    tracks = tracking.link([[] if 20 <= k < 20 + away else [face(100)] for k in range(F)], 5)
    assert len(tracks) == n_tracks
    assert sum(np.isfinite(track[:, 0, 0]).sum() for track in tracks) == F - away


def test_a_face_that_enters_elsewhere_is_another_and_the_clip_is_cut() -> None:
    tracks = tracking.link([[face(100 if k < 30 else 300)] for k in range(F)], 5)
    assert len(tracks) == 2
    with pytest.raises(UnusableClip, match=r"cut: no face stays: .* in frames 0 to 29"):
        choose(tracks, "largest")


def test_a_face_of_another_size_in_the_same_place_is_another() -> None:
    assert len(tracking.link([[face(100, width=60 if k < 30 else 130)] for k in range(F)], 5)) == 2


def choose(tracks: list[NDArray[np.float32]], which: tracking.WhichFace, wave: NDArray[np.float32] = SILENCE) -> float:
    return float(middles(tracking.choose_face(tracks, which, 5, SIZE, wave, RATE)).mean())


@pytest.mark.parametrize("speaker", [0, 1, 2])
def test_the_face_whose_lips_move_with_the_sound_speaks(speaker: int) -> None:
    rhythms, places, widths = [rhythm(seed) for seed in (1, 2, 3)], (60, 190, 340), (50, 60, 80)
    listed = [list(each) for each in zip(*map(talking, places, rhythms, widths), strict=True)]
    tracks = tracking.link(listed, 5)
    assert choose(tracks, "speaking", speech(rhythms[speaker])) == pytest.approx(places[speaker], abs=2)
    assert choose(tracks, "largest", speech(rhythms[speaker])) == pytest.approx(340, abs=2)
    assert choose(tracks, "central", speech(rhythms[speaker])) == pytest.approx(190, abs=2)


def test_where_no_lips_follow_the_sound_the_largest_face_is_taken() -> None:
    still = np.full(F, 0.3)
    both = zip(talking(60, still, 50), talking(300, still, 80), strict=True)
    tracks = tracking.link([list(each) for each in both], 5)
    assert tracking.speaking_face(tracks, speech(rhythm(1)), RATE) is None
    assert choose(tracks, "speaking", speech(rhythm(1))) == pytest.approx(300, abs=2)


def test_a_passer_by_is_neither_chosen_nor_a_ghost_counted() -> None:
    listed = [[face(100), *([face(300, width=90)] if 10 <= k < 30 else [])] for k in range(F)]
    listed[40].append(face(200, width=30))
    tracks = tracking.link(listed, 5)
    assert choose(tracks, "largest") == pytest.approx(100, abs=2)
    assert tracking.n_faces(tracks, 5) == 2


def test_a_face_away_too_long_is_lost() -> None:
    with pytest.raises(UnusableClip, match="face lost: in 10 frames, 10 to 19"):
        choose(tracking.link([[] if 10 <= k < 20 else [face(100)] for k in range(F)], 5), "speaking")
    with pytest.raises(UnusableClip, match="no face: in any frame"):
        choose([], "speaking")


class Counting:
    """A detector that knows where two faces are, and says how often it was asked."""

    def __init__(self, n: int) -> None:
        self.n, self.calls, self.images = n, 0, 0

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.calls += 1
        return np.stack([face(100)] * len(frames))

    def all_faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        self.images += 1
        return [face(300, width=90), face(100)][-self.n :]


def test_one_face_costs_two_more_looks() -> None:
    frames = np.zeros((F, 8, 8, 3), np.uint8)
    one, two = Counting(1), Counting(2)
    assert len(tracking.follow_faces(one, frames, 5)) == 1
    assert (one.calls, one.images) == (1, 2)
    assert len(tracking.follow_faces(two, frames, 5)) == 2
    assert two.calls == 0


@pytest.fixture(scope="module")
def real() -> list[NDArray[np.uint8]]:
    return [media.read_video(GRID / name, 25).frames[:16] for name in ("s1/bbaf2n.mp4", "s2/bbaf1n.mp4")]


def test_two_real_people_side_by_side_are_two_faces(real: list[NDArray[np.uint8]]) -> None:
    tracks = tracking.follow_faces(MediaPipe(), np.concatenate(real, axis=2)[::4], 5)
    assert len(tracks) == 2
    assert [bool(np.isfinite(track).all()) for track in tracks] == [True, True]
    assert sorted(float(np.median(track[:, :, 0])) // 360 for track in tracks) == [0, 1]


def test_a_cut_to_another_person_in_the_same_place_is_found(real: list[NDArray[np.uint8]]) -> None:
    detector = MediaPipe()
    cut = np.concatenate([real[0][:8], real[1][:8]])
    crops = align.align_clip(cut, detector(cut), 64)[0]
    with pytest.raises(UnusableClip, match="cut: another face, or another shot, begins at frame 8"):
        tracking.refuse_swap(crops)
    tracking.refuse_swap(align.align_clip(real[0], detector(real[0]), 64)[0])


def test_a_flash_of_light_is_no_cut(real: list[NDArray[np.uint8]]) -> None:
    crops = align.align_clip(real[0], MediaPipe()(real[0]), 64)[0]
    crops[7] = np.clip(crops[7].astype(np.float32) * 0.6 + 90, 0, 255).astype(np.uint8)
    tracking.refuse_swap(crops)
