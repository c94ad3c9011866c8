"""Work in processes: in order, and only the culprit of a crash is lost."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from dheads_cli.errors import UnusableClip
from dheads_cli.run import clip_pool
from dheads_cli.run.clip_pool import AHEAD, process_all


def double(number: int) -> int:
    """Twice the number, but 1 kills its process and 6 never ends."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 6:
        ctypes.CDLL(None).sleep(3600)
    time.sleep(0.01 * (number % 3))
    return 2 * number


def shown(outcomes: Iterable[int | UnusableClip]) -> list[int | str]:
    return [str(outcome) if isinstance(outcome, UnusableClip) else outcome for outcome in outcomes]


CRASHED = "crashed: the process that worked on it was killed"


def test_outcomes_keep_the_order_of_the_items() -> None:
    assert shown(process_all(double, [3, 0, 4, 9, 2], 2, timeout_s=60)) == [6, 0, 8, 18, 4]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_killed_process_loses_its_own_item_only(n_workers: int) -> None:
    outcomes = shown(process_all(double, range(5), n_workers, timeout_s=60))
    assert outcomes == [CRASHED if number == 1 else 2 * number for number in range(5)]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_a_hanging_process_loses_its_own_item_only(n_workers: int) -> None:
    outcomes = shown(process_all(double, range(4, 9), n_workers, timeout_s=1.5))
    assert outcomes == ["hung: not done after 1.5 s" if number == 6 else 2 * number for number in range(4, 9)]


def leave(number: int) -> int:
    """The number, but 1 ends its process as if all were well."""
    if number == 1:
        os._exit(0)
    return number


def test_a_process_that_ends_itself_loses_its_own_item_at_once() -> None:
    begun = time.monotonic()
    assert shown(process_all(leave, range(3), 1, timeout_s=60)) == [0, CRASHED, 2]
    assert time.monotonic() - begun < 60


def test_a_process_that_has_worked_enough_makes_place_for_a_fresh_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_pool, "CLIPS_A_PROCESS", 2)
    assert len(set(process_all(process_of, range(5), 1, timeout_s=60))) == 3


def process_of(_: int) -> int:
    return os.getpid()


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("to", ["os.kill", "os.killpg"], ids=["one", "all, as a terminal does"])
def test_ctrl_c_while_processes_start_ends_all_of_them_without_a_word(to: str, tmp_path: Path) -> None:
    code = (
        "import os, signal; from test_clip_pool import process_all, slow; from threading import Timer;"
        f"Timer(0.3, {to}, (os.getpid(), signal.SIGINT)).start(); list(process_all(slow, range(2), 2, 600))"
    )
    environment = {**os.environ, "PIDS": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    # The error stream is open as long as any of the processes is: run() would wait for the last of them.
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True, timeout=40, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGINT
    assert ended.stderr.count("Traceback") == 1, ended.stderr
    assert ended.stderr.endswith("KeyboardInterrupt\n")


class Late:
    """What begins a worker, which takes a while to arrive there, and keeps its end from it meanwhile."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return arrive_late, ()


def arrive_late() -> object:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(os.environ["PIDS"], str(os.getpid())).touch()
    time.sleep(1)
    return clip_pool._begin_worker


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_worker_that_is_half_started_when_the_pool_ends_says_nothing(tmp_path: Path) -> None:
    code = (
        "import os, time, test_clip_pool as test; test.clip_pool._begin_worker = test.Late()\n"
        "with test.clip_pool.ClipPool(str, 1, 60) as pool:\n"
        "    pool.submit(1)\n"
        "    while not os.listdir(os.environ['PIDS']): time.sleep(0.01)"
    )
    environment = {**os.environ, "PIDS": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_workers_are_born_deaf_to_ctrl_c() -> None:
    assert list(process_all(blocked, [0], 1, timeout_s=60)) == [{signal.SIGINT}]


def blocked(_: int) -> set[signal.Signals]:
    return {signal.Signals(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


def once(folder: Path) -> str:
    """Kill the process the first time, as a want of memory does."""
    try:
        (folder / "begun").mkdir()
    except FileExistsError:
        return "done"
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def test_an_item_that_lost_its_process_once_is_tried_again(tmp_path: Path) -> None:
    assert list(process_all(once, [tmp_path], 1, timeout_s=60)) == ["done"]


class Poison:
    """An item that ends whoever takes it out of the pipe."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return os.abort, ()


def test_workers_that_end_before_they_work_are_an_error() -> None:
    with pytest.raises(BrokenProcessPool, match="before they had worked"):
        list(process_all(str, [Poison()], 1, timeout_s=60))


def half_said(place: tuple[int, Path]) -> int:
    """The number, but the first time 1 ends its process in the middle of saying so."""
    number, folder = place
    if number == 1 and not (folder / "said").exists():
        (folder / "said").touch()

        def say_half(self: Connection, message: bytes, *_: object) -> None:
            os.write(self.fileno(), message[: len(message) // 2])
            os.kill(os.getpid(), signal.SIGKILL)

        Connection._send = say_half  # type: ignore[method-assign, assignment, attr-defined]
    return number


def test_half_an_outcome_does_not_hold_up_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_pool, "START_S", 3.0)
    assert list(process_all(half_said, [(number, tmp_path) for number in range(4)], 2, timeout_s=2)) == [0, 1, 2, 3]


def test_items_are_taken_a_few_ahead() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(10, 100):
            taken.append(number)
            yield number

    outcomes = process_all(double, items(), 2, timeout_s=60)
    next(outcomes)
    assert len(taken) == 2 * AHEAD
    next(outcomes)
    assert len(taken) == 2 * AHEAD + 1
    outcomes.close()


def slow(number: int) -> int:
    """Say who works, then take long."""
    Path(os.environ["PIDS"], str(os.getpid())).touch()
    time.sleep(60)
    return number


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    code = "from test_clip_pool import process_all, slow; list(process_all(slow, range(2), 2, 600))"
    environment = {**os.environ, "PIDS": str(tmp_path), "PYTHONPATH": str(Path(__file__).parent)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    until = time.monotonic() + 60
    while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    workers = [int(path.name) for path in tmp_path.iterdir()]
    parent.kill()
    parent.wait()
    assert len(workers) == 2
    while any(alive(worker) for worker in workers) and time.monotonic() < until:
        time.sleep(0.1)
    assert not any(alive(worker) for worker in workers)


def alive(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    try:
        return status.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
