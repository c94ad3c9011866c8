"""The shards of a preprocessed corpus: written clip by clip, so that a run killed at any moment can go on.

While shard X.tar is written it is X.tar.part, and .parts/X.tar.begun has a row for each clip that is in it. When it is
whole, .parts/X.tar.jsonl has all its rows. When all are, these become the manifest and .parts goes. Where the process
is killed, no clip that has a row is lost; after a loss of power, those whose bytes differ from the row are made again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dheads_cli import console
from dheads_cli.data.corpora import ClipSource
from dheads_cli.data.manifest import MANIFEST, ManifestRow, read_manifest, read_rows, write_rows
from dheads_cli.data.shard_writer import ShardWriter, samples_end, shard_size, unfinished
from dheads_cli.data.shards import damage_of
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.files import remove_parts, sync_folder
from dheads_cli.run.preprocess_clip import Outcome

PARTS = ".parts"
SHARDS = "*-[0-9][0-9][0-9][0-9][0-9][0-9].tar"

Process = Callable[[Sequence[ClipSource]], Generator[Outcome]]  # an executor: outcomes in the order of the clips


@dataclass(frozen=True)
class Shard:
    """A shard's name, and the clips planned for it."""

    name: str
    clips: Sequence[ClipSource]


@dataclass(frozen=True)
class Begun:
    """What an interrupted run had done of a shard: rows of its first clips, and where they end in the file, bytes."""

    rows: Sequence[ManifestRow]
    end: int


def plan_shards(clips: Iterable[ClipSource], clips_per_shard: int) -> list[Shard]:
    """Which clips go into which shard; skipped ones leave theirs smaller, so a shard depends on its own clips only."""
    plan = []
    for split, group in itertools.groupby(
        sorted(clips, key=lambda clip: (clip.split, clip.id)), lambda clip: clip.split
    ):
        members = list(group)
        for number, begin in enumerate(range(0, len(members), clips_per_shard)):
            plan.append(Shard(f"{split}-{number:06d}.tar", members[begin : begin + clips_per_shard]))
    return plan


def write_shards(corpus: Path, out: Path, plan: Sequence[Shard], process: Process) -> list[ManifestRow]:
    """Make what is not there yet, then the manifest of all.

    Args:
        corpus: what the clips' files lie in.
        out: folder to write.
        plan: all shards.
        process: how clips become samples.

    Returns:
        The manifest's rows.
    """
    done = _whole_shards(out, plan)
    todo = [shard for shard in plan if shard.name not in done]
    manifest = out / MANIFEST
    if manifest.is_file():
        if not todo:
            console.info(f"{out} is finished already")
            remove_unfinished(out)
            return read_manifest(out)
        console.warn(f"{out}: {len(todo)} of its shards are missing or not whole, and are made again")
    (out / PARTS).mkdir(exist_ok=True)
    if manifest.is_file():
        for name, rows in done.items():
            write_rows(out / PARTS / f"{name}.jsonl", rows)
        manifest.unlink()
    elif done:
        console.info(f"{len(done)} of {len(plan)} shards are there already")
    _make(corpus, out, todo, process, n_done=sum(map(len, done.values())))
    all_rows = [row for shard in plan for row in read_rows(out / PARTS / f"{shard.name}.jsonl")]
    write_rows(manifest, all_rows)
    sync_folder(out)
    remove_unfinished(out)
    return all_rows


def _whole_shards(out: Path, plan: Sequence[Shard]) -> dict[str, list[ManifestRow]]:
    """The rows of each shard that is there, as long as it should be."""
    finished = _finished_rows(out / MANIFEST)
    whole = {}
    for shard in plan:
        part = out / PARTS / f"{shard.name}.jsonl"
        if finished:
            rows = [finished[clip.id] for clip in shard.clips if clip.id in finished]
        else:
            rows = read_rows(part) if part.is_file() else []
        tar, stored = out / shard.name, [row for row in rows if row.status == "ok"]
        is_there = not stored or (tar.is_file() and tar.stat().st_size == shard_size(stored))
        if is_there and [row.id for row in rows] == [clip.id for clip in shard.clips]:
            whole[shard.name] = rows
    return whole


