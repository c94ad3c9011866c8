"""`dheads sample`: make the clips that evaluation scores, from real identity frames and real speech of a split."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dheads_cli
from dheads_cli import console
from dheads_cli.data.media import VideoWriter
from dheads_cli.data.provenance import made_here
from dheads_cli.data.samples import MANIFEST, SampleRow, partners, write_samples, write_settings
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_cli.model.build import choose_device
from dheads_cli.model.checkpoint import Trained, load_model
from dheads_cli.recipe import Sample
from dheads_cli.recipe_section import Component
from dheads_cli.run.frames import chosen_settings, draw_spoken


@dataclass(frozen=True)
class Job:
    """One clip to make: whose face (and the reference), whose sound."""

    row: SampleRow
    face: ClipRef
    sound: ClipRef


def sample(
    run: Path,
    *,
    split: str = "test",
    speaker: str | None = None,
    limit: int | None = None,
    shuffled: bool = False,
    out: Path | None = None,
    data: Path | None = None,
    seed: int | None = None,
    device: str = "auto",
    sampler: Component | None = None,
    motion_noise: float | None = None,
    sets: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Make a clip for each clip of a split: its first frame is the identity, its sound the speech.

    Args:
        run: run folder, checkpoint, or the name of a shipped model.
        split: split of the corpus the model was trained on.
        speaker: only this speaker's clips.
        limit: at most this many clips, spread evenly over the split.
        shuffled: make each clip a second time with the sound of another of the same speaker, as a floor for metrics.
        out: samples folder; None is <run>/samples/step-<step>-<split>.
        data: preprocessed corpus; None is the recipe's data.path.
        seed: None is the recipe's.
        device: torch device or "auto".
        sampler: None is the recipe's.
        motion_noise: None is the recipe's.
        sets: `sample.KEY=VALUE` each, in place of the recipe's.
        overwrite: replace a samples folder that is there.

    Returns:
        The samples folder.
    """
    trained = load_model(run, choose_device(device))
    settings = chosen_settings(trained, sampler, motion_noise, sets)
    seed = trained.recipe.seed if seed is None else seed
    corpus = Corpus(data or Path(trained.recipe.data.path))
    step = int(trained.info.get("step", 0))
    folder = out or run_folder(run, trained) / "samples" / f"step-{step:06d}-{split}"
    if (folder / MANIFEST).exists() and not overwrite:
        raise DheadsError(f"{folder}: holds samples already; choose another folder with -o, or --overwrite them")
    jobs = plan(corpus, split, speaker, limit, shuffled, seed)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    began = time.monotonic()
    # Clips of like length go side by side, so that few frames are drawn past a clip's end.
    by_length = sorted(jobs, key=lambda job: min(job.face.n_frames, job.sound.n_frames))
    with console.progress("sample", total=len(jobs), unit="clips") as bar:
        for start in range(0, len(jobs), settings.batch_size):
            chosen = by_length[start : start + settings.batch_size]
            draw(trained, settings, corpus, chosen, folder)
            bar.advance(len(chosen))
    n_frames = sum(min(job.face.n_frames, job.sound.n_frames) for job in jobs)
    made = {
        "recipe": trained.recipe.name,
        "checkpoint": str(trained.path),
        "checkpoint_sha256": sha256_of(trained.path),
        "step": step,
        "split": split,
        "seed": seed,
        "sampler": settings.sampler.model_dump(),
        "motion_noise": settings.motion_noise,
        "warm_start": settings.warm_start,
        "stabilize_every": settings.stabilize_every,
        "guidance": settings.guidance.model_dump(),
        "seconds_per_frame": round((time.monotonic() - began) / n_frames, 4),
        "version": dheads_cli.__version__,
    }
    write_settings(folder, made)
    write_samples(folder, [job.row for job in jobs])
    console.info(f"{len(jobs)} clips in {folder}")
    console.result({"samples": str(folder), "clips": len(jobs), **made})
    return folder


def run_folder(run: Path, trained: Trained) -> Path:
    """Where a model's samples go: its run folder, or runs/<name> for a model that lies elsewhere."""
    return run if run.is_dir() else Path("runs") / trained.recipe.name


def plan(corpus: Corpus, split: str, speaker: str | None, limit: int | None, shuffled: bool, seed: int) -> list[Job]:
    """The clips to make.

    Raises:
        DheadsError: the corpus has no such clips, or too few to shuffle.
    """
    refs = corpus.clips(split, speaker)
    if limit is not None and limit < len(refs):
        refs = [refs[i * len(refs) // limit] for i in range(limit)]
    by_id = {ref.id: ref for ref in refs}
    others = partners({ref.id: ref.speaker for ref in refs})
    if shuffled and len(others) < len(refs):
        raise DheadsError("--shuffled needs at least two clips of each speaker: raise --limit or choose one --speaker")

    def job(face: ClipRef, sound: ClipRef, name: str, kind: Any, number: int) -> Job:
        row = SampleRow(
            id=name,
            file=f"{name}.mp4",
            speaker=face.speaker,
            split=split,
            corpus=str(corpus.folder),
            clip_id=face.id,
            audio_clip_id=sound.id,
            identity_frame=0,
            seed=seed * 1_000_003 + number,
            kind=kind,
        )
        return Job(row, face, sound)

    jobs = [job(ref, ref, ref.key, "synced", i) for i, ref in enumerate(refs)]
    if shuffled:
        jobs += [
            job(ref, by_id[others[ref.id]], f"{ref.key}.shuffled", "shuffled", i) for i, ref in enumerate(refs)
        ]
    return jobs


def draw(
    trained: Trained,
    settings: Sample,
    corpus: Corpus,
    jobs: list[Job],
    folder: Path,
) -> None:
    """Draw clips side by side and encode each while its frames arrive."""
    recipe, parts = trained.recipe, trained.parts
    faces = [corpus.load(job.face) for job in jobs]
    waves = [
        face.waveform if job.sound is job.face else corpus.load(job.sound).waveform
        for job, face in zip(jobs, faces, strict=True)
    ]
    lengths = [min(job.face.n_frames, job.sound.n_frames) for job in jobs]
    fps, rate = faces[0].fps, faces[0].sample_rate
    if rate != parts.audio_encoder.sample_rate:
        raise DheadsError(
            f"{corpus.folder}: its sound has {rate} Hz, but {recipe.name} hears {parts.audio_encoder.sample_rate}: "
            "preprocess again with that preprocess.sample_rate"
        )
    identity = np.stack([face.frames[job.row.identity_frame] for job, face in zip(jobs, faces, strict=True)])
    frames = draw_spoken(recipe, parts, settings, identity, waves, lengths, fps, [job.row.seed for job in jobs])
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                VideoWriter(
                    folder / job.row.file,
                    fps,
                    (recipe.model.size, recipe.model.size),
                    audio=wave[: round(length / fps * rate)],
                    sample_rate=rate,
                    crf=12,  # metrics read these files: little loss
                    metadata=made_here(recipe.name, job.row.seed).tags(job.row.id),
                    overwrite=True,  # what was to be kept was refused before
                )
            )
            for job, wave, length in zip(jobs, waves, lengths, strict=True)
        ]
        for k, pictures in enumerate(frames):
            for picture, writer, length in zip(pictures, writers, lengths, strict=True):
                if k < length:
                    writer.write(picture)
