"""`dheads preprocess`: a corpus of videos -> shards of aligned faces with their sound."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from dheads_cli import console, registry
from dheads_cli.data import align, shards
from dheads_cli.data.corpora import ClipSource, CorpusListing, list_corpus
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.recipe import Preprocess
from dheads_cli.run.clip_pool import process_all
from dheads_cli.run.preprocess_clip import Outcome, detector_of, process_clip

PARTS = ".parts"  # manifest rows of finished shards, until all are finished

Shard = tuple[str, list[ClipSource]]  # name, and the clips planned for it


def preprocess(corpus: Path, out: Path, settings: Preprocess, *, overwrite: bool = False) -> dict[str, Any]:
    """Write a preprocessed corpus; called again after a break, it goes on with the first unfinished shard.

    The bytes written depend on the corpus and the settings only, not on workers or breaks.

    Args:
        corpus: folder of videos in one of the known layouts.
        out: folder to write, made where it does not exist.
        settings: the recipe's section.
        overwrite: begin anew where `out` holds a corpus made otherwise.

    Returns:
        The summary: clips, skipped clips by reason, clips by split, frames.

    Raises:
        DheadsError: the corpus or the output folder is not usable, or no clip of the corpus is.
    """
    listing = list_corpus(
        corpus, settings.layout, settings.test_speakers, settings.test_fraction, settings.val_fraction
    )
    for note in listing.notes:
        console.info(note)
    detector_of(settings)  # a wrong option stops before anything is made
    plan = _plan(listing.clips, settings.clips_per_shard)
    try:
        with _alone_in(out):
            _prepare(out, _provenance(corpus, listing, settings), overwrite)
            rows = _write_shards(corpus, out, plan, settings)
    except OSError as error:
        raise DheadsError(f"{out} can't be written: {error.strerror or error}.") from error
    summary = _summarise(listing.layout, out, rows)
    if not summary["clips"]:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in summary["skipped"].items())
        raise DheadsError(f"no clip of {corpus} can be used ({reasons}); {out / shards.MANIFEST} says why for each.")
    _show(summary)
    return summary


def verify(out: Path) -> dict[str, Any]:
    """Re-read a preprocessed corpus against its manifest's checksums.

    Raises:
        DheadsError: some clips are damaged or missing, or there is no finished corpus.
    """
    rows, corpus = shards.read_manifest(out), shards.Corpus(out)
    damaged: dict[str, str] = {}
    names = sorted({row.shard for row in rows if row.shard})
    with console.progress("verify", total=len(names), unit="shards") as bar:
        for name in names:
            damaged |= shards.damaged_clips(corpus, [row for row in rows if row.shard == name])
            bar.advance(1)
    if damaged:
        clip, what = next(iter(damaged.items()))
        raise DheadsError(f"{len(damaged)} of {len(rows)} clips are damaged, first {clip}: {what}")
    n_clips = sum(row.status == "ok" for row in rows)
    console.info(f"{out}: {n_clips} clips in {len(names)} shards are whole")
    summary = {"out": str(out), "clips": n_clips, "damaged": 0}
    console.result(summary)
    return summary


def _plan(clips: Sequence[ClipSource], clips_per_shard: int) -> list[Shard]:
    """Which clips go into which shard; skipped ones leave theirs smaller, so a shard depends on its own clips only."""
    plan = []
    for split, group in itertools.groupby(
        sorted(clips, key=lambda clip: (clip.split, clip.id)), lambda clip: clip.split
    ):
        members = list(group)
        for number, begin in enumerate(range(0, len(members), clips_per_shard)):
            plan.append((f"{split}-{number:06d}.tar", members[begin : begin + clips_per_shard]))
    return plan


def _provenance(corpus: Path, listing: CorpusListing, settings: Preprocess) -> dict[str, Any]:
    """What decides the bytes of a preprocessed corpus."""
    detector = registry.find("landmark_detectors", settings.detector.use)
    clips = "\n".join(f"{clip.split} {clip.id}" for clip in listing.clips)
    return {
        "corpus": corpus.resolve().name,
        "layout": listing.layout,
        "clips": len(listing.clips),
        "clips_sha256": hashlib.sha256(clips.encode()).hexdigest(),
        "dheads": version("dheads"),
        "detector": f"{settings.detector.use} of {detector.package} {detector.version}",
        "mean_face": align.MEAN_FACE_VERSION,
        "settings": settings.model_dump(exclude={"workers", "layout"}),
    }


@contextmanager
def _alone_in(out: Path) -> Iterator[None]:
    """Hold the output folder for this process: two that write the same shards would spoil each other's."""
    if out.exists() and not out.is_dir():
        raise DheadsError(f"{out} is a file: name a folder.")
    out.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(out, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise DheadsError(f"{out} is being written by another `dheads preprocess`: wait for it, or end it.") from error
    finally:
        os.close(descriptor)


def _prepare(out: Path, provenance: Mapping[str, Any], overwrite: bool) -> None:
    """Make sure that what is in the output folder was made in the same way, or clear it."""
    record = out / shards.SETTINGS
    text = yaml.safe_dump(dict(provenance), sort_keys=False, allow_unicode=True)
    if any(out.iterdir()) and not record.is_file():
        raise DheadsError(f"{out} is not empty and was not made by `dheads preprocess`: name another folder.")
    if record.is_file() and record.read_text(encoding="utf-8") != text:
        if not overwrite:
            before = yaml.safe_load(record.read_text(encoding="utf-8"))
            raise DheadsError(
                f"{out} was made with other {_differences(before, provenance)}: name another folder, or pass "
                "--overwrite to make it anew."
            )
        _remove(out)
    for part in (*out.glob("*.part"), *(out / PARTS).glob("*.part")):
        part.unlink()
    record.write_text(text, encoding="utf-8")


def _differences(before: Any, now: Mapping[str, Any]) -> str:
    """Names of the values that differ between two records of provenance."""
    old = {**before, **before.get("settings", {})} if isinstance(before, dict) else {}
    new = {**now, **now["settings"]}
    names = [name for name in new if name != "settings" and old.get(name) != new[name]]
    return f"settings ({', '.join(names)})"


def _remove(out: Path) -> None:
    """Remove a preprocessed corpus from its folder, and nothing else."""
    (out / shards.MANIFEST).unlink(missing_ok=True)
    for path in (*out.glob("*-[0-9][0-9][0-9][0-9][0-9][0-9].tar"), *(out / PARTS).glob("*.jsonl")):
        path.unlink()
    shutil.rmtree(out / shards.EMBEDDINGS, ignore_errors=True)
    (out / shards.SETTINGS).unlink()


def _write_shards(corpus: Path, out: Path, plan: Sequence[Shard], settings: Preprocess) -> list[shards.ManifestRow]:
    """Make every shard that is not there yet, then the manifest of all."""
    manifest = out / shards.MANIFEST
    if manifest.is_file():
        console.info(f"{out} is finished already")
        return shards.read_manifest(out)
    (out / PARTS).mkdir(exist_ok=True)
    todo = [(name, clips) for name, clips in plan if not (out / PARTS / f"{name}.jsonl").is_file()]
    if n_done := len(plan) - len(todo):
        console.info(f"{n_done} of {len(plan)} shards are there already")
    n_skipped, n_clips, n_todo = 0, *(sum(len(clips) for _, clips in some) for some in (plan, todo))
    died: Outcome = UnusableClip("crashed", "the process that worked on it was killed")
    sources = (clip for _, clips in todo for clip in clips)
    with console.progress("preprocess", total=n_clips, unit="clips", done=n_clips - n_todo) as bar:
        n_workers = min(settings.workers or os.cpu_count() or 1, max(1, n_todo))
        outcomes = process_all(partial(process_clip, settings=settings), sources, n_workers, died)
        for name, clips in todo:
            writer = shards.ShardWriter(out / name)
            rows = []
            try:
                for clip, outcome in zip(clips, outcomes, strict=False):
                    rows.append(_store(writer, corpus, clip, outcome))
                    n_skipped += rows[-1].status == "skipped"
                    bar.advance(1)
                    bar.note(f"{n_skipped} skipped" if n_skipped else "")
            except BaseException:  # Ctrl-C too: whatever happens, no half shard stays
                writer.abandon()
                raise
            writer.close() if any(row.status == "ok" for row in rows) else writer.abandon()
            shards.write_rows(out / PARTS / f"{name}.jsonl", rows)
    rows = [row for name, _ in plan for row in shards.read_rows(out / PARTS / f"{name}.jsonl")]
    shards.write_rows(manifest, rows)
    for part in (out / PARTS).iterdir():
        part.unlink()
    (out / PARTS).rmdir()
    return rows


def _store(writer: shards.ShardWriter, corpus: Path, clip: ClipSource, outcome: Outcome) -> shards.ManifestRow:
    """Put a clip into its shard; its row of the manifest."""
    source = clip.video.relative_to(corpus).as_posix()
    if isinstance(outcome, UnusableClip):
        return shards.ManifestRow(
            clip.id, clip.key, clip.split, clip.speaker, source, "skipped", outcome.reason, outcome.detail
        )
    members, digest = writer.add(clip.key, outcome)
    info = json.loads(outcome["json"])
    return shards.ManifestRow(
        clip.id,
        clip.key,
        clip.split,
        clip.speaker,
        source,
        "ok",
        shard=writer.path.name,
        n_frames=int(info["n_frames"]),
        members=members,
        sha256=digest,
        quality=info["quality"],
    )


def _summarise(layout: str, out: Path, rows: Sequence[shards.ManifestRow]) -> dict[str, Any]:
    usable = [row for row in rows if row.status == "ok"]
    return {
        "out": str(out),
        "layout": layout,
        "clips": len(usable),
        "frames": sum(row.n_frames for row in usable),
        "skipped": dict(Counter(row.reason for row in rows if row.status == "skipped").most_common()),
        "splits": dict(sorted(Counter(row.split for row in usable).items())),
        "speakers": len({row.speaker for row in usable}),
    }


def _show(summary: Mapping[str, Any]) -> None:
    skipped = summary["skipped"]
    text = "; skipped " + ", ".join(f"{count} ({reason})" for reason, count in skipped.items()) if skipped else ""
    console.table(
        f"{summary['out']}: {summary['clips']} clips of {summary['speakers']} speakers, {summary['frames']} frames",
        ["split", "clips"],
        [[split, str(count)] for split, count in summary["splits"].items()],
        f"none skipped{text}" if not skipped else text.removeprefix("; "),
    )
    console.result(dict(summary))