def _finished_rows(manifest: Path) -> dict[str, ManifestRow]:
    """The manifest's rows by clip; none where it is not there or not readable."""
    try:
        return {row.id: row for row in read_rows(manifest)} if manifest.is_file() else {}
    except DheadsError as error:
        console.warn(str(error))
        return {}


def _make(corpus: Path, out: Path, todo: Sequence[Shard], process: Process, n_done: int) -> None:
    """Make these shards, each from where it was broken off."""
    begun = {shard.name: _begun(out, shard) for shard in todo}
    n_begun = sum(len(each.rows) for each in begun.values())
    if n_begun:
        console.info(f"{n_begun} clips of an unfinished shard are there already")
    n_clips = n_done + sum(len(shard.clips) for shard in todo)
    sources = [clip for shard in todo for clip in shard.clips[len(begun[shard.name].rows) :]]
    n_skipped = 0
    with (
        console.progress("preprocess", total=n_clips, unit="clips", done=n_done + n_begun) as bar,
        closing(process(sources)) as outcomes,
    ):
        for shard in todo:
            for row in _write(corpus, out, shard, begun[shard.name], outcomes):
                n_skipped += row.status == "skipped"
                bar.advance(1)
                bar.note(f"{n_skipped} skipped" if n_skipped else "")


def _write(
    corpus: Path, out: Path, shard: Shard, begun: Begun, outcomes: Iterator[Outcome]
) -> Iterator[ManifestRow]:
    """Write one shard and its rows; yields the row of each clip as it is stored."""
    writer = ShardWriter(out / shard.name, begun.end)
    journal = out / PARTS / f"{shard.name}.begun"
    rows = list(begun.rows)
    write_rows(journal, rows)
    with journal.open("a", encoding="utf-8") as file:
        for clip in shard.clips[len(rows) :]:
            rows.append(_store(writer, corpus, clip, next(outcomes)))
            file.write(rows[-1].to_json() + "\n")
            file.flush()
            yield rows[-1]
    # In this order: killed in between, the next call finds a journal with its unfinished shard, or a whole shard.
    write_rows(out / PARTS / f"{shard.name}.jsonl", rows)
    writer.close() if any(row.status == "ok" for row in rows) else writer.abandon()
    sync_folder(out)
    journal.unlink()


def _begun(out: Path, shard: Shard) -> Begun:
    """What is there of an unfinished shard; a last row cut short, or one whose bytes differ, does not count."""
    journal, part = out / PARTS / f"{shard.name}.begun", unfinished(out / shard.name)
    rows: list[ManifestRow] = []
    if journal.is_file() and part.is_file():
        lines = journal.read_bytes().split(b"\n")[:-1]
        for line, clip in zip(lines, shard.clips, strict=False):
            try:
                row = ManifestRow.from_json(line.decode())
            except (ValueError, TypeError, KeyError):
                break
            if row.id != clip.id or (row.status == "ok" and damage_of(part, row)):
                break
            rows.append(row)
    return Begun(rows, samples_end(rows))


def _store(writer: ShardWriter, corpus: Path, clip: ClipSource, outcome: Outcome) -> ManifestRow:
    """Put a clip into its shard; its row of the manifest."""
    source = clip.video.relative_to(corpus).as_posix()
    if isinstance(outcome, UnusableClip):
        # Where the corpus lies on this machine is no part of what became of the clip.
        detail = outcome.detail.replace(f"{corpus}/", "")
        return ManifestRow(
            clip.id, clip.key, clip.split, clip.speaker, source, "skipped", outcome.reason, detail
        )
    members, digest = writer.add(clip.key, outcome)
    info = json.loads(outcome["json"])
    return ManifestRow(
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
        synthetic=info.get("synthetic", {}),
    )


def remove_unfinished(out: Path) -> None:
    """Remove what only an unfinished corpus needs."""
    parts = [*(out / PARTS).iterdir()] if (out / PARTS).is_dir() else []
    for path in (*out.glob(f"{SHARDS}.part"), *parts):
        path.unlink(missing_ok=True)
    remove_parts(out, MANIFEST)
    if (out / PARTS).is_dir():
        (out / PARTS).rmdir()
