"""`dheads animate`: one photo and one recording become a video of that face speaking. Read from `animate` downwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from dheads_cli import console, registry
from dheads_cli.data import media, outputs
from dheads_cli.data.mark import marked
from dheads_cli.data.paste import PasteBack
from dheads_cli.data.provenance import made_here
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import choose_device
from dheads_cli.model.checkpoint import load_model
from dheads_cli.model.generate import to_uint8
from dheads_cli.model.speech import spoken_windows
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_section import Component
from dheads_cli.run import consent
from dheads_cli.run.frames import chosen_settings, draw_frames
from dheads_cli.run.identity import Identity, find_face, margins_of, read_identity, write_crop
from dheads_cli.run.recording import as_file, listen

DEFAULT_MODEL = "small"
DEFAULT_SIZE = 256  # px of the video: a 64 px model's frames are scaled up to be looked at
DEFAULT_LONGEST = 1280  # px of the longer side of a whole photo's video
MAX_SIZE = 4096  # px: more than H.264 players show
SOFT_FROM = 2.0  # px of a whole photo for one px of its face, from which the face looks softer than the photo
SOUND_RATE = 48000  # Hz of the video's sound; the network hears the speech at its encoder's rate


def animate(
    face: Path,
    speech: Path,
    out: str,
    *,
    model: str | None = None,
    face_index: int | None = None,
    frame: int | None = None,
    device: str = "auto",
    seed: int | None = None,
    sampler: Component | None = None,
    motion_noise: float | None = None,
    sets: Sequence[str] = (),
    size: int | None = None,
    paste_back: bool = False,
    crop_preview: Path | None = None,
    mark: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make the video.

    Args:
        face: a photo, or a film whose best frame is taken.
        speech: a file with sound; `-` is standard input.
        out: the .mp4, .m4v, .mov, .webm or .gif to write, in a folder that exists; a folder for PNGs where it ends in
            a slash or is there; `-` is standard output.
        model: checkpoint, run folder or shipped model; None is `small`, whatever lies in this folder.
        face_index: which face, 1 is the largest; None takes the largest, and says so where there are several.
        frame: this frame of a film, from 0.
        device: torch device or "auto".
        seed: of the random draws; None is the recipe's.
        sampler: None is the recipe's.
        motion_noise: None is the recipe's.
        sets: `sample.KEY=VALUE` each, in place of the recipe's.
        size: width and height of the video, px, even; None is 256, or the model's size where that is larger. With
            paste_back, its longer side at most; None is 1280.
        paste_back: put the face back into the whole photo.
        crop_preview: a PNG to write with the crop that the model gets.
        mark: draw a visible mark into the corner of each frame.
        overwrite: replace `out`.

    Returns:
        What was made and how fast.

    Raises:
        DheadsError: any input can't be used; nothing is written then.
    """
    check_places(out, crop_preview, overwrite=overwrite)
    if any(text.startswith("sample.batch_size") for text in sets):
        raise DheadsError("--set sample.batch_size: one clip is drawn at a time here; `dheads sample` draws several")
    if size is not None and (size % 2 or not 16 <= size <= MAX_SIZE):
        raise DheadsError(f"--size {size}: the video's width and height must be even, from 16 to {MAX_SIZE}.")
    target = choose_device(device)
    trained = load_model(model or registry.load("models", DEFAULT_MODEL)(), target)
    recipe, parts = trained.recipe, trained.parts
    settings = chosen_settings(trained, sampler, motion_noise, sets)
    fps, rate = recipe.preprocess.fps, parts.audio_encoder.sample_rate
    seed = recipe.seed if seed is None else seed
    picture = read_identity(face, recipe.preprocess, frame)
    with as_file(speech) as path:
        recording = listen(path, rate, fps)
        outputs.check_seconds(out, recording.n_frames / fps)
        identity = find_face(picture, face, recipe.preprocess, recipe.model.size, face_index)
        if crop_preview:
            write_crop(crop_preview, identity)

        consent.remind()
        began = time.monotonic()
        # All streams: the next 16 s of speech are encoded when the frame loop gets there.
        heard = (torch.from_numpy(piece).to(target) for piece in recording.heard(settings.speech_dbfs))
        context = recipe.model.audio_context
        windows = spoken_windows(parts.audio_encoder, heard, recording.n_frames, fps, context)
        frames = draw_frames(recipe, parts, settings, identity.crop[None], windows, [seed])
        show, shown = whole_photo(identity, recipe, size) if paste_back else alone(recipe, size)
        tags = made_here(recipe.name, seed).tags(f"{face.stem} speaking")
        sound = recording.sound(SOUND_RATE)
        with (
            outputs.open_output(out, fps, shown, sound, SOUND_RATE, tags=tags, overwrite=overwrite) as video,
            console.progress("animate", total=recording.n_frames, unit="frames") as bar,
        ):
            for drawn in frames:
                picture = show(to_uint8(drawn)[0].numpy())
                video.write(marked(picture) if mark else picture)
                bar.advance(1)
    return report(out, recipe, seed, recording.n_frames, max(shown), time.monotonic() - began)


def report(out: str, recipe: Recipe, seed: int, n_frames: int, size: int, took_s: float) -> dict[str, Any]:
    """Tell people and scripts what was made; `size` is the longer side, px."""
    seconds = n_frames / recipe.preprocess.fps
    made = {
        "out": out,
        "frames": n_frames,
        "seconds": round(seconds, 3),
        "size": size,
        "model": recipe.name,
        "seed": seed,
        "took_s": round(took_s, 2),
        "frames_per_s": round(n_frames / took_s, 2),
    }
    place = "the stream" if out == outputs.STDOUT else out
    console.info(f"{place}: {seconds:.2f} s of video in {took_s:.1f} s ({n_frames / took_s:.1f} frames/s)")
    console.result(made)
    return made


def check_places(out: str, crop_preview: Path | None, *, overwrite: bool) -> None:
    """Refuse, before any work, places that can't be written to.

    Raises:
        DheadsError: what is wrong with them.
    """
    outputs.check_output(out, overwrite=overwrite)
    if out == outputs.STDOUT and console.settings.json:
        raise DheadsError("-o - and --json both need standard output: name a file, or leave out --json")
    if crop_preview:
        media.check_target(crop_preview, overwrite=overwrite, suffixes=(".png",))


Show = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # a drawn frame [S, S, 3] -> a frame of the video [H, W, 3]


def alone(recipe: Recipe, size: int | None) -> tuple[Show, tuple[int, int]]:
    """Show the crop by itself; also returns the video's (width, height) px."""
    size = size or max(DEFAULT_SIZE, recipe.model.size)
    return lambda drawn: scaled(drawn, size), (size, size)


def whole_photo(identity: Identity, recipe: Recipe, longest: int | None) -> tuple[Show, tuple[int, int]]:
    """Show the whole photo with the crop in its place; also returns the video's (width, height) px."""
    margins = margins_of(recipe.preprocess)
    paste = PasteBack(identity.picture, identity.transform, recipe.model.size, margins, longest or DEFAULT_LONGEST)
    if paste.enlarged > SOFT_FROM:
        console.warn(
            f"the face is drawn in {recipe.model.size} px and enlarged {paste.enlarged:.1f} times: it will be softer "
            "than the photo around it (a smaller --size helps)"
        )
    return paste, paste.size


def scaled(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A frame uint8 [S, S, 3] in another size: by Lanczos up, by the mean over pixels down."""
    if picture.shape[0] == size:
        return picture
    way = cv2.INTER_LANCZOS4 if size > picture.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (size, size), interpolation=way), np.uint8)
