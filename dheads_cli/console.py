"""What people and scripts see: lines and progress on stderr, tables and JSON on stdout.

Results go to stdout, everything that only accompanies the work goes to stderr, so a pipe gets results alone.
Rich is imported when something is first shown in its style.
"""

from __future__ import annotations

import json as json_module
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_EVERY_S = 10.0  # between progress lines where there is no terminal
PLAIN_FIRST_S = 2.0  # until the first one, which tells how long it will take


@dataclass
class Settings:
    quiet: bool = False
    json: bool = False
    aside: bool = False


settings = Settings()


def configure(quiet: bool = False, json: bool = False) -> None:
    """Choose for this process.

    Args:
        quiet: no progress and no `info` lines; warnings, tables and JSON stay.
        json: stdout carries the JSON of `result` and nothing else.
    """
    settings.quiet = quiet
    settings.json = json


@contextmanager
def aside() -> Iterator[None]:
    """Print no tables, texts and results inside this block: a command calls another for what it returns."""
    before, settings.aside = settings.aside, True
    try:
        yield
    finally:
        settings.aside = before


@cache
def _rich_on(stream: IO[str]) -> Console:
    from rich.console import Console

    # Only a terminal has a width to wrap at: a pipe or a file gets whole lines.
    return Console(file=stream, highlight=False, soft_wrap=True, width=None if stream.isatty() else 100_000)


def _line(text: str) -> None:
    # Through Rich on a terminal, because a live bar has to move out of the way.
    if sys.stderr.isatty():
        _rich_on(sys.stderr).print(text, markup=False)
    else:
        print(text, file=sys.stderr, flush=True)


def info(text: str) -> None:
    """Tell people what happens, on stderr; silent under --quiet."""
    if not settings.quiet:
        _line(text)


def warn(text: str) -> None:
    """Warn on stderr, also under --quiet."""
    _line(f"warning: {text}")


def error(text: str) -> None:
    """Say on stderr why the command ends."""
    _line(f"error: {text}")


def text(text: str) -> None:
    """Print text as it is on stdout, or nothing under --json."""
    if not (settings.json or settings.aside):
        print(text, end="" if text.endswith("\n") else "\n", flush=True)


def table(title: str, columns: list[str], rows: list[list[str]], footer: str = "") -> None:
    """Print a table on stdout, or nothing under --json.

    Columns of numbers are set to the right. Where stdout is no terminal, no cell is wrapped or cut.
    """
    if settings.json or settings.aside:
        return
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(_is_number(row[index]) for row in rows)
        drawn.add_column(_plain(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*(_plain(cell) for cell in row))
    console = _rich_on(sys.stdout)
    if title:
        console.print(title, style="bold", markup=False)
    console.print(drawn, soft_wrap=False)
    if footer:
        console.print(footer, markup=False)


def _plain(text: str) -> Any:
    from rich.text import Text

    return Text(text)


def _is_number(cell: str) -> bool:
    try:
        float(cell.split(" ")[0].rstrip("%"))
    except ValueError:
        return cell in ("", "-")
    return True


def result(obj: Any) -> None:
    """Print `obj` as JSON on stdout under --json, otherwise nothing. NaN and infinity become null."""
    if settings.json and not settings.aside:
        text = json_module.dumps(_strict_json(obj), indent=2, allow_nan=False, default=str)
        print(text, flush=True)


def _strict_json(obj: Any) -> Any:
    # JSON has no NaN: strict readers refuse Python's spelling of it.
    if isinstance(obj, float):
        return obj if math.isfinite(obj) else None
    if isinstance(obj, dict):
        return {str(key): _strict_json(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_strict_json(value) for value in obj]
    return obj


class Bar(Protocol):
    """Progress of one piece of long work."""

    def advance(self, n: float = 1) -> None:
        """`n` more units are done."""
        ...

    def note(self, text: str) -> None:
        """Show a short text beside the bar, such as "12 skipped"."""
        ...


@contextmanager
def progress(
    title: str, total: float | None = None, unit: str = "", done: int = 0, above: Any = None
) -> Iterator[Bar]:
    """Show progress with rate and time left on stderr: a live bar on a terminal, otherwise lines: after two seconds and
    every ten.

    Args:
        title: what is being done.
        total: units of work, or None where the number is not known.
        unit: what is counted, such as "clips".
        done: units done before, where work is resumed; they do not count for the rate.
        above: something that Rich can show above the bar, where there is one.
    """
    if settings.quiet:
        yield _Silent()
    elif sys.stderr.isatty():
        yield from _live(title, total, unit, done, above)
    else:
        bar = _Lines(title, total, unit, done)
        yield bar
        bar.finish()


class _Silent:
    def advance(self, n: float = 1) -> None:
        pass

    def note(self, text: str) -> None:
        pass


class _Lines:
    """A plain line after PLAIN_FIRST_S seconds, then every PLAIN_EVERY_S at most, and one at the end."""

    def __init__(self, title: str, total: float | None, unit: str, done: int) -> None:
        self.title, self.total, self.unit = title, total, unit
        self.done, self.done_before, self.text = float(done), done, ""
        self.begun_s = time.monotonic()
        self.next_s = self.begun_s + min(PLAIN_FIRST_S, PLAIN_EVERY_S)

    def advance(self, n: float = 1) -> None:
        self.done += n
        if time.monotonic() >= self.next_s:
            self.show()

    def note(self, text: str) -> None:
        self.text = text

    def show(self) -> None:
        now = time.monotonic()
        self.next_s = now + PLAIN_EVERY_S
        rate = (self.done - self.done_before) / max(now - self.begun_s, 1e-9)
        left = f", {duration((self.total - self.done) / rate)} left" if self.total and rate > 0 else ""
        self._print(f"{rate:.3g} {self.unit or 'steps'}/s{left}")

    def finish(self) -> None:
        self._print(f"done in {duration(time.monotonic() - self.begun_s)}")

    def _print(self, ending: str) -> None:
        count = f"{self.done:g}" if self.total is None else f"{self.done:g}/{self.total:g}"
        words = [f"{count} {self.unit}".rstrip(), *([self.text] if self.text else []), ending]
        print(f"{self.title}: {', '.join(words)}", file=sys.stderr, flush=True)


def _live(title: str, total: float | None, unit: str, done: int, above: Any) -> Iterator[Bar]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            if not speed:
                return Text("")
            left = "" if task.time_remaining is None else f" {duration(task.time_remaining)} left"
            return Text(f"{speed:.3g} {unit or 'steps'}/s{left}")

    class Shown(Progress):
        def get_renderables(self) -> Iterator[Any]:
            yield from () if above is None else (above,)
            yield from super().get_renderables()

    name, note = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[note]}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), Rate(table_column=Column(no_wrap=True)), note)
    calls_a_second = 10 if above is None else 4
    with Shown(
        *columns, console=_rich_on(sys.stderr), speed_estimate_period=60, refresh_per_second=calls_a_second
    ) as shown:
        task = shown.add_task(title, total=total, completed=done, note="")

        class Live:
            def advance(self, n: float = 1) -> None:
                shown.advance(task, n)

            def note(self, text: str) -> None:
                shown.update(task, note=text)

        yield Live()


def duration(seconds: float) -> str:
    """Seconds in people's words: "8.2 s", "3 min 05 s", "2 h 07 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
