"""`dheads animate`: one photo and one recording become a video of that face speaking. Read from `animate` downwards."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dheads_cli import console, registry
from dheads_cli.data import align, media, outputs
from dheads_cli.data.mark import marked
from dheads_cli.data.provenance import made_here
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_component, choose_device
from dheads_cli.model.checkpoint import load_model
from dheads_cli.model.generate import to_uint8
from dheads_cli.model.speech import encode_stream, frames_of, samples_of, stream_windows
from dheads_cli.recipe import Preprocess
from dheads_cli.recipe_section import Component
from dheads_cli.run.frames import chosen_settings, draw_frames

MIN_SPEECH_S = 0.1
MIN_FACE_PX = 32  # distance of the outermost landmarks below which a face is too small to mean anything
DEFAULT_MODEL = "small"
DEFAULT_SIZE = 256  # px of the video: a 64 px model's frames are scaled up to be looked at
MAX_SIZE = 4096  # px: more than H.264 players show
SOUND_RATE = 48000  # Hz of the video's sound; the network hears the speech at its encoder's rate


def animate(
    face: Path,
    speech: Path,
    out: str,
    *,
    model: str | None = None,
    face_index: int | None = None,
    device: str = "auto",
    seed: int | None = None,
    sampler: Component | None = None,
    motion_noise: float | None = None,
    sets: Sequence[str] = (),
    size: int | None = None,
    mark: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make the video.

    Args:
        face: a photo.
        speech: a file with sound.
        out: the .mp4, .m4v, .mov, .webm or .gif to write, in a folder that exists; a folder for PNGs where it ends in
            a slash or is there; `-` is standard output.
        model: checkpoint, run folder or shipped model; None is `small`, whatever lies in this folder.
        face_index: which face, 1 is the largest; None takes the largest, and says so where there are several.
        device: torch device or "auto".
        seed: of the random draws; None is the recipe's.
        sampler: None is the recipe's.
        motion_noise: None is the recipe's.
        sets: `sample.KEY=VALUE` each, in place of the recipe's.
        size: width and height of the video, px, even; None is 256, or the model's size where that is larger.
        mark: draw a visible mark into the corner of each frame.
        overwrite: replace `out`.

    Returns:
        What was made and how fast.

    Raises:
        DheadsError: any input can't be used; nothing is written then.
    """
    outputs.check_output(out, overwrite=overwrite)
    if out == outputs.STDOUT and console.settings.json:
        raise DheadsError("-o - and --json both need standard output: name a file, or leave out --json")
    if any(text.startswith("sample.batch_size") for text in sets):
        raise DheadsError("--set sample.batch_size: one clip is drawn at a time here; `dheads sample` draws several")
    photo = media.read_image(face)
    target = choose_device(device)
    trained = load_model(model or registry.load("models", DEFAULT_MODEL)(), target)
    recipe, parts = trained.recipe, trained.parts
    settings = chosen_settings(trained, sampler, motion_noise, sets)
    size = size or max(DEFAULT_SIZE, recipe.model.size)
    if size % 2 or not 16 <= size <= MAX_SIZE:
        raise DheadsError(f"--size {size}: the video's width and height must be even, from 16 to {MAX_SIZE}.")
    rate = parts.audio_encoder.sample_rate
    waveform = read_speech(speech, rate)
    crop = find_face(photo, face, recipe.preprocess, recipe.model.size, face_index)

    fps = recipe.preprocess.fps
    n_frames = frames_of(len(waveform), fps, rate)
    seed = recipe.seed if seed is None else seed
    began = time.monotonic()
    # All streams: the next 16 s of speech are encoded when the frame loop gets there.
    embeddings = encode_stream(parts.audio_encoder, torch.from_numpy(waveform).to(target), n_frames, fps)
    windows = stream_windows(embeddings, recipe.model.audio_context)
    frames = draw_frames(recipe, parts, settings, crop[None], windows, [seed])
    tags = made_here(recipe.name, seed).tags(f"{face.stem} speaking")
    sound = media.fit_length(media.read_audio(speech, SOUND_RATE), samples_of(n_frames, fps, SOUND_RATE))
    with (
        outputs.open_output(out, fps, (size, size), sound, SOUND_RATE, tags=tags, overwrite=overwrite) as video,
        console.progress("animate", total=n_frames, unit="frames") as bar,
    ):
        for frame in scaled(frames, size):
            video.write(marked(frame) if mark else frame)
            bar.advance(1)
    seconds = time.monotonic() - began
    made = {
        "out": out,
        "frames": n_frames,
        "seconds": round(n_frames / fps, 3),
        "size": size,
        "model": recipe.name,
        "seed": seed,
        "took_s": round(seconds, 2),
        "frames_per_s": round(n_frames / seconds, 2),
    }
    console.info(f"{out}: {n_frames / fps:.2f} s of video in {seconds:.1f} s ({n_frames / seconds:.1f} frames/s)")
    console.result(made)
    return made


def read_speech(path: Path, sample_rate: int) -> NDArray[np.float32]:
    """The recording, mono float32 [T].

    Raises:
        DheadsError: no sound, damaged, or shorter than 0.1 s.
    """
    if not path.is_file():
        raise DheadsError(f"{path}: no such recording.")
    waveform = media.read_audio(path, sample_rate)
    if len(waveform) < MIN_SPEECH_S * sample_rate:
        raise DheadsError(
            f"{path}: {len(waveform) / sample_rate:.3f} s of sound are too short; take at least {MIN_SPEECH_S} s."
        )
    return waveform


def find_face(
    photo: NDArray[np.uint8], path: Path, settings: Preprocess, size: int, face_index: int | None
) -> NDArray[np.uint8]:
    """Crop the face as the model's training clips were: uint8 [H, W, 3] -> [size, size, 3].

    Raises:
        DheadsError: no face, not that many, or one too small to use.
    """
    faces = build_component("landmark_detectors", settings.detector).all_faces(photo)
    height, width = photo.shape[:2]
    if not faces:
        raise DheadsError(
            f"{path}: no face found in this {width}x{height} picture; take one that shows a whole face from the front."
        )
    if face_index is not None and not 1 <= face_index <= len(faces):
        raise DheadsError(f"{path}: --face {face_index}, but faces found: {len(faces)}; --face 1 is the largest.")
    if face_index is None and len(faces) > 1:
        console.warn(f"{path}: {len(faces)} faces found; the largest is taken (--face N takes another)")
    landmarks = faces[(face_index or 1) - 1]
    extent = float(np.ptp(landmarks, axis=0).max())
    if extent < MIN_FACE_PX:
        raise DheadsError(
            f"{path}: the face is only {extent:.0f} px large; take a photo where it has at least {MIN_FACE_PX}."
        )
    if extent < size / 2:
        console.warn(f"{path}: the face is only {extent:.0f} px large; the video will be soft")
    margins = (settings.margin_side, settings.margin_above, settings.margin_below)
    return align.align_image(photo, landmarks, size, margins)[0]


def scaled(frames: Iterable[torch.Tensor], size: int) -> Iterator[NDArray[np.uint8]]:
    """Frames [1, 3, H, W] in [-1, 1] -> uint8 [size, size, 3], by Lanczos where they have another size."""
    for frame in frames:
        picture: NDArray[np.uint8] = to_uint8(frame)[0].numpy()
        if picture.shape[0] != size:
            picture = np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_LANCZOS4), np.uint8)
        yield picture
