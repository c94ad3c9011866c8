"""`dheads animate`: one photo and one recording become a video of that face speaking. Read from `animate` downwards."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dheads_cli import console
from dheads_cli.data import media, outputs
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_section import Component
from dheads_cli.run import consent
from dheads_cli.run.animate_clip import Drawing, clip_of, identity_of, ready
from dheads_cli.run.control_files import ChosenControls
from dheads_cli.run.frames import Quality
from dheads_cli.run.identity import write_crop
from dheads_cli.run.kept_frames import SAVE_EVERY_S, alone_at, n_left
from dheads_cli.run.look import Look
from dheads_cli.run.preview import GifPreview, Preview, TerminalPreview
from dheads_cli.run.recording import as_file, listen


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
    quality: Quality = "normal",
    sets: Sequence[str] = (),
    controls: ChosenControls | None = None,
    size: int | None = None,
    paste_back: bool = False,
    crop_preview: Path | None = None,
    mark: bool = False,
    preview: bool = False,
    preview_gif: Path | None = None,
    resume: bool = False,
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
        sampler: None is the recipe's for the quality.
        motion_noise: None is the recipe's.
        quality: which of the recipe's samplers: a quick one, the usual one, or the best.
        sets: `sample.KEY=VALUE` each, in place of the recipe's.
        controls: blinks and head motion; None are the recipe's.
        size: width and height of the video, px, even; None is 256, or the model's size where that is larger. With
            paste_back, its longer side at most; None is 1280.
        paste_back: put the face back into the whole photo.
        crop_preview: a PNG to write with the crop that the model gets.
        mark: draw a visible mark into the corner of each frame.
        preview: show the newest frame in the terminal.
        preview_gif: a GIF to write while the video is drawn, with frames from its first to the newest.
        resume: go on with the frames that a run that was broken off has left, to the bytes of an unbroken one; its
            previews are replaced.
        overwrite: replace `out`.

    Returns:
        What was made and how fast.

    Raises:
        DheadsError: any input can't be used, or another process is making a video there; nothing is written then.
    """
    outputs.check_output(out, overwrite=overwrite)
    check_places(out, crop_preview, preview_gif, overwrite=overwrite or resume)
    if resume and out == outputs.STDOUT:
        raise DheadsError("--resume: what went into a stream is gone; name a file with -o")
    if any(text.startswith("sample.batch_size") for text in sets):
        raise DheadsError("--set sample.batch_size: one clip is drawn at a time here; several are with --batch")
    previews: list[Preview] = [TerminalPreview()] if preview else []
    look = Look(size, paste_back, mark)
    look.check()
    artist = ready(model, device, sampler, motion_noise, sets, quality, controls)
    recipe = artist.trained.recipe
    fps, seed = recipe.preprocess.fps, recipe.seed if seed is None else seed
    previews += [GifPreview(preview_gif, fps)] if preview_gif else []
    identity = identity_of(face, artist, face_index, frame)
    with alone_at(out), as_file(speech) as path:
        recording = listen(path, artist.rate, fps)
        outputs.check_seconds(out, recording.n_frames / fps)
        if crop_preview:
            write_crop(crop_preview, identity)
        clip = clip_of(out, face, identity, recording, artist, look, seed, face_index=face_index, frame=frame)

        consent.remind()
        began = time.monotonic()
        drawing = Drawing(clip, artist, resume=resume, overwrite=overwrite, previews=previews)
        tell_of_kept(drawing, resume)
        with drawing, progress_of(drawing, previews) as bar:
            for window in drawing.windows():
                told = next(drawing.controls)
                drawing.take(artist.drawer(drawing.identity, drawing.past, window, drawing.noise, controls=told))
                bar.advance(1)
    return report(drawing, recipe, time.monotonic() - began)


def progress_of(drawing: Drawing, previews: Sequence[Preview]) -> AbstractContextManager[console.Bar]:
    """The progress of drawing one clip; frames that were kept do not count for its speed."""
    total = drawing.clip.recording.n_frames
    above = next((each for each in previews if isinstance(each, TerminalPreview)), None)
    return console.progress("animate", total=total, unit="frames", done=drawing.n_before, above=above)


def tell_of_kept(drawing: Drawing, resume: bool) -> None:
    """Say what becomes of the frames that a run that was broken off has left."""
    out, total = drawing.clip.out, drawing.clip.recording.n_frames
    if drawing.n_before:
        console.info(f"{out}: goes on after frame {drawing.n_before} of {total}")
    elif resume:
        console.info(f"{out}: no frames are kept from another run, so it begins at its first")
    elif out != outputs.STDOUT and (n_kept := n_left(out)):
        console.warn(
            f"{out}: {n_kept} frames are kept from a run that was broken off, and this one begins anew; to go on with "
            f"them press Ctrl-C and add --resume (they are replaced when the first {SAVE_EVERY_S:.0f} s are drawn)"
        )


def report(drawing: Drawing, recipe: Recipe, took_s: float) -> dict[str, Any]:
    """Tell people and scripts what was made.

    Args:
        drawing: the clip, drawn.
        recipe: of the model.
        took_s: what the frames took that no other run had drawn.
    """
    clip, n_before = drawing.clip, drawing.n_before
    out, n_frames, n_drawn = clip.out, clip.recording.n_frames, clip.recording.n_frames - n_before
    seconds = n_frames / recipe.preprocess.fps
    made = {
        "out": out,
        "frames": n_frames,
        "seconds": round(seconds, 3),
        "size": max(clip.size),
        "model": recipe.name,
        "seed": clip.seed,
        "took_s": round(took_s, 2),
        "frames_per_s": round(n_drawn / took_s, 2),
        "frames_before": n_before,
        **drawing.checks.facts,
    }
    console.info(f"{clip.place}: {seconds:.2f} s of video in {took_s:.1f} s ({n_drawn / took_s:.1f} frames/s)")
    console.result(made)
    return made


def check_places(out: str, crop_preview: Path | None, preview_gif: Path | None, *, overwrite: bool) -> None:
    """Refuse, before any work, previews that can't be written, and streams that meet.

    Raises:
        DheadsError: what is wrong with them.
    """
    if out == outputs.STDOUT and console.settings.json:
        raise DheadsError("-o - and --json both need standard output: name a file, or leave out --json")
    if crop_preview:
        media.check_target(crop_preview, overwrite=overwrite, suffixes=(".png",))
    if preview_gif:
        media.check_target(preview_gif, overwrite=overwrite, suffixes=(".gif",))
        if preview_gif.resolve() == Path(out).resolve():
            raise DheadsError(f"--preview-gif {preview_gif} is the video's own place: name another file")
