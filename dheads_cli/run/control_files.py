"""What `--blinks` and `--head` name: a word, a rate, or a file with a line of values for each frame."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dheads_cli.errors import DheadsError
from dheads_cli.recipe import MAX_BLINK_RATE, MAX_OPENNESS, MAX_TURN, Blinks, Head

HEADERS = (["openness"], ["left", "right"], ["yaw", "pitch", "roll"])


@dataclass(frozen=True)
class ChosenControls:
    """What the command line asks for in place of the recipe's `sample.blinks` and `sample.head`; None is the recipe's.

    Attributes:
        blinks: words, rate, or openness of both eyes in each frame.
        head: words, or yaw, pitch and roll in each frame.
    """

    blinks: Blinks | None = None
    head: Head | None = None

    @classmethod
    def of(cls, blinks: str | None, head: str | None) -> ChosenControls:
        """Read what the options say.

        Raises:
            DheadsError: one can't be used; it names file and line.
        """
        return cls(None if blinks is None else blinks_of(blinks), None if head is None else head_of(head))


def blinks_of(text: str) -> Blinks:
    """What `--blinks` asks for.

    Raises:
        DheadsError: neither a word, a rate nor a file, or what is wrong with that.
    """
    words: dict[str, Blinks] = {"natural": "natural", "none": "none"}
    if text in words:
        return words[text]
    try:
        rate = float(text)
    except ValueError:
        rows = read_values(text, (1, 2), 0, MAX_OPENNESS, "--blinks takes natural, none, blinks a second, or a file")
        return [[row[0], row[-1]] for row in rows]
    if not 0 <= rate <= MAX_BLINK_RATE:
        raise DheadsError(f"--blinks {text}: blinks a second must lie in 0 to {MAX_BLINK_RATE:g}")
    return rate


def head_of(text: str) -> Head:
    """What `--head` asks for.

    Raises:
        DheadsError: neither a word nor a file, or what is wrong with that.
    """
    words: dict[str, Head] = {"still": "still", "natural": "natural"}
    if text in words:
        return words[text]
    return read_values(text, (3,), -MAX_TURN, MAX_TURN, "--head takes still, natural, or a file")


def read_values(name: str, n_columns: Sequence[int], least: float, most: float, wanted: str) -> list[list[float]]:
    """The numbers of a text file, a row for each frame, with commas, semicolons or blanks between them.

    A first line of column names, empty lines, and lines that begin with # are left out.

    Args:
        name: of the file.
        n_columns: how many numbers a row may have; all have as many.
        least, most: range of the numbers.
        wanted: what to say where there is no such file.

    Raises:
        DheadsError: no such file, no rows, or the first line that is wrong.
    """
    path = Path(name)
    if not path.is_file():
        raise DheadsError(f"{name}: no such file; {wanted}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DheadsError(f"{name}: is no text in UTF-8 that can be read ({error})") from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in re.split("[,;]", line)] if re.search("[,;]", line) else line.split()
        if not any(cells) or cells[0].startswith("#") or (not rows and [cell.lower() for cell in cells] in HEADERS):
            continue
        columns = [len(rows[0])] if rows else n_columns
        if len(cells) not in columns:
            told = " or ".join(map(str, columns))
            raise DheadsError(f"{name}:{number}: has {len(cells)} values, but a line takes {told}")
        rows.append([_number(cell, least, most, f"{name}:{number}") for cell in cells])
    if not rows:
        raise DheadsError(f"{name}: has no values; it takes a line for each frame")
    return rows


def _number(text: str, least: float, most: float, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise DheadsError(f"{where}: {text[:20]!r} is no number from {least:g} to {most:g}")
    return value
