"""A photo's face drawn with another mesh."""

import numpy as np
import pytest
from test_preprocess import GRID

from dheads_cli.data import mesh
from dheads_cli.data.media import read_video
from dheads_cli.data.reenact import Inside, Puppet
from dheads_components.landmark_detectors.mediapipe import MediaPipe


@pytest.fixture(scope="module")
def face() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A square picture of a face, its mesh, the mesh's triangles."""
    detector = MediaPipe()
    picture = np.ascontiguousarray(read_video(GRID / "s1/bbaf2n.mp4", 25).frames[0][:, 36:324])
    return picture, detector.mesh(picture).astype(np.float64), detector.triangles


def test_the_triangles_leave_holes_for_mouth_and_eyes(face):
    _, _, triangles = face
    corners = {tuple(sorted(triangle)) for triangle in triangles.tolist()}
    assert len(corners) == len(triangles) == 852
    inner = set(mesh.INNER_UPPER + mesh.INNER_LOWER)
    assert not any(set(triangle) <= inner for triangle in corners)


def test_a_face_that_does_not_move_is_the_photo(face):
    picture, points, triangles = face
    drawn = Puppet(picture, points, triangles).draw(points, Inside(picture, points))
    assert np.abs(drawn.astype(int) - picture).mean() < 1.5  # resampled once


def test_only_the_face_moves(face):
    picture, points, triangles = face
    lowered = points.copy()
    below = points[:, 1] > points[mesh.NOSE_BASE, 1]
    lowered[below, 1] += 6
    drawn = Puppet(picture, points, triangles).draw(lowered, Inside(picture, points))
    change = np.abs(drawn.astype(int) - picture).mean(axis=2)
    mouth = points[mesh.OUTER_UPPER + mesh.OUTER_LOWER, :2].round().astype(int)
    assert change[mouth[:, 1], mouth[:, 0]].mean() > 5
    assert change[:3].max() == 0
    forehead = points[10, :2].round().astype(int)
    assert change[: forehead[1]].mean() < 1


def test_an_open_mouth_shows_the_filmed_one_and_no_hole(face):
    picture, points, triangles = face
    opened = points.copy()
    opened[mesh.INNER_LOWER[1:-1], 1] += 12
    opened[mesh.OUTER_LOWER[1:-1], 1] += 12
    filmed = picture.copy()
    filmed[:] = (40, 20, 20)
    drawn = Puppet(picture, points, triangles).draw(opened, Inside(filmed, opened))
    middle = opened[[13, 14], :2].mean(axis=0).round().astype(int)
    assert drawn[middle[1], middle[0]].max() < 80


def test_shut_lids_cover_the_eyes(face):
    picture, points, triangles = face
    motion = mesh.Motion(points, np.zeros((1, 478, 3)), np.zeros((1, 3)), np.zeros((1, 2)))
    shut = mesh.moved(points, motion)[0]
    drawn = Puppet(picture, points, triangles).draw(shut, Inside(picture, points))
    found = MediaPipe().mesh(drawn)
    assert found is not None
    for upper, lower in mesh.EYES:
        before, after = (np.linalg.norm(each[upper] - each[lower], axis=-1).mean() for each in (points, found))
        assert after < 0.6 * before
