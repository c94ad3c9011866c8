"""Motion of a mesh: taken apart, given to another face."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from test_preprocess import GRID

from dheads_cli.data import mesh
from dheads_cli.data.media import read_video
from dheads_cli.data.photo import read_image
from dheads_components.landmark_detectors.mediapipe import MediaPipe

ASTRONAUT = GRID.parents[2] / "examples/astronaut.jpg"  # smiles with open lips


@pytest.fixture(scope="module")
def filmed() -> np.ndarray:
    detector = MediaPipe()
    frames = read_video(GRID / "s1/bbaf2n.mp4", 25).frames
    return np.stack([detector.mesh(frame) for frame in frames]).astype(np.float64)


@pytest.fixture(scope="module")
def smile() -> np.ndarray:
    return MediaPipe().mesh(read_image(ASTRONAUT)).astype(np.float64)


def test_a_face_given_its_own_motion_moves_as_it_did(filmed):
    motion = mesh.motion_of(filmed)
    again = mesh.moved(motion.rest, motion)
    opened, told = mesh.opening(again), mesh.opening(filmed)
    assert np.corrcoef(opened, told)[0, 1] > 0.98  # the motion is smoothed over three frames
    assert opened.std() / told.std() == pytest.approx(1, abs=0.15)


def test_a_turn_of_the_head_is_no_motion_of_the_face(filmed):
    still = np.repeat(filmed[:1], 12, axis=0)
    turns = Rotation.from_rotvec(np.linspace(0, 0.2, 12)[:, None] * [0, 1, 0]).as_matrix()
    motion = mesh.motion_of(np.einsum("fij,fpj->fpi", turns, still))
    assert np.abs(motion.offsets).max() < 0.05
    spread = np.degrees(np.ptp(motion.turns[:, 1]))
    assert spread == pytest.approx(np.degrees(0.2), rel=0.15)  # smoothed at the ends


def test_further_turns_are_added_and_the_head_can_be_kept_still(filmed):
    motion = mesh.motion_of(filmed)
    still = mesh.moved(motion.rest, motion, head=0)
    assert np.degrees(mesh.motion_of(still).turns).std(axis=0).max() < 0.3
    turns = np.zeros((len(filmed), 3))
    turns[:, 1] = 0.2 * np.sin(np.arange(len(filmed)) / 5)
    turned = mesh.motion_of(mesh.moved(motion.rest, motion, head=0, turns=turns))
    assert np.corrcoef(turned.turns[:, 1], turns[:, 1])[0, 1] > 0.99


def test_a_factor_makes_the_mouth_open_further(filmed):
    motion = mesh.motion_of(filmed)
    narrow, wide = (mesh.opening(mesh.moved(motion.rest, motion, mouth=mouth)) for mouth in (0.5, 1.5))
    assert wide.std() / narrow.std() == pytest.approx(3, rel=0.2)


def test_closed_lips_meet_and_the_nose_stays(smile):
    assert mesh.opening(smile) > 0.03
    closed = mesh.with_closed_lips(smile)
    assert mesh.opening(closed) == pytest.approx(0, abs=1e-9)
    above = smile[:, 1] < smile[mesh.NOSE_BASE, 1]
    assert (closed[above] == smile[above]).all()
    assert smile[mesh.CHIN, 1] > closed[mesh.CHIN, 1] > closed[mesh.OUTER_LOWER, 1].max()


def test_closed_lips_stay_closed(filmed):
    closed = mesh.with_closed_lips(filmed[0])
    assert np.abs(mesh.with_closed_lips(closed) - closed).max() < 1e-9


def test_eyes_open_as_told(filmed):
    motion = mesh.motion_of(filmed)
    eyes = np.linspace(0, 1, len(filmed))[:, None].repeat(2, axis=1)
    posed = mesh.moved(motion.rest, mesh.Motion(motion.rest, 0 * motion.offsets, 0 * motion.turns, eyes))
    for upper, lower in mesh.EYES:
        gap = np.linalg.norm(posed[:, upper] - posed[:, lower], axis=-1).mean(axis=1)
        assert gap[0] == pytest.approx(0, abs=1e-9)
        assert np.corrcoef(gap, eyes[:, 0])[0, 1] > 0.999


def test_a_blink_is_found(filmed):
    openness = mesh.eye_openness(filmed)
    assert openness.min() < 0.2  # he blinks at the end
    assert np.median(openness) == pytest.approx(1, abs=0.1)
