"""`dheads animate --batch jobs.csv`: many videos, their frames drawn side by side. Read from `animate_batch` down."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dheads_cli import console
from dheads_cli.data import outputs
from dheads_cli.data.provenance import Provenance, made_here
from dheads_cli.errors import DheadsError
from dheads_cli.holding import held
from dheads_cli.model.generate import Drawer, pasts_side_by_side, side_by_side
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_section import Component
from dheads_cli.run import consent
from dheads_cli.run.animate_clip import Artist, Clip, Drawing, checksums, clip_of, identity_of, ready
from dheads_cli.run.animate_jobs import Job, Problems, check_places, lines_done, read_jobs
from dheads_cli.run.control_files import ChosenControls
from dheads_cli.run.frames import Quality
from dheads_cli.run.kept_frames import alone_at, n_left
from dheads_cli.run.look import Look
from dheads_cli.run.recording import listen


@dataclass
class Outcome:
    """What became of a job.

    Attributes:
        job: the job.
        done: whether the video is there.
        note: "was there already", or why it failed.
        facts: what was measured of its frames, see animate_checks.Checks; empty where none was drawn.
    """

    job: Job
    done: bool = False
    note: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """For the table."""
        return "done" if self.done else "failed"


def animate_batch(
    path: Path,
    *,
    model: str | None = None,
    device: str = "auto",
    seed: int | None = None,
    sampler: Component | None = None,
    motion_noise: float | None = None,
    quality: Quality = "normal",
    sets: Sequence[str] = (),
    controls: ChosenControls | None = None,
    look: Look,
    resume: bool = False,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Make the videos of a file of jobs. A job that fails does not stop the others.

    Args:
        path: the CSV file, see animate_jobs.
        model, device, sampler, motion_noise, quality, sets, controls: see animate. `sample.batch_size` frames are drawn
            at a time, each of another video.
        seed: of the random draws of jobs that name none; None is the recipe's.
        look: of all videos.
        resume: leave out jobs whose video is there already, made from the same, and go on with those that were
            broken off. A video that was made from something else is an error, unless `overwrite`.
        overwrite: replace what is there.

    Returns:
        What was made, job by job.

    Raises:
        DheadsError: a row can't be used, or another process has these jobs, and nothing is drawn then; or a job failed.
    """
    look.check()
    jobs = read_jobs(path)
    with held(path, f"{path}: another `dheads animate --batch` is making its videos: wait for it, or end it."):
        artist = ready(model, device, sampler, motion_noise, sets, quality, controls)
        recipe, problems = artist.trained.recipe, Problems(path)
        outcomes = {job.line: Outcome(job) for job in jobs}

        def made(job: Job) -> Provenance:
            inputs = checksums(job.face, job.speech, artist, look, face_index=job.face_index)
            return made_here(recipe.name, seed_of(job, recipe, seed), inputs)

        for line in lines_done(jobs, made, problems, overwrite=overwrite) if resume else ():
            outcomes[line] = Outcome(outcomes[line].job, done=True, note="was there already")
        to_do = [job for job in jobs if not outcomes[job.line].done]
        check_places(to_do, problems, overwrite=overwrite)
        clips = prepare(to_do, artist, seed, look, problems)
        problems.told()
        if not resume and (n_broken := sum(n_left(job.out) > 0 for job in to_do)):
            console.warn(f"{n_broken} videos were broken off, and all begin anew; --resume goes on with them")

        consent.remind()
        began = time.monotonic()
        n_drawn = draw_clips(clips, artist, outcomes, resume=resume, overwrite=overwrite)
        return report(list(outcomes.values()), n_drawn, time.monotonic() - began)


def prepare(
    jobs: Sequence[Job], artist: Artist, seed: int | None, look: Look, problems: Problems
) -> list[tuple[Job, Clip]]:
    """The clips of jobs, in their order; what can't be used is noted. Each face is found once, for all its jobs."""
    recipe, clips = artist.trained.recipe, list[tuple[Job, Clip]]()
    faces: dict[tuple[Path, int | None], list[Job]] = {}
    for job in jobs:
        faces.setdefault((job.face, job.face_index), []).append(job)
    with console.progress("check", total=len(jobs), unit="jobs") as bar:
        for (face, face_index), of_face in faces.items():
            identity, why = None, ""
            try:
                identity = identity_of(face, artist, face_index)
            except DheadsError as error:
                why = str(error)
            for job in of_face:
                if identity is None:
                    problems.add(job.line, why)
                try:
                    recording = listen(job.speech, artist.rate, recipe.preprocess.fps)
                    outputs.check_seconds(job.out, recording.n_frames / recipe.preprocess.fps)
                except DheadsError as error:
                    problems.add(job.line, str(error))
                else:
                    if identity is not None:
                        own = seed_of(job, recipe, seed)
                        clip = clip_of(
                            job.out, face, identity, recording, artist, look, own, face_index=face_index
                        )
                        clips.append((job, clip))
                bar.advance(1)
    return sorted(clips, key=lambda each: each[0].line)


def seed_of(job: Job, recipe: Recipe, seed: int | None) -> int:
    """A job's own seed, or the command's, or the recipe's."""
    return next(each for each in (job.seed, seed, recipe.seed) if each is not None)


