"""The jobs of `dheads animate --batch`: a CSV file, of which every row is checked before the first frame is drawn."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dheads_cli import console
from dheads_cli.data import outputs
from dheads_cli.data.provenance import Provenance, read_provenance
from dheads_cli.errors import DheadsError
from dheads_cli.run.recording import STDIN

NEEDED, OPTIONAL = ("face", "speech", "out"), ("seed", "face_index")
MAX_SEED = 2**32 - 1
MAX_SHOWN = 20  # problems that an error lists


@dataclass(frozen=True)
class Job:
    """A row of the file; paths are as they are used, from the CSV's folder where they are relative.

    Attributes:
        line: of the file, from 1.
        face: photo or film.
        speech: recording.
        out: the video's place.
        seed: of the random draws; None is the command's.
        face_index: which face, 1 being the largest; None is the largest.
    """

    line: int
    face: Path
    speech: Path
    out: str
    seed: int | None = None
    face_index: int | None = None


class Problems:
    """What is wrong with the rows of a file, said all at once."""

    def __init__(self, path: Path) -> None:
        self.path, self._found = path, list[tuple[int, str]]()

    def add(self, line: int, text: str) -> None:
        """One more."""
        self._found.append((line, text))

    @property
    def lines(self) -> set[int]:
        """Lines with something wrong."""
        return {line for line, _ in self._found}

    def told(self) -> None:
        """End here where there are any.

        Raises:
            DheadsError: there are; it lists them by line.
        """
        if self._found:
            lines = [f"line {line}: {text}" for line, text in sorted(self._found)]
            shown, n = lines[:MAX_SHOWN], len(self.lines)
            more = [f"... and {len(lines) - MAX_SHOWN} more"] if len(lines) > MAX_SHOWN else []
            count = "one row" if n == 1 else f"{n} rows"
            raise DheadsError("\n  ".join([f"{self.path}: {count} can't be used, so nothing is drawn:", *shown, *more]))


def read_jobs(path: Path) -> list[Job]:
    """Read a CSV file with the header face,speech,out and, where wanted, seed and face_index.

    Raises:
        DheadsError: there is no such file, its header is another, or what is wrong with its rows, all of them.
    """
    if not path.is_file():
        raise DheadsError(f"{path}: no such file of jobs.")
    problems, jobs = Problems(path), list[Job]()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip() for name in next(reader, [])]
            check_header(path, header)
            for row in reader:
                if any(cell.strip() for cell in row):
                    try:
                        jobs.append(_job(path, reader.line_num, header, row))
                    except DheadsError as error:
                        problems.add(reader.line_num, str(error))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DheadsError(f"{path}: is no CSV in UTF-8 ({error}); spreadsheets save one as 'CSV UTF-8'.") from error
    problems.told()
    if not jobs:
        raise DheadsError(f"{path}: no jobs in it; its lines are face,speech,out.")
    return jobs


def check_header(path: Path, header: list[str]) -> None:
    """Refuse a header without the columns that are needed, or with others than are known.

    Raises:
        DheadsError: what is wrong with it.
    """
    if missing := [name for name in NEEDED if name not in header]:
        raise DheadsError(
            f"{path}:1: no column {', '.join(missing)}; the first line must be face,speech,out, and is "
            f"{','.join(header)[:60]!r}."
        )
    if other := [name for name in header if name not in NEEDED + OPTIONAL]:
        raise DheadsError(f"{path}:1: column {other[0]!r} is not known; take {', '.join(NEEDED + OPTIONAL)}.")
    if len(set(header)) < len(header):
        raise DheadsError(f"{path}:1: a column is there twice.")


def _job(path: Path, line: int, header: list[str], row: list[str]) -> Job:
    if len(row) != len(header):
        raise DheadsError(f"{len(row)} values for {len(header)} columns; a comma inside a value needs quotes around it")
    if "\0" in "".join(row):
        raise DheadsError("holds a character NUL, which no file's name has")
    cells = {name: cell.strip() for name, cell in zip(header, row, strict=True)}
    if empty := [name for name in NEEDED if not cells[name]]:
        raise DheadsError(f"no {', '.join(empty)}")
    if STDIN in (cells["speech"], cells["out"]):
        raise DheadsError("standard input and output are for a single video; name files")
    slash = "/" if cells["out"].endswith("/") else ""
    return Job(
        line,
        path.parent / cells["face"],
        path.parent / cells["speech"],
        f"{path.parent / cells['out']}{slash}",
        _number(cells, "seed", 0, MAX_SEED),
        _number(cells, "face_index", 1, MAX_SEED),
    )


def _number(cells: dict[str, str], name: str, least: int, most: int) -> int | None:
    text = cells.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or len(text) > len(str(most)) or not least <= int(text) <= most:
        raise DheadsError(f"{name} {text[:20]!r} is no whole number from {least} to {most}")
    return int(text)


def check_places(jobs: Sequence[Job], problems: Problems, *, overwrite: bool) -> None:
    """Note the jobs whose video can't be written, and those whose place is another's too."""
    stale = problems.lines  # it is said already why what is there stays
    taken: dict[Path, int] = {}
    for job in jobs:
        place = Path(job.out).resolve()
        if place in taken:
            problems.add(job.line, f"{job.out} is the video of line {taken[place]} too")
        taken.setdefault(place, job.line)
        try:
            outputs.check_output(job.out, overwrite=overwrite or job.line in stale)
        except DheadsError as error:
            problems.add(job.line, str(error))


def lines_done(
    jobs: Sequence[Job], made: Callable[[Job], Provenance], problems: Problems, *, overwrite: bool
) -> set[int]:
    """The lines of jobs whose video is there, made from what it would be made from now.

    One that was made otherwise is noted as a problem, or, with `overwrite`, made anew, which is said.

    Args:
        jobs: all of them.
        made: what a job's video would say of itself; an OSError where a file can't be read.
        problems: takes what is wrong.
        overwrite: whether a video may be replaced.
    """
    done = set()
    for job in jobs:
        if not outputs.is_whole(job.out):
            continue
        try:
            why = otherwise(job.out, made(job))
        except OSError:  # said where the face and the recording are read
            continue
        if not why:
            done.add(job.line)
        elif overwrite:
            console.info(f"{job.out} {why}, and is made anew")
        else:
            problems.add(job.line, f"{job.out} {why}; --overwrite makes it anew, or name another file")
    return done


def otherwise(out: str, made: Provenance) -> str:
    """How a video that is there was made otherwise than it would be now; empty where it was not."""
    try:
        there = read_provenance(Path(out))
    except DheadsError:
        there = None
    if there is None:
        return "does not say that dheads made it"
    if not there.inputs:
        return "does not say what it was made from"
    names = ["other settings" if name == "settings" else f"another {name}" for name in made.differences(there)]
    return f"was made with {' and '.join(names)}" if names else ""
