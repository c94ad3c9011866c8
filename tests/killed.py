"""Work in a process that is killed at a chosen operation on its files: what is left is what the next one finds."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

OPERATIONS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir")


def be_killed_after(folder: Path, n_operations: int, but_not: str | None = None) -> None:
    """Be killed before the n-th time from now that a file in a folder is opened, made, renamed or removed.

    Args:
        folder: where operations count.
        n_operations: how many are let through.
        but_not: paths with this in them do not count.
    """
    left = n_operations

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        if event not in OPERATIONS or str(folder) not in (place := str(arguments[0])):
            return
        if but_not is None or but_not not in place:
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)


def killed_at(folder: Path, n_operations: int, work: Callable[[], object], but_not: str | None = None) -> bool:
    """Work in a process that is killed after so many operations; whether there were as many."""
    if (child := os.fork()) == 0:
        be_killed_after(folder, n_operations, but_not)
        work()
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0