class Slot:
    """A place in the batch: a clip while it is drawn.

    Attributes:
        drawing: the clip.
        window: audio window [1, K, D] of its next frame; None once it is whole, or has failed.
    """

    def __init__(self, clip: Clip, artist: Artist, outcome: Outcome, *, resume: bool, overwrite: bool) -> None:
        self._outcome, self._stack = outcome, ExitStack()
        self._windows: Iterator[Tensor] = iter(())
        self.window: Tensor | None = None
        with self._telling(), ExitStack() as self._stack:
            self._stack.enter_context(alone_at(clip.out))
            self.drawing = Drawing(clip, artist, resume=resume, overwrite=overwrite)
            self._stack.enter_context(self.drawing)
            self._windows = self.drawing.windows()
            self._go_on()

    def take(self, frame: Tensor) -> None:
        """The frame [1, 3, S, S] is drawn."""
        with self._telling(), self._stack:
            self.drawing.take(frame)
            self._go_on()

    def _go_on(self) -> None:
        """Wait for the next frame, or let the end of the stack's block make the video whole."""
        self.window = next(self._windows, None)
        if self.window is not None:
            self._stack = self._stack.pop_all()

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Note how a step ended: a failure is this job's, and no other's."""
        try:
            yield
            self._outcome.done = self.window is None
            self._outcome.facts = self.drawing.checks.facts if self._outcome.done else {}
        except DheadsError as error:
            self.window, self._outcome.note = None, f"failed: {error}"
            console.warn(f"{self._outcome.job.out} failed: {error}")

    def break_off(self, error: BaseException) -> None:
        """Close the video as one that is not whole."""
        self._stack.__exit__(type(error), error, error.__traceback__)


def draw_clips(
    clips: Sequence[tuple[Job, Clip]], artist: Artist, outcomes: Mapping[int, Outcome], *, resume: bool, overwrite: bool
) -> int:
    """Draw clips side by side; where one ends or fails, the next takes its place. Returns the number of frames."""
    waiting, slots, n_drawn = deque(clips), list[Slot](), 0
    with console.progress("animate", total=sum(clip.recording.n_frames for _, clip in clips), unit="frames") as bar:
        try:
            while waiting or slots:
                while waiting and len(slots) < artist.settings.batch_size:
                    job, clip = waiting.popleft()
                    slot = Slot(clip, artist, outcomes[job.line], resume=resume, overwrite=overwrite)
                    if slot.window is not None:
                        slots.append(slot)
                        bar.advance(slot.drawing.n_before)
                for together in alike(slots, artist.drawer):
                    for slot, frame in zip(together, draw_side_by_side(together, artist.drawer), strict=True):
                        slot.take(frame)
                n_drawn += len(slots)
                bar.advance(len(slots))
                slots = [slot for slot in slots if slot.window is not None]
        except BaseException as error:
            for slot in slots:
                slot.break_off(error)
            raise
    return n_drawn


def alike(slots: Sequence[Slot], drawer: Drawer) -> list[list[Slot]]:
    """Slots whose next frames can be drawn side by side."""
    kinds: dict[tuple[bool, bool], list[Slot]] = {}
    for slot in slots:
        kinds.setdefault(drawer.kind(slot.drawing.past), []).append(slot)
    return list(kinds.values())


def draw_side_by_side(slots: Sequence[Slot], drawer: Drawer) -> tuple[Tensor, ...]:
    """The next frame of each of B clips, B x [1, 3, S, S]."""
    drawings = [slot.drawing for slot in slots]
    identity = torch.cat([drawing.identity for drawing in drawings])
    windows = torch.cat([slot.window for slot in slots if slot.window is not None])
    past = pasts_side_by_side([drawing.past for drawing in drawings])
    noise = side_by_side([drawing.noise for drawing in drawings])
    told = [each for each in (next(drawing.controls) for drawing in drawings) if each is not None]
    controls = torch.cat(told) if told else None
    return drawer(identity, past, windows, noise, controls=controls).tensor_split(len(slots))


def report(outcomes: Sequence[Outcome], n_drawn: int, took_s: float) -> dict[str, Any]:
    """Tell people and scripts what became of the jobs.

    Raises:
        DheadsError: one failed.
    """
    rate = n_drawn / took_s
    rows = [[str(each.job.line), each.job.out, each.word, each.note] for each in outcomes]
    footer = f"{n_drawn} frames in {took_s:.1f} s ({rate:.1f} frames/s)"
    console.table("", ["line", "out", "video", "remark"], rows, footer)
    made = {
        "jobs": [
            {"line": each.job.line, "out": each.job.out, "done": each.done, "remark": each.note, **each.facts}
            for each in outcomes
        ],
        "frames": n_drawn,
        "took_s": round(took_s, 2),
        "frames_per_s": round(rate, 2),
    }
    console.result(made)
    if failed := [each.job.out for each in outcomes if not each.done]:
        raise DheadsError(f"{len(failed)} of {len(outcomes)} jobs failed: {', '.join(failed)}; why is said above")
    return made
