import io
import json
import os
import sys
from collections.abc import Iterator

import pytest

from dheads_cli import console


@pytest.fixture(autouse=True)
def _usual_settings() -> Iterator[None]:
    yield
    console.configure()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_lines_go_to_stderr_and_quiet_leaves_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    console.info("going [on]")
    console.configure(quiet=True)
    console.info("not shown")
    console.warn("careful")
    console.error("no")
    assert capsys.readouterr() == ("", "going [on]\nwarning: careful\nerror: no\n")


def test_aside_there_are_no_tables_and_results(capsys: pytest.CaptureFixture[str]) -> None:
    for json_wanted in (False, True):
        console.configure(json=json_wanted)
        with console.aside():
            console.table("Scores", ["a"], [["1"]])
            console.text("text")
            console.result({"a": 1})
            console.info("going")
        assert capsys.readouterr() == ("", "going\n")
    console.result({"a": 2})
    assert json.loads(capsys.readouterr().out) == {"a": 2}


def test_tables_go_to_stdout_whole(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("Scores [x]", ["metric [px]", "a"], [["x" * 300, "1.5"], ["y", "-"]], footer="n = [2]")
    out = capsys.readouterr().out
    assert out.startswith("Scores [x]\n")
    assert "x" * 300 in out
    assert out.endswith("n = [2]\n")
    numbers = [line.rstrip() for line in out.splitlines() if line.rstrip().endswith(("1.5", "-"))]
    assert len({len(line) for line in numbers}) == 1  # set to the right


def test_json_is_all_of_stdout_and_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(json=True)
    console.table("t", ["a"], [["1"]])
    console.text("text")
    console.result({"r": float("nan"), "rows": [(1, float("inf"))]})
    assert json.loads(capsys.readouterr().out) == {"r": None, "rows": [[1, None]]}


def test_without_json_there_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    console.result({"a": 1})
    console.text("shown")
    assert capsys.readouterr().out == "shown\n"


def test_progress_is_lines_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "PLAIN_EVERY_S", 0.0)
    with console.progress("train", total=4, unit="steps", done=2) as bar:
        bar.advance()
        bar.note("loss 0.1")
        bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("train: 3/4 steps, ")
    assert "steps/s, " in lines[0]
    assert lines[0].endswith(" left")
    assert lines[-1].startswith("train: 4/4 steps, loss 0.1, done in ")


def test_progress_lines_are_rare(capsys: pytest.CaptureFixture[str]) -> None:
    with console.progress("count", unit="clips") as bar:
        for _ in range(1000):
            bar.advance()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_progress_that_fails_is_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with console.progress("count", total=2):
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert "done" not in capsys.readouterr().err


def test_quiet_shows_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    console.configure(quiet=True)
    with console.progress("count", total=1) as bar:
        bar.advance()
        bar.note("x")
    assert capsys.readouterr() == ("", "")


def test_progress_on_a_terminal_is_a_bar_below_the_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(os.environ, "TERM", "xterm")
    with console.progress("sample", total=2, unit="clips") as bar:
        bar.advance(2)
        bar.note("[1 skipped]")
        console.info("a line")
    shown = terminal.getvalue()
    assert "a line\n" in shown
    assert "2/2" in shown
    assert "[1 skipped]" in shown


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (59.4, "59.4 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_duration(seconds: float, words: str) -> None:
    assert console.duration(seconds) == words
