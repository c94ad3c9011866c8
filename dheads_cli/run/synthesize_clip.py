"""One clip of a synthetic speaker: a photo moved by a filmed face, aligned, encoded."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data import align, mesh, quality
from dheads_cli.data.corpora import ClipSource, read_words
from dheads_cli.data.head_pose import head_pose
from dheads_cli.data.mouth import mouth_opening
from dheads_cli.data.photo import read_image
from dheads_cli.data.reenact import Inside, Puppet
from dheads_cli.data.stored_clip import StoredClip, encode_sample
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.protocols import MeshDetector
from dheads_cli.recipe import Preprocess
from dheads_cli.run.preprocess_clip import Outcome, detector_of, read_clip

if TYPE_CHECKING:
    from dheads_cli.run.synthesize import Synthesis

VERSION = 1  # of what is drawn: it decides the bytes
MOUTH = 1.1  # mean factor of what the face does below the nose: seen again, drawn mouths open 0.88 as far as told
FINER, BORDER = 1.5, 0.15  # the photo is moved at this many times the crop's size, with this border on each side
MOST_YAW_DEG, LEAST_FACE_PX = 22.0, 80.0  # photos beyond are skipped: a mesh turned far folds, a small face is soft
SHOULDER = 0.85  # brightness from which brighter light is compressed, as film does
PERIODS_S = (1.3, 5.0)  # of the waves that further turns of the head are made of


@dataclass(frozen=True)
class Pair(ClipSource):
    """A photo (`video`) and the clip whose motion and sound it takes on (`driver`)."""

    driver: ClipSource | None = None


@dataclass(frozen=True)
class Filmed:
    """A driving clip: frames [F, H, W, 3], sound [T], the meshes [F, 478, 3] of its face, its frame rate."""

    frames: NDArray[np.uint8]
    waveform: NDArray[np.float32]
    meshes: mesh.Array
    fps: float


def synthesize_clip(pair: ClipSource, preprocess: Preprocess, settings: Synthesis) -> Outcome:
    """Make one sample: read both, move the photo, align, encode."""
    assert isinstance(pair, Pair)
    try:
        return encode_sample(_draw(pair, preprocess, settings))
    except UnusableClip as unusable:
        return unusable
    except DheadsError as error:
        return UnusableClip("photo: not readable", str(error))


def _draw(pair: Pair, preprocess: Preprocess, settings: Synthesis) -> StoredClip:
    detector = detector_of(preprocess)
    assert isinstance(detector, MeshDetector)
    rng = np.random.default_rng([settings.seed, crc32(pair.id.encode())])
    assert pair.driver is not None
    filmed = film(pair.driver, preprocess)
    motion = mesh.motion_of(filmed.meshes)
    mirrored = bool(rng.random() < 0.5)
    picture, face = _place(read_image(pair.video), detector, preprocess, mirrored)
    picture = relit(picture, settings.light, rng)
    mouth, head = (MOUTH, 1.0) * np.exp(rng.normal(0, (settings.mouth, settings.head)))
    turns = None
    if settings.turn_deg and rng.random() < 0.5:
        turns = further_turns(len(filmed.frames), filmed.fps, settings.turn_deg, rng)
    posed = mesh.moved(mesh.with_closed_lips(face), motion, mouth=mouth, head=head, turns=turns)
    puppet = Puppet(picture, face, detector.triangles)
    drawn = np.stack([
        puppet.draw(points, Inside(frame, its))
        for points, frame, its in zip(posed, filmed.frames, filmed.meshes, strict=True)
    ])  # fmt: skip
    margins = preprocess.margins
    landmarks = detector.landmarks_of(posed)
    crops, crop_landmarks, transforms, _ = align.align_clip(
        drawn, landmarks, preprocess.size, margins, preprocess.smooth_frames
    )
    photo, photo_landmarks, _ = align.align_image(picture, detector.landmarks_of(face), preprocess.size, margins)
    words = read_words(pair.driver)
    opening = mouth_opening(detector.landmarks_of(filmed.meshes))
    info = {
        "key": pair.key,
        "text": pair.text,
        "words": [asdict(word) for word in words] if words is not None else None,
        "source": pair.video.name,
        "source_fps": filmed.fps,
        "source_size": [picture.shape[1], picture.shape[0]],
        "synthetic": {"portrait": pair.video.name, "clip": pair.driver.id},
        "drawn": {"mirrored": mirrored, "mouth": round(float(mouth), 4), "head": round(float(head), 4)},
        "driver_opening": np.round(opening, 5).tolist(),
        "photo_landmarks": np.round(photo_landmarks, 3).tolist(),
        "quality": quality.measure_clip(
            landmarks, crops, crop_landmarks, filmed.waveform, preprocess.sample_rate, margins
        ),
        "transforms": [[round(value, 5) for value in transform] for transform in transforms.reshape(-1, 6).tolist()],
    }
    return StoredClip(
        pair.id, pair.speaker, pair.split, crops, filmed.waveform, crop_landmarks, filmed.fps, preprocess.sample_rate,
        info, photo,
    )  # fmt: skip


def film(driver: ClipSource, preprocess: Preprocess) -> Filmed:
    """Read a driving clip and find its face in every frame.

    Raises:
        UnusableClip: it can't be read, or a frame has no face.
    """
    detector = detector_of(preprocess)
    assert isinstance(detector, MeshDetector)
    video, waveform = read_clip(driver, preprocess)
    meshes = []
    for number, frame in enumerate(video.frames):
        found = detector.mesh(frame)
        if found is None:
            raise UnusableClip("driver: no face", f"{driver.id}, frame {number}")
        meshes.append(found.astype(np.float64))
    return Filmed(video.frames, waveform, np.stack(meshes), video.fps)


def _place(
    photo: NDArray[np.uint8], detector: MeshDetector, preprocess: Preprocess, mirrored: bool
) -> tuple[NDArray[np.uint8], mesh.Array]:
    """A photo brought upright into a square picture about its face, and the mesh of the face there.

    Raises:
        UnusableClip: no face is found, or it is too small or turned too far.
    """
    if mirrored:
        photo = np.ascontiguousarray(photo[:, ::-1])
    found = detector.mesh(photo)
    if found is None:
        raise UnusableClip("photo: no face", "")
    face = found.astype(np.float64)
    landmarks = detector.landmarks_of(face)
    height = float(np.ptp(landmarks[:, 1]))
    if height < LEAST_FACE_PX:
        raise UnusableClip("photo: face too small", f"{height:.0f} px from brows to chin, at least {LEAST_FACE_PX:g}")
    yaw = float(head_pose(landmarks[None])[0, 0])
    if abs(yaw) > MOST_YAW_DEG:
        raise UnusableClip("photo: face turned", f"yaw {yaw:.0f} degrees, at most {MOST_YAW_DEG:g}")
    inner = round(FINER * preprocess.size)
    size = round(inner * (1 + 2 * BORDER))
    margins = preprocess.margins
    transform = align.crop_transform(landmarks.astype(np.float64), inner, margins)
    transform[:, 2] += (size - inner) / 2
    scale = float(np.hypot(transform[0, 0], transform[1, 0]))
    placed = np.concatenate([face[:, :2] @ transform[:, :2].T + transform[:, 2], scale * face[:, 2:]], axis=1)
    return align.warp(photo, transform, size), placed


def further_turns(n_frames: int, fps: float, spread_deg: float, rng: np.random.Generator) -> mesh.Array:
    """Slow turns of a head as rotation vectors [F, 3], radians: three waves about each axis, yaw the largest."""
    seconds = np.arange(n_frames) / fps
    turns = np.zeros((n_frames, 3))
    for axis, share in enumerate((0.6, 1.0, 0.35)):  # about x: pitch, about y: yaw, about z: roll
        for _ in range(3):
            period, phase = rng.uniform(*PERIODS_S), rng.uniform(0, 2 * np.pi)
            size = rng.normal(0, np.radians(spread_deg) * share / 3**0.5)
            turns[:, axis] += size * np.sin(2 * np.pi * seconds / period + phase)
    return turns


def relit(picture: NDArray[np.uint8], strength: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A picture [S, S, 3] in other light: brighter or darker, warmer or colder, lit from a side; 0 changes nothing."""
    size = picture.shape[0]
    gamma = np.exp(strength * rng.normal(0, 0.25))
    gains = np.exp(strength * rng.normal(0, (0.25, 0.15, 0.25)) * (1, 0.5, 1))
    angle, slope = rng.uniform(0, 2 * np.pi), strength * rng.uniform(0, 0.7)
    place = np.linspace(-0.5, 0.5, size)
    light = np.exp(slope * (np.cos(angle) * place[None, :] + np.sin(angle) * place[:, None]))
    lit = (picture / 255.0) ** gamma * light[..., None] * gains
    lit = np.where(lit > SHOULDER, SHOULDER + (1 - SHOULDER) * np.tanh((lit - SHOULDER) / (1 - SHOULDER)), lit)
    return np.asarray((255 * lit).round(), np.uint8) if strength else picture
