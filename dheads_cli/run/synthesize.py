"""`dheads data synthesize`: photos that take on the motion of filmed people -> a corpus of synthetic speakers."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from dheads_cli import console
from dheads_cli.data import align
from dheads_cli.data.corpora import ClipSource, list_corpus
from dheads_cli.data.corpora.splits import with_splits
from dheads_cli.data.manifest import MANIFEST, ManifestRow
from dheads_cli.data.mouth import mouth_opening, pearson
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.protocols import MeshDetector
from dheads_cli.recipe import Preprocess
from dheads_cli.run.preprocess import process_clips, versions_of
from dheads_cli.run.preprocess_clip import detector_of
from dheads_cli.run.preprocess_folder import alone_in, prepare
from dheads_cli.run.preprocess_shards import plan_shards, write_shards
from dheads_cli.run.preprocess_verify import clips_digest
from dheads_cli.run.synthesize_clip import VERSION, Pair, synthesize_clip

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".bmp", ".tif", ".tiff"}
PEOPLE = "portraits.csv"  # beside the photos: columns file, person
NO_FACE = np.full((68, 2), np.nan, np.float32)
SPEAKER_BALANCE = 0.5  # a speaker with n clips moves photos in proportion to the square root of n


@dataclass(frozen=True)
class Synthesis:
    """How synthetic speakers are made.

    Attributes:
        per_portrait: clips of each photo.
        seed: of all draws: which clip moves which photo, and how.
        mouth, head: spread of the factors of what the face does below the nose, and of the head's turns, about 1.
        turn_deg: standard deviation of further turns of the head in half of the clips, degrees.
        light: strength of changed light and colour, 0 (none) ... 1.
    """

    per_portrait: int = 3
    seed: int = 0
    mouth: float = 0.12
    head: float = 0.3
    turn_deg: float = 4.0
    light: float = 0.5


def synthesize(
    portraits: Path,
    corpus: Path,
    out: Path,
    preprocess: Preprocess,
    settings: Synthesis,
    *,
    overwrite: bool = False,
    check: int = 24,
) -> dict[str, Any]:
    """Write a corpus of synthetic speakers; called again after a break, it goes on with the clip it was at.

    The speakers are the people of the photos, and the splits are by them: no person is in two. Photos of a split are
    moved by clips of the same split alone, so that sentences held out of the real corpus are held out here.

    Args:
        portraits: folder of photos, one face each; its portraits.csv, where there is one, says who is who.
        corpus: folder of videos of people who speak, in one of the layouts that `dheads preprocess` knows.
        out: folder to write.
        preprocess: size, margins, detector and splits, as of the corpus that it is trained beside.
        settings: what is drawn.
        overwrite: begin anew where `out` holds a corpus made otherwise.
        check: clips whose mouths are measured afterwards by the detector, on the drawn frames; 0 measures none.

    Returns:
        The summary: clips, skipped clips by reason, clips by split, speakers, and the check.

    Raises:
        DheadsError: a folder is not usable, the detector finds no meshes, or no photo can be used.
    """
    portraits, corpus = portraits.absolute(), corpus.absolute()
    detector = detector_of(preprocess)
    if not isinstance(detector, MeshDetector):
        raise DheadsError(
            f"preprocess.detector: {preprocess.detector.use!r} finds landmarks but no mesh: use mediapipe"
        )
    listing = list_corpus(
        corpus, preprocess.layout, preprocess.test_speakers, preprocess.test_fraction, preprocess.val_fraction
    )
    photos, notes = list_portraits(portraits, preprocess)
    for note in (*listing.notes, *notes):
        console.info(note)
    pairs = make_pairs(photos, listing.clips, settings)
    plan = plan_shards(pairs, preprocess.clips_per_shard)
    record = {
        "corpus": corpus.resolve().name,
        "portraits": portraits.resolve().name,
        "layout": "synthetic",
        "clips": len(pairs),
        "clips_sha256": clips_digest([(pair.split, pair.id) for pair in pairs]),
        **versions_of(preprocess),
        "mean_face": align.MEAN_FACE_VERSION,
        "synthesis": VERSION,
        "settings": {**preprocess.model_dump(include=OF_THE_BYTES), **asdict(settings)},
    }
    work = partial(synthesize_clip, preprocess=preprocess, settings=settings)
    process = partial(process_clips, settings=preprocess, work=work)
    try:
        with alone_in(out):
            prepare(out, record, overwrite)
            rows = write_shards(portraits, out, plan, process)
    except OSError as error:
        raise DheadsError(f"{out} can't be written: {error.strerror or error}.") from error
    usable = [row for row in rows if row.status == "ok"]
    skipped = Counter(row.reason for row in rows if row.status == "skipped")
    if not usable:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in skipped.items())
        raise DheadsError(f"no photo of {portraits} can be used ({reasons}); {out / MANIFEST} says why for each.")
    summary = {
        "out": str(out),
        "clips": len(usable),
        "speakers": len({row.speaker for row in usable}),
        "frames": sum(row.n_frames for row in usable),
        "skipped": dict(skipped.most_common()),
        "splits": dict(sorted(Counter(row.split for row in usable).items())),
        "check": check_mouths(out, usable, preprocess, check, settings.seed) if check else None,
    }
    _show(summary)
    return summary


OF_THE_BYTES = {
    "size", "fps", "sample_rate", "detector", "smooth_frames", "margin_side", "margin_above", "margin_below",
    "min_frames", "clips_per_shard", "test_speakers", "test_fraction", "val_fraction",
}  # fmt: skip


def list_portraits(folder: Path, preprocess: Preprocess) -> tuple[list[ClipSource], list[str]]:
    """The photos of a folder with their people and splits, and lines for people.

    Raises:
        DheadsError: no such folder, no photo in it, or its portraits.csv has no columns `file` and `person`.
    """
    if not folder.is_dir():
        raise DheadsError(f"{folder}: no such folder of photos.")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURES)
    if not files:
        raise DheadsError(f"{folder} holds no photos ({', '.join(sorted(PICTURES))}).")
    people = _people(folder / PEOPLE)
    photos = []
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        person = people.get(path.relative_to(folder).as_posix(), name)
        photos.append(ClipSource(name, path, person, split_by=person))
    photos, how = with_splits(photos, "folder", preprocess.test_fraction, preprocess.val_fraction)
    n_people = len({photo.speaker for photo in photos})
    return photos, [f"{folder}: {len(photos)} photos of {n_people} people", *how]


def _people(table: Path) -> dict[str, str]:
    """File -> person out of portraits.csv; empty where there is none."""
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if not {"file", "person"} <= set(rows.fieldnames or ()):
            raise DheadsError(f"{table}: has no columns `file` and `person`.")
        return {row["file"]: row["person"] for row in rows}


def make_pairs(photos: Sequence[ClipSource], clips: Sequence[ClipSource], settings: Synthesis) -> list[Pair]:
    """Which clips move which photo: drawn for each photo by itself, from the clips of its split.

    Raises:
        DheadsError: a split has photos but no clips.
    """
    by_split: dict[str, list[ClipSource]] = defaultdict(list)
    for clip in clips:
        by_split[clip.split].append(clip)
    pairs = []
    for photo in photos:
        drivers = by_split[photo.split]
        if not drivers:
            raise DheadsError(f"the corpus has no clips in the split {photo.split!r}, which {photo.id} is in.")
        counts = Counter(clip.speaker for clip in drivers)
        weights = np.array([counts[clip.speaker] ** -SPEAKER_BALANCE for clip in drivers])
        rng = np.random.default_rng([settings.seed, crc32(photo.id.encode())])
        n_clips = min(settings.per_portrait, len(drivers))
        for index in rng.choice(len(drivers), n_clips, replace=False, p=weights / weights.sum()):
            driver = drivers[index]
            clip_id = f"{photo.id}/{driver.id.replace('/', '-')}"
            key = f"{re.sub(r'[^A-Za-z0-9_-]', '_', clip_id)}-{crc32(clip_id.encode()):08x}"
            pairs.append(
                Pair(
                    clip_id, photo.video, photo.speaker, driver.split_by, key, text=driver.text, split=photo.split,
                    words_file=driver.words_file, driver=driver,
                )
            )
    return pairs


def check_mouths(
    folder: Path, rows: Sequence[ManifestRow], preprocess: Preprocess, n_clips: int, seed: int
) -> dict[str, float]:
    """Detect the face again in the drawn frames and compare the opening of the mouth with the driver's.

    Returns:
        {"clips", "mouth_r_mean", "mouth_r_lowest", "amplitude"}: correlation of the opening that the detector finds on
        the stored frames with the driving clip's, over clips, and the mean ratio of their standard deviations.
    """
    corpus, detector = Corpus(folder), detector_of(preprocess)
    assert isinstance(detector, MeshDetector)
    chosen = np.random.default_rng(seed).permutation(len(rows))[:n_clips]
    scores, ratios = [], []
    with console.progress("check mouths", total=len(chosen), unit="clips") as bar:
        for index in chosen:
            clip = corpus.load(corpus.clip(rows[index].id))
            meshes = [detector.mesh(frame) for frame in clip.frames]  # each by itself: smoothing would lag behind
            found = np.stack([NO_FACE if mesh is None else detector.landmarks_of(mesh) for mesh in meshes])
            seen, told = mouth_opening(found), np.array(clip.info["driver_opening"])
            scores.append(pearson(seen, told))
            ratios.append(float(np.nanstd(seen) / max(told.std(), 1e-6)))
            bar.advance(1)
    return {
        "clips": len(scores),
        "mouth_r_mean": round(float(np.mean(scores)), 3),
        "mouth_r_lowest": round(float(np.min(scores)), 3),
        "amplitude": round(float(np.mean(ratios)), 3),
    }


def _show(summary: Mapping[str, Any]) -> None:
    reasons = ", ".join(f"{count} ({reason})" for reason, count in summary["skipped"].items())
    rows = [[split, str(count)] for split, count in summary["splits"].items()]
    if check := summary["check"]:
        console.info(
            f"mouths of {check['clips']} clips, found again on the drawn frames: r {check['mouth_r_mean']:.3f} with "
            f"their drivers (lowest {check['mouth_r_lowest']:.3f}), amplitude {check['amplitude']:.2f}"
        )
    console.table(
        f"{summary['out']}: {summary['clips']} clips of {summary['speakers']} synthetic speakers",
        ["split", "clips"],
        rows,
        f"skipped {reasons}" if reasons else "none skipped",
    )
    console.result(dict(summary))
