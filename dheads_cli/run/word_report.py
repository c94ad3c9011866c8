"""How many held-out words a recogniser gets right: words.json in its run folder, and a table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dheads_cli import console
from dheads_cli.data.corpora.grid import WORDS as GRID_WORDS
from dheads_cli.files import write_atomically

REPORT = "words.json"
GRID_PLACES = ("command", "colour", "preposition", "letter", "digit", "adverb")  # of a sentence, in its order
N_CONFUSIONS = 5  # that the table's footer names


def make_report(
    step: int, vocabulary: Sequence[str], labels: Mapping[str, Sequence[int]], taken_for: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """Count what was right.

    Args:
        step: of the training, when the words were heard.
        vocabulary: the words.
        labels: by split, the place of each word in the vocabulary.
        taken_for: what each was taken for.

    Returns:
        {"step", "n_classes", "splits": {split: {"n", "accuracy", "groups", "words"}}}. "groups" has the accuracy of
        each place of GRID's sentences, and is empty for other vocabularies; "words" has, for each word of the split,
        {"n", "accuracy", "taken_for"}, the last being {other word: how often}.
    """
    places = {word: group_of(word) for word in vocabulary}
    if "" in places.values():
        places = {}
    splits = {}
    for split, right in labels.items():
        heard = [(vocabulary[i], vocabulary[j]) for i, j in zip(right, taken_for[split], strict=True)]
        splits[split] = of_split(heard, places)
    return {"step": step, "n_classes": len(vocabulary), "splits": splits}


def of_split(heard: Sequence[tuple[str, str]], places: Mapping[str, str]) -> dict[str, Any]:
    """One split's numbers, from each (word, what it was taken for) and the places of words in GRID's sentences."""
    by_group = {place: [pair for pair in heard if places.get(pair[0]) == place] for place in GRID_PLACES}
    by_word = {word: [pair for pair in heard if pair[0] == word] for word in sorted({word for word, _ in heard})}
    return {
        "n": len(heard),
        "accuracy": share_right(heard),
        "groups": {place: share_right(pairs) for place, pairs in by_group.items() if pairs},
        "words": {word: of_word(pairs) for word, pairs in by_word.items()},
    }


def share_right(heard: Sequence[tuple[str, str]]) -> float:
    """The share of (word, what it was taken for) that are the same."""
    return sum(word == other for word, other in heard) / len(heard)


def of_word(heard: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """One word's numbers."""
    others = Counter(other for word, other in heard if other != word)
    return {"n": len(heard), "accuracy": share_right(heard), "taken_for": dict(others.most_common())}


def group_of(word: str) -> str:
    """The place of GRID's sentences that a word stands in; "" for a word that is none of GRID's."""
    for place, words in zip(GRID_PLACES, GRID_WORDS, strict=True):
        if word in words.values():
            return place
    return "letter" if len(word) == 1 else ""


def write(run_dir: Path, report: Mapping[str, Any]) -> None:
    """Write the report into the run folder."""
    write_atomically(run_dir / REPORT, json.dumps(report, indent=1) + "\n")


def show(run_dir: Path, report: Mapping[str, Any]) -> None:
    """The report for people: accuracy by split and by place in the sentence, and what is confused most."""
    splits = report["splits"]
    groups = [group for group in GRID_PLACES if any(group in each["groups"] for each in splits.values())]
    rows = []
    for split, each in splits.items():
        shares = [each["accuracy"], *(each["groups"].get(group) for group in groups)]
        rows.append([split, str(each["n"]), *("" if share is None else f"{100 * share:.1f} %" for share in shares)])
    title = f"{report['n_classes']} words, chance {100 / report['n_classes']:.2g} %, step {report['step']}"
    console.table(title, ["split", "words", "right", *groups], rows, f"{run_dir / REPORT} has every word.")
    confused: Counter[tuple[str, str]] = Counter()
    for each in splits.values():
        for word, numbers in each["words"].items():
            confused.update({(word, other): count for other, count in numbers["taken_for"].items()})
    if confused:
        pairs = ", ".join(f"{word} for {other} {n}" for (word, other), n in confused.most_common(N_CONFUSIONS))
        console.info(f"taken most often (word for what it was heard as, times): {pairs}")
