"""The command that makes a face speak: one video, or those of a file of jobs."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from dheads_cli.cli_options import (
    Device,
    Json,
    MotionNoise,
    Overwrite,
    QualityName,
    Quiet,
    SamplerText,
    SampleSets,
    Seed,
    Trust,
    component_of,
    quality_of,
)
from dheads_cli.errors import DheadsError


def animate(
    face: Annotated[
        Path | None, typer.Argument(help="Photo with a face: JPEG, PNG, WebP ...; or a video.", show_default=False)
    ] = None,
    speech: Annotated[
        Path | None, typer.Argument(help="Recording of speech, or a video with it; - is stdin.", show_default=False)
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out", "-o", metavar="FILE",
            help="What to write: .mp4, .webm, .gif, FOLDER/ for PNGs, - for a stream; without it, FACE-SPEECH.mp4.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Checkpoint, run folder, or a shipped model's name; without it, small.")
    ] = None,
    face_index: Annotated[
        int | None, typer.Option("--face", min=1, help="Which face, 1 being the largest, where the photo has several.")
    ] = None,
    frame: Annotated[
        int | None, typer.Option(min=0, help="Where FACE is a video: this frame, from 0; without it, the best.")
    ] = None,
    size: Annotated[
        int | None, typer.Option(min=16, help="Width and height of the video, px; its longer side with --paste-back.")
    ] = None,
    paste_back: Annotated[bool, typer.Option("--paste-back", help="Put the face back into the whole photo.")] = False,
    crop_preview: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Also write the aligned face that the model gets.")
    ] = None,
    mark: Annotated[bool, typer.Option("--mark", help="Write SYNTHETIC into the corner of every frame.")] = False,
    device: Device = "auto",
    seed: Seed = None,
    quality: QualityName = None,
    sampler: SamplerText = None,
    motion_noise: MotionNoise = None,
    blinks: Annotated[
        str | None,
        typer.Option(
            metavar="natural|none|RATE|FILE",
            help="Blinks: RATE is how many a second, FILE has each frame's openness of the eyes, 0 to 1.",
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="still|natural|FILE",
            help="Head motion: FILE has each frame's yaw,pitch,roll against the photo, degrees.",
        ),
    ] = None,
    sets: SampleSets = None,
    trust: Trust = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the newest frame in the terminal.")] = False,
    preview_gif: Annotated[
        Path | None, typer.Option(metavar="GIF", help="Also write a GIF that grows while the video is drawn.")
    ] = None,
    batch: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="In place of FACE SPEECH -o: a file with the columns face,speech,out."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a video that was broken off, to the bytes of an unbroken run.")
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Make the face in a photo speak. The video has the recording's sound.

    Examples: dheads animate face.jpg talk.wav -o out.mp4;  dheads animate --batch jobs.csv
    """
    chosen = component_of("samplers", sampler, "--sampler")
    chosen_quality = quality_of(quality)
    controls = None
    if blinks is not None or head is not None:
        from dheads_cli.run.control_files import ChosenControls

        controls = ChosenControls.of(blinks, head)
    if batch is not None:
        single = {
            "FACE": face, "SPEECH": speech, "-o": out, "--face": face_index, "--frame": frame,
            "--crop-preview": crop_preview, "--preview": preview or None, "--preview-gif": preview_gif,
        }  # fmt: skip
        if given := [name for name, value in single.items() if value is not None]:
            raise DheadsError(f"--batch: {given[0]} is of a single video; {batch} says what each job takes")
        from dheads_cli.run.animate_batch import animate_batch
        from dheads_cli.run.look import Look

        with ended_by_signals():
            animate_batch(
                batch, model=model, device=device, seed=seed, sampler=chosen, motion_noise=motion_noise,
                quality=chosen_quality, sets=sets or [], controls=controls, look=Look(size, paste_back, mark),
                resume=resume, overwrite=overwrite,
            )  # fmt: skip
        return
    if face is None or speech is None:
        raise DheadsError("FACE and SPEECH are missing: dheads animate face.jpg talk.wav -o out.mp4")
    from dheads_cli.run.animate import animate as run

    with ended_by_signals():
        run(
            face,
            speech,
            out or f"{face.stem}-{'speech' if str(speech) == '-' else speech.stem}.mp4",
            model=model,
            face_index=face_index,
            device=device,
            seed=seed,
            sampler=chosen,
            motion_noise=motion_noise,
            quality=chosen_quality,
            sets=sets or [],
            controls=controls,
            frame=frame,
            size=size,
            paste_back=paste_back,
            crop_preview=crop_preview,
            mark=mark,
            preview=preview,
            preview_gif=preview_gif,
            resume=resume,
            overwrite=overwrite,
        )


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, end the block as Ctrl-C does: nothing unfinished stays, and
    what can be gone on with is told. A SIGHUP that is ignored, as under nohup, stays so."""
    numbers = [signal.SIGTERM] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGHUP]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        if before[number] != signal.SIG_IGN:
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
