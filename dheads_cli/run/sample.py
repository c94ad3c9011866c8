"""`dheads sample`: make the clips that evaluation scores, from real identity frames and real speech of a split.

Stopped or killed, the same command goes on after the last batch of clips that was whole, to the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import dheads_cli
from dheads_cli import console
from dheads_cli.data.manifest import MANIFEST as CORPUS_MANIFEST
from dheads_cli.data.media import VideoWriter
from dheads_cli.data.provenance import made_here
from dheads_cli.data.samples import MANIFEST, PHOTO, SampleRow, partners, write_samples, write_settings
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.data.stored_clip import first_identity
from dheads_cli.errors import DheadsError
from dheads_cli.files import remove_parts, sha256_of, write_atomically
from dheads_cli.model.build import choose_device
from dheads_cli.model.checkpoint import Trained, load_model
from dheads_cli.recipe import Sample
from dheads_cli.recipe_section import Component
from dheads_cli.run.frames import chosen_settings, draw_spoken

PROGRESS = ".progress.json"  # what is being made, and how many batches of it are whole; gone when all are


@dataclass(frozen=True)
class Job:
    """One clip to make: whose face (and the reference), whose sound."""

    row: SampleRow
    face: ClipRef
    sound: ClipRef

    @property
    def n_frames(self) -> int:
        """Of the shorter of the two."""
        return min(self.face.n_frames, self.sound.n_frames)


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
    """Make a clip for each clip of a split: its first frame, or a synthetic speaker's photo, and its sound.

    Args:
        run: run folder, checkpoint, or the name of a shipped model.
        split: split of the corpus the model was trained on.
        speaker: only this speaker's clips.
        limit: at most this many clips, spread evenly over the split.
        shuffled: make each clip a second time with the sound of another of the same speaker, as a floor for metrics.
        out: samples folder; None is <run>/samples/step-<step>-<split>.
        data: preprocessed corpus; None is the recipe's data.path, the first where it names several.
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
    corpus = Corpus(data or trained.recipe.data.paths[0])
    step = int(trained.info.get("step", 0))
    folder = out or run_folder(run, trained) / "samples" / f"step-{step:06d}-{split}"
    if (folder / MANIFEST).exists() and not overwrite:
        raise DheadsError(f"{folder}: holds samples already; choose another folder with -o, or --overwrite them")
    jobs = plan(corpus, split, speaker, limit, shuffled, seed)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / MANIFEST).exists():
        (folder / PROGRESS).unlink(missing_ok=True)
        (folder / MANIFEST).unlink()
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
    }
    if trained.recipe.model.controls:
        made |= {"blinks": settings.blinks, "head": settings.head}
    decides = {
        **made,
        "settings": settings.model_dump(mode="json"),
        "device": str(choose_device(device)),
        "corpus_sha256": sha256_of(corpus.folder / CORPUS_MANIFEST),
        "version": dheads_cli.__version__,
        "clips": [asdict(job.row) for job in jobs],
    }
    seconds = draw_all(trained, settings, corpus, jobs, folder, decides)
    n_frames = sum(job.n_frames for job in jobs)
    made |= {"seconds_per_frame": round(seconds / n_frames, 4), "version": dheads_cli.__version__}
    write_settings(folder, made)
    write_samples(folder, [job.row for job in jobs])
    (folder / PROGRESS).unlink()
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
            identity_frame=PHOTO if face.synthetic else 0,
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


def draw_all(
    trained: Trained, settings: Sample, corpus: Corpus, jobs: Sequence[Job], folder: Path, decides: dict[str, Any]
) -> float:
    """Draw clips, batch by batch, but those that a stopped run left whole; how many seconds it took, with that run's.

    Batches are skipped as a whole: what stands beside a clip may decide the last bits of its numbers.

    Args:
        trained, settings, corpus, folder: see sample.
        jobs: the clips.
        decides: all that decides their bytes, as JSON holds it; with anything else the clips are drawn anew.
    """
    # Clips of like length go side by side, so that few frames are drawn past a clip's end.
    by_length = sorted(jobs, key=lambda job: job.n_frames)
    batches = [by_length[start : start + settings.batch_size] for start in range(0, len(jobs), settings.batch_size)]
    progress = folder / PROGRESS
    before = json.loads(progress.read_text(encoding="utf-8")) if progress.is_file() else {}
    if before and before["decides"] != json.loads(json.dumps(decides)):
        console.info(f"{folder}: what an earlier run began there was of other settings; all clips are drawn")
        before = {}
    whole = [all((folder / job.row.file).is_file() for job in batch) for batch in batches[: before.get("n_batches", 0)]]
    n_done, seconds = [*whole, False].index(False), before.get("seconds", 0.0)
    remove_parts(folder)
    n_clips_done = sum(map(len, batches[:n_done]))
    if n_clips_done:
        console.info(f"{folder}: {n_clips_done} of {len(jobs)} clips are there already")
    with console.progress("sample", total=len(jobs), unit="clips", done=n_clips_done) as bar:
        for number, chosen in enumerate(batches[n_done:], n_done + 1):
            began = time.monotonic()
            draw(trained, settings, corpus, chosen, folder)
            seconds += time.monotonic() - began
            write_atomically(progress, json.dumps({"decides": decides, "n_batches": number, "seconds": seconds}))
            bar.advance(len(chosen))
    return float(seconds)


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
    lengths = [job.n_frames for job in jobs]
    fps, rate = faces[0].fps, faces[0].sample_rate
    if rate != parts.audio_encoder.sample_rate:
        raise DheadsError(
            f"{corpus.folder}: its sound has {rate} Hz, but {recipe.name} hears {parts.audio_encoder.sample_rate}: "
            "preprocess again with that preprocess.sample_rate"
        )
    identity = np.stack([first_identity(face) for face in faces])
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
