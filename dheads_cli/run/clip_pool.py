"""Work on clips in several processes, in order, and outlive any of them."""

from __future__ import annotations

import contextlib
import copy
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import cv2
from pebble import ProcessExpired, ProcessFuture, ProcessPool

from dheads_cli.errors import UnusableClip

AHEAD = 4  # items a worker that are under way or done before the one asked for
TRIES = 2  # a clip is given up when its process has died, or taken too long, this often
CLIPS_A_PROCESS = 2000  # then a fresh one takes its place, whatever memory a decoder may have lost
START_S = 60.0  # a worker's start, and the pool's own lag, at most
MAX_BROKEN = 3  # times in a row that workers end without having worked
ENDED_WELL = 77  # exit code of a worker that was told to end

CRASHED = ("crashed", "the process that worked on it was killed")  # reason and detail

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


@dataclass
class Job(Generic[Item, Outcome]):
    """An item, what will come of it, and how often its process was lost."""

    item: Item
    future: ProcessFuture[Outcome]
    n_lost: int = 0


class ClipPool(Generic[Item, Outcome]):
    """Worker processes whose outcomes come in the order of the items; a context manager.

    Args:
        work: called in the workers; picklable, as are items and outcomes.
        n_workers: processes.
        timeout_s: the process of an item that takes longer is ended.
    """

    def __init__(self, work: Callable[[Item], Outcome], n_workers: int, timeout_s: float) -> None:
        self._work, self._n_workers, self._timeout_s = work, n_workers, timeout_s
        self._jobs: deque[Job[Item, Outcome]] = deque()
        self._n_broken = 0
        self._pool = _processes(n_workers)

    def __len__(self) -> int:
        """Items whose outcomes have not been asked for."""
        return len(self._jobs)

    def submit(self, item: Item) -> None:
        """Queue an item."""
        self._jobs.append(Job(item, self._start(item)))

    def next(self) -> Outcome | UnusableClip:
        """The outcome of the first item whose outcome has not been asked for.

        Returns:
            What the work returned; that the item is "hung" when it took too long, "crashed" when its process was
            killed, by a crash of native code or for its memory, each so many times as TRIES says.
        """
        job = self._jobs[0]
        while True:
            error = self._error_of(job.future)
            if isinstance(error, BrokenProcessPool):
                self._begin_anew()
                continue
            self._n_broken = 0
            if not isinstance(error, ProcessExpired | TimeoutError):
                self._jobs.popleft()
                return job.future.result()
            job.n_lost += 1
            if job.n_lost == TRIES:
                self._jobs.popleft()
                if isinstance(error, TimeoutError):
                    return UnusableClip("hung", f"not done after {self._timeout_s:g} s")
                return UnusableClip(*CRASHED)
            # Once more, beside no other: memory may have been short, or the machine far too busy.
            wait([other.future for other in self._jobs], self._timeout_s + START_S)
            job.future = self._start(job.item)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self, item: Item) -> ProcessFuture[Outcome]:
        try:
            with _ctrl_c_later():  # the first one starts the processes
                return self._pool.schedule(self._work, args=(item,), timeout=self._timeout_s)
        except RuntimeError as error:  # pebble's, of a pool that has broken since
            future: ProcessFuture[Outcome] = ProcessFuture()
            future.set_exception(BrokenProcessPool(str(error)))
            return future

    def _error_of(self, future: ProcessFuture[Outcome]) -> BaseException | None:
        """Wait for a future: its exception; BrokenProcessPool, too, where the pool will never finish it.

        A worker killed while it hands over an outcome leaves half a message, which holds up the pool's own time limit.
        """
        until = time.monotonic() + self._timeout_s + START_S
        while time.monotonic() < until and self._pool.active:
            wait([future], timeout=1)
            if future.done():
                return future.exception()
        return BrokenProcessPool("the pool of worker processes does not answer")

    def _begin_anew(self) -> None:
        """Replace a broken pool; whatever is not finished is begun again."""
        self._n_broken += 1
        if self._n_broken > MAX_BROKEN:
            raise BrokenProcessPool(f"worker processes ended {self._n_broken} times before they had worked")
        self._end()
        self._pool = _processes(self._n_workers)
        for job in self._jobs:
            if not job.future.done() or isinstance(job.future.exception(), BrokenProcessPool):
                job.future = self._start(job.item)

    def _end(self) -> None:
        """End the workers, whatever they do."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()


def process_all(
    work: Callable[[Item], Outcome], items: Iterable[Item], n_workers: int, timeout_s: float
) -> Generator[Outcome | UnusableClip]:
    """Outcomes in the order of the items, a few of which are worked on ahead of the one asked for.

    Args:
        items: taken as needed, so there may be millions.
        work, n_workers, timeout_s: see ClipPool, whose `next` says what is yielded.
    """
    with ClipPool(work, n_workers, timeout_s) as pool:
        for item in items:
            pool.submit(item)
            if len(pool) >= AHEAD * n_workers:
                yield pool.next()
        while len(pool):
            yield pool.next()


def _processes(n_workers: int) -> ProcessPool:
    return ProcessPool(n_workers, CLIPS_A_PROCESS, _begin_worker, context=_context())


# How processes start: a fork after MediaPipe or torch have started threads may hang. On Linux from a process that has
# imported what clips need and has no threads; elsewhere from nothing, because macOS's own libraries do not stand forks.
STARTED_BY: Any = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")


class Worker(STARTED_BY.Process):  # type: ignore[misc]
    """A worker process that says when it has ended well: code 0 alone may be a component's own exit, amid its work."""

    def run(self) -> None:
        """Work until told to end."""
        super().run()
        sys.exit(ENDED_WELL)

    @property
    def exitcode(self) -> int | None:
        """0 where it ended well."""
        code: int | None = super().exitcode
        return {ENDED_WELL: 0, 0: 1}.get(code, code) if code is not None else None


def _context() -> BaseContext:
    # Pebble drops its locks, then ends its workers: one that was half started would look for them in vain.
    context, locks = copy.copy(STARTED_BY), []

    def lock_that_stays() -> Any:
        locks.append(STARTED_BY.RLock())
        return locks[-1]

    context.Process, context.RLock = Worker, lock_that_stays
    context.set_forkserver_preload(["__main__", "dheads_cli.run.preprocess_clip"])
    return context  # type: ignore[no-any-return]


@contextlib.contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Let Ctrl-C wait until this block ends: a process that is only half started would outlive it, and complain."""
    if threading.current_thread() is not threading.main_thread():  # Ctrl-C does not come here
        with _ctrl_c_blocked():
            yield
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        with _ctrl_c_blocked():
            yield
    finally:
        signal.signal(signal.SIGINT, before)
    if came and callable(before):
        before(came[0], None)


@contextlib.contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Block Ctrl-C in the processes that are started in this block, from their first instruction on.

    A terminal sends it to all of them. One that came before a process could ignore it would end in a traceback.
    """
    if sys.platform == "win32":  # has no such masks
        yield
        return
    resource_tracker.ensure_running()  # else it would start in the block, and lift it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_worker() -> None:
    """One core for each worker; Ctrl-C is the main process's business, and none survives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _use_one_thread()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _use_one_thread() -> None:
    """Keep OpenCV and torch, loaded already or not, to the one core that a worker has."""
    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
