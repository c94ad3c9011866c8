"""`dheads preprocess`: a corpus of videos -> shards of aligned faces with their sound."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dheads_cli import console, registry
from dheads_cli.data import align
from dheads_cli.data.corpora import ClipSource, CorpusListing, list_corpus
from dheads_cli.data.manifest import MANIFEST, ManifestRow
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import Preprocess
from dheads_cli.run import clip_pool
from dheads_cli.run.preprocess_clip import Outcome, detector_of, process_clip
from dheads_cli.run.preprocess_folder import alone_in, prepare
from dheads_cli.run.preprocess_shards import plan_shards, write_shards
from dheads_cli.run.preprocess_verify import clips_digest

# They decide who does the work and how long a clip may take, not what is stored of it; the layout is recorded as found.
NOT_OF_THE_BYTES = {"workers", "clip_timeout_s", "executor", "ray_address", "layout"}


def preprocess(corpus: Path, out: Path, settings: Preprocess, *, overwrite: bool = False) -> dict[str, Any]:
    """Write a preprocessed corpus; called again after a break, it goes on with the clip it was at.

    The bytes written depend on the corpus and the settings only, not on who worked on it, where, or on breaks.

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
    corpus = corpus.absolute()  # as all who work on it find it
    listing = list_corpus(
        corpus, settings.layout, settings.test_speakers, settings.test_fraction, settings.val_fraction
    )
    for note in listing.notes:
        console.info(note)
    detector_of(settings)  # a wrong option stops before anything is made
    plan = plan_shards(listing.clips, settings.clips_per_shard)
    try:
        with alone_in(out):
            prepare(out, _provenance(corpus, listing, settings), overwrite)
            rows = write_shards(corpus, out, plan, partial(process_clips, settings=settings))
    except OSError as error:
        raise DheadsError(f"{out} can't be written: {error.strerror or error}.") from error
    summary = _summarise(listing.layout, out, rows)
    if not summary["clips"]:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in summary["skipped"].items())
        raise DheadsError(f"no clip of {corpus} can be used ({reasons}); {out / MANIFEST} says why for each.")
    _show(summary)
    return summary


def process_clips(
    clips: Sequence[ClipSource], settings: Preprocess, work: Callable[[ClipSource], Outcome] | None = None
) -> Generator[Outcome]:
    """Make samples of clips, in their order, by the executor of the settings; `work` makes one, None: process_clip."""
    work = work or partial(process_clip, settings=settings)
    if settings.executor == "ray":
        from dheads_cli.run import ray_pool

        versions = partial(versions_of, settings)
        yield from ray_pool.process_all(work, clips, settings.ray_address, settings.clip_timeout_s, versions)
    else:
        n_workers = min(settings.workers or os.cpu_count() or 1, max(1, len(clips)))
        yield from clip_pool.process_all(work, clips, n_workers, settings.clip_timeout_s)


def versions_of(settings: Preprocess) -> dict[str, str]:
    """Versions of what decides the bytes of a clip, on the machine that asks."""
    return {"dheads": version("dheads"), "detector": _detector_version(settings), **_packages()}


def _packages() -> dict[str, str]:
    """Versions of the packages that decode, find faces, warp and encode."""
    return {name: version(name) for name in ("av", "numpy", "opencv-python", "mediapipe", "face-alignment")}


def _detector_version(settings: Preprocess) -> str:
    detector = registry.find("landmark_detectors", settings.detector.use)
    return f"{settings.detector.use} of {detector.package} {detector.version}"


def _provenance(corpus: Path, listing: CorpusListing, settings: Preprocess) -> dict[str, Any]:
    """What decides the bytes of a preprocessed corpus."""
    return {
        "corpus": corpus.resolve().name,
        "layout": listing.layout,
        "clips": len(listing.clips),
        "clips_sha256": clips_digest([(clip.split, clip.id) for clip in listing.clips]),
        "dheads": version("dheads"),
        "detector": _detector_version(settings),
        "packages": _packages(),
        "mean_face": align.MEAN_FACE_VERSION,
        "settings": settings.model_dump(exclude=NOT_OF_THE_BYTES),
    }


def _summarise(layout: str, out: Path, rows: Sequence[ManifestRow]) -> dict[str, Any]:
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
    skipped, n_speakers = summary["skipped"], summary["speakers"]
    reasons = ", ".join(f"{count} ({reason})" for reason, count in skipped.items())
    by = f"{n_speakers} speaker" if n_speakers == 1 else f"{n_speakers} speakers"
    console.table(
        f"{summary['out']}: {summary['clips']} clips of {by}, {summary['frames']} frames",
        ["split", "clips"],
        [[split, str(count)] for split, count in summary["splits"].items()],
        f"skipped {reasons}" if skipped else "none skipped",
    )
    console.result(dict(summary))
