"""`dheads turing-test --score`: what people answered, as the paper's table: the share of clips judged real."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dheads_cli import console
from dheads_cli.errors import DheadsError
from dheads_cli.run.page_parts import count
from dheads_cli.run.turing_test import KEY_ENDING, REAL

Z = 1.959964  # of a 95 % interval of the normal distribution
N_RESAMPLES = 2000  # of the bootstrap
# Diffused Heads (arXiv 2301.03396 v2): 140 people, 10 clips of each.
PAPER_PEOPLE = 140
PAPER = {"paper: PC-AVS": 0.3495, "paper: Diffused Heads": 0.6872, "paper: real clips": 0.6400}


@dataclass(frozen=True)
class Person:
    """One person's answers: number of a clip -> whether it was judged real."""

    id: str
    judged_real: Mapping[str, bool]
    file: Path


def score_answers(answers: Sequence[Path], key: Path | None = None) -> dict[str, Any]:
    """Print how many of each method's clips were judged real.

    Args:
        answers: files that people saved from the page, one a person.
        key: the page's key; None looks for it in the working directory, beside the answers, and a folder above.

    Returns:
        Method -> share, intervals and counts; also printed under --json.
    """
    if not answers:
        raise DheadsError("no answers: name the files that people saved, such as answers/*.json.")
    contents = [_read_json(path) for path in answers]
    key = find_key(answers, contents) if key is None else key
    truth = read_key(key)
    people = checked(answers, contents, truth)
    report = {
        "page": truth["page"],
        "key": str(key),
        "people": len(people),
        "complete": sum(len(person.judged_real) == len(truth["clips"]) for person in people),
        "methods": shares(people, {label: clip["method"] for label, clip in truth["clips"].items()}),
    }
    _show(report)
    console.result(report)
    return report


def find_key(answers: Sequence[Path], contents: Sequence[Any]) -> Path:
    """The key of the page that the first answers are from.

    Raises:
        DheadsError: it is in none of the places that are looked at.
    """
    page = contents[0].get("page") if isinstance(contents[0], dict) else None
    folders = dict.fromkeys(folder for path in answers for folder in (Path(), path.parent, path.parent / ".."))
    keys = [key for folder in folders for key in sorted(folder.glob(f"*{KEY_ENDING}"))]
    for key in keys:
        found = _read_json(key)
        if isinstance(found, dict) and found.get("page") == page:
            console.info(f"the key is {key}")
            return key
    raise DheadsError(
        f"{answers[0]} is of page {page}, whose key is not here (looked at {', '.join(map(str, keys)) or 'none'}): "
        "name it, --key FILE."
    )


def read_key(path: Path) -> dict[str, Any]:
    """A key as `dheads turing-test` wrote it.

    Raises:
        DheadsError: it can't be read, or is no key.
    """
    key = _read_json(path)
    try:
        whole = isinstance(key["page"], str) and all(isinstance(c["method"], str) for c in key["clips"].values())
    except (KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise DheadsError(f"{path} is no key of a Turing test: name the {KEY_ENDING[1:]} that was made with the page.")
    return dict(key)


def checked(files: Sequence[Path], contents: Sequence[Any], truth: Mapping[str, Any]) -> list[Person]:
    """Everybody's answers.

    Raises:
        DheadsError: some files are no answers, are of another page, or are of one person (all of them are told).
    """
    people: list[Person] = []
    wrong = []
    for path, content in zip(files, contents, strict=True):
        problem = _problem(content, truth)
        if problem:
            wrong.append(f"{path}: {problem}")
            continue
        said = {answer["clip"]: answer["real"] for answer in content["answers"]}
        twice = next((person.file for person in people if person.id == content["person"]), None)
        if twice:
            wrong.append(f"{path}: is of the same person as {twice}: keep one of them")
        people.append(Person(content["person"], said, path))
    if wrong:
        raise DheadsError("\n".join(wrong))
    return people


def _problem(content: Any, truth: Mapping[str, Any]) -> str:
    """What is wrong with a file of answers, or ""."""
    if not isinstance(content, dict) or not isinstance(content.get("answers"), list):
        return "no file of answers: it is what the page's last button saves"
    if content.get("page") != truth["page"]:
        return f"of page {content.get('page')}, but the key is of page {truth['page']}"
    if not isinstance(content.get("person"), str) or not content["answers"]:
        return "holds no person's number, or no answer"
    seen = set()
    for answer in content["answers"]:
        if not isinstance(answer, dict) or type(answer.get("real")) is not bool:
            return "holds an answer that is neither real nor not real"
        if answer.get("clip") not in truth["clips"]:
            return f"answers clip {answer.get('clip')!r}, which the page has not"
        if answer["clip"] in seen:
            return f"answers clip {answer['clip']} twice"
        seen.add(answer["clip"])
    return ""


def shares(people: Sequence[Person], method_of: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """For each method, the real clips last, the share of answers that say "real", with two 95 % intervals.

    wilson: as if all answers were independent. over_people: people drawn anew; None for a single person.
    """
    names = sorted(set(method_of.values()) - {REAL}) + [REAL] * (REAL in method_of.values())
    found = {}
    for name in names:
        counts = np.array([_counts(person, name, method_of) for person in people])  # [people, (real, answers)]
        real, n = (int(total) for total in counts.sum(axis=0))
        found[name] = {
            "judged_real": real / n if n else None,
            "n_real": real,
            "n_answers": n,
            "people": int((counts[:, 1] > 0).sum()),
            "wilson": wilson(real, n) if n else None,
            "over_people": over_people(counts),
        }
    return found


def _counts(person: Person, name: str, method_of: Mapping[str, str]) -> tuple[int, int]:
    said = [real for label, real in person.judged_real.items() if method_of[label] == name]
    return sum(said), len(said)


def wilson(n_yes: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval (1927) of a share n_yes / n."""
    share = n_yes / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def over_people(counts: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[float, float] | None:
    """95 % percentile bootstrap of a share over people: int [people, (yes, answers)]; None for fewer than two."""
    answered = counts[counts[:, 1] > 0]
    if len(answered) < 2:
        return None
    drawn = np.random.default_rng(0).integers(0, len(answered), (N_RESAMPLES, len(answered)))
    totals = answered[drawn].sum(axis=1)
    low, high = np.percentile(totals[:, 0] / totals[:, 1], [2.5, 97.5])
    return float(low), float(high)


def _show(report: Mapping[str, Any]) -> None:
    rows = [
        [name, _percent(told["judged_real"]), _interval(told["wilson"]), _interval(told["over_people"]),
         str(told["n_answers"]), str(told["people"])]
        for name, told in report["methods"].items()
    ]  # fmt: skip
    rows += [[name, _percent(share), "-", "-", "-", str(PAPER_PEOPLE)] for name, share in PAPER.items()]
    columns = ["", "judged real", "95 % of answers", "95 % over people", "answers", "people"]
    partly = report["people"] - report["complete"]
    said = (
        f"Page {report['page']}, {count(report['people'], 'file')} of answers, {partly} of them incomplete. "
        f"Of answers: Wilson's, as if all were independent. Over people: {N_RESAMPLES} bootstrap draws of them; "
        "of few people it is too narrow."
    )
    console.table("Judged real", columns, rows, footer=said)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}".replace("%", " %")


def _interval(ends: Iterable[float] | None) -> str:
    return "-" if ends is None else " .. ".join(f"{end:.1%}".replace("%", " %") for end in ends)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DheadsError(f"{path} can't be read as JSON: {error}") from error
