"""Which clips are looked into, and what their descriptions say: text, words, frame rate, measures."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dheads_cli import console
from dheads_cli.data.manifest import ManifestRow
from dheads_cli.data.shards import members_in
from dheads_cli.errors import DheadsError
from dheads_cli.run.data_stats.manifest import N_EXAMPLES, Columns, numbers_in

MAX_DESCRIPTIONS = 20_000  # clips whose json is read; more are represented by a seeded choice
N_WORDS = 40  # most frequent words that are told


@dataclass
class Descriptions:
    """What the json members of some clips say.

    Attributes:
        n_read: clips whose json was read.
        n_stored: clips there are.
        unreadable: clip id -> why its json can't be read.
        fps, sample_rate: value -> clips.
        n_text, n_words: clips whose text is known, and whose words are known with their times.
        vocabulary: word -> how often it is said.
        texts: text -> splits in which it is said.
        quality: measure -> {row of the manifest: value}.
    """

    n_stored: int
    n_read: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    fps: Counter[float] = field(default_factory=Counter)
    sample_rate: Counter[int] = field(default_factory=Counter)
    n_text: int = 0
    n_words: int = 0
    vocabulary: Counter[str] = field(default_factory=Counter)
    texts: dict[str, set[str]] = field(default_factory=dict)
    quality: dict[str, dict[int, float]] = field(default_factory=dict)


def choose_spread(columns: Columns, limit: int, seed: int) -> NDArray[np.int64]:
    """Rows of at most `limit` stored clips, one of each speaker in each split in turn; each group in random order."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(np.flatnonzero(columns.ok))
    n_speakers = len(columns.names["speaker"])
    group = columns.codes["split"][rows] * np.int64(n_speakers) + columns.codes["speaker"][rows]
    order = np.argsort(group, kind="stable")
    _, begin, counts = np.unique(group[order], return_index=True, return_counts=True)
    turn = np.empty(len(rows), np.int64)
    turn[order] = np.arange(len(rows)) - np.repeat(begin, counts)
    return rows[np.argsort(turn, kind="stable")[:limit]]


def read_descriptions(columns: Columns, folder: Path, seed: int) -> Descriptions:
    """Read the json of every stored clip, or of a seeded choice of MAX_DESCRIPTIONS."""
    stored = np.flatnonzero(columns.ok)
    found = Descriptions(len(stored))
    if len(stored) > MAX_DESCRIPTIONS:
        stored = np.sort(np.random.default_rng(seed).choice(stored, MAX_DESCRIPTIONS, replace=False))
    with console.progress("descriptions", total=len(stored), unit="clips") as bar:
        for number, index in enumerate(stored.tolist(), start=1):
            row = columns.row(index)
            try:
                _add(found, index, row, _description(folder, row))
            except (DheadsError, ValueError, TypeError, KeyError, AttributeError) as error:
                why = str(error) if isinstance(error, DheadsError) else f"its json is damaged: {error}"
                found.unreadable[row.id] = why
            if number % 100 == 0 or number == len(stored):
                bar.advance(number % 100 or 100)
    return found


def _description(folder: Path, row: ManifestRow) -> dict[str, Any]:
    described: dict[str, Any] = json.loads(members_in(folder / row.shard, row, ("json",))["json"])
    return described


def _add(found: Descriptions, index: int, row: ManifestRow, info: dict[str, Any]) -> None:
    fps, sample_rate = float(info["fps"]), int(info["sample_rate"])
    text, words = info.get("text"), info.get("words")
    found.fps[fps] += 1
    found.sample_rate[sample_rate] += 1
    found.n_read += 1
    found.n_words += bool(words)
    if text:
        found.n_text += 1
        found.vocabulary.update(text.split())
        found.texts.setdefault(text, set()).add(row.split)
    for measure, value in numbers_in(info.get("quality") or {}).items():
        found.quality.setdefault(measure, {})[index] = value


def complete_quality(columns: Columns, found: Descriptions) -> dict[str, NDArray[np.float64]]:
    """Every measure [R]: from the manifest, and from the descriptions where an older manifest has none."""
    measures = {name: values.copy() for name, values in columns.quality.items()}
    for name, by_row in found.quality.items():
        values = measures.setdefault(name, np.full(len(columns.ok), np.nan))
        rows = np.array(sorted(by_row), np.int64)
        rows = rows[np.isnan(values[rows])]
        values[rows] = [by_row[int(row)] for row in rows]
    return dict(sorted(measures.items()))


def text_numbers(found: Descriptions) -> dict[str, Any]:
    """How much is known of what is said, and which words."""
    most = sorted(found.vocabulary.items(), key=lambda item: (-item[1], item[0]))[:N_WORDS]
    return {
        "clips_read": found.n_read,
        "clips": found.n_stored,
        "with_text": found.n_text,
        "with_word_times": found.n_words,
        "words": found.vocabulary.total(),
        "vocabulary": len(found.vocabulary),
        "texts": len(found.texts),
        "most_frequent": dict(most),
    }


def texts_in_two_splits(found: Descriptions, splits: Sequence[str]) -> dict[str, dict[str, Any]]:
    """ "split & split" -> number of texts that both have, and a few of them; pairs without any are left out."""
    shared = {}
    for pair in itertools.combinations(sorted(splits), 2):
        texts = sorted(text for text, where in found.texts.items() if where.issuperset(pair))
        if texts:
            shared[" & ".join(pair)] = {"count": len(texts), "examples": texts[:N_EXAMPLES]}
    return shared
