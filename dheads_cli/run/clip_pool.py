"""Work on clips in several processes, in order, and outlive any of them."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def process_all(
    work: Callable[[Item], Outcome], items: Iterable[Item], n_workers: int, died: Outcome
) -> Iterator[Outcome]:
    """Outcomes in the order of the items, computed a few items ahead of the one asked for.

    Args:
        work: called in the workers; picklable.
        items: picklable; taken as needed, so there may be millions.
        n_workers: processes; 1 works in this one.
        died: outcome of an item whose process is killed, by a crash of native code or for its memory.
    """
    if n_workers == 1:
        yield from map(work, items)
        return
    items = iter(items)
    pool = _pool(n_workers)
    waiting: deque[tuple[Item, Future[Outcome]]] = deque()
    try:
        while True:
            for item in itertools.islice(items, 4 * n_workers - len(waiting)):
                waiting.append((item, pool.submit(work, item)))
            if not waiting:
                return
            item, future = waiting.popleft()
            try:
                yield future.result()
            except BrokenProcessPool:
                # A dead worker takes all waiting items along, whoever it was: the first is tried alone, the others
                # together again, so that only the culprit is lost, when it comes first.
                pool.shutdown()
                yield _process_alone(work, item, died)
                pool = _pool(n_workers)
                waiting = deque((other, pool.submit(work, other)) for other, _ in waiting)
    finally:
        pool.shutdown(cancel_futures=True)


def _process_alone(work: Callable[[Item], Outcome], item: Item, died: Outcome) -> Outcome:
    with _pool(1) as pool:
        try:
            return pool.submit(work, item).result()
        except BrokenProcessPool:
            return died


def _pool(n_workers: int) -> ProcessPoolExecutor:
    """Fresh processes: a fork after MediaPipe or torch have started threads may hang."""
    return ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn"), _begin_worker)


def _begin_worker() -> None:
    """One core for each worker; Ctrl-C is the main process's business, and none survives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
