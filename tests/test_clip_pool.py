"""Work in processes: in order, and only the culprit of a crash is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dheads_cli.run.clip_pool import process_all


def double(number: int) -> int:
    """Twice the number, but 1 kills its process."""
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.01 * (number % 3))
    return 2 * number


def test_outcomes_keep_the_order_of_the_items() -> None:
    assert list(process_all(double, [3, 0, 4, 9, 2], 1, died=-1)) == [6, 0, 8, 18, 4]


def test_a_killed_process_loses_its_own_item_only() -> None:
    outcomes = list(process_all(double, range(5), 2, died=-1))
    assert outcomes == [-1 if number == 1 else 2 * number for number in range(5)]


def slow(number: int) -> int:
    """Say who works, then take long."""
    Path(os.environ["PIDS"], str(os.getpid())).touch()
    time.sleep(60)
    return number


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs /proc")
def test_workers_end_with_their_parent(tmp_path: Path) -> None:
    code = "from test_clip_pool import process_all, slow; list(process_all(slow, range(2), 2, died=0))"
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
