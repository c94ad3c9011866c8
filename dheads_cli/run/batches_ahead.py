"""Batches of a training made ahead of the steps that need them, by threads; what they decode with lets others run."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol, TypeVar

import torch

from dheads_cli.run.batch_parts import Part

PREFETCH = 3  # batches that lie ready, beside those that workers are at
MOST_WORKERS = 8  # where their number is not given

B = TypeVar("B")
B_co = TypeVar("B_co", covariant=True)


class Batches(Protocol[B_co]):
    """Batch number `step`, of `size` samples, is a function of the seed and the step alone, so resuming is exact.

    Where `samples` is given, only these of its samples are made, each as it is in the whole.
    """

    def batch(self, step: int, size: int, samples: range | None = None) -> B_co: ...


def n_workers(asked: int, device: torch.device) -> int:
    """How many threads make batches, as `data.workers` says."""
    if asked or device.type == "cpu":
        return asked or 1
    n_cores = (os.cpu_count() or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(n_cores, MOST_WORKERS))


@contextmanager
def batches(
    data: Batches[B], done: int, steps: int, share: Part, workers: int = 1
) -> Iterator[Iterator[tuple[B, float]]]:
    """A process's share of the batches of steps done + 1 ... steps, each with the seconds waited for it.

    They are made ahead by so many threads, but for the first: in its step the network may be compiled, which takes
    several times as long beside threads that want the interpreter too.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="batches")

    def run() -> Iterator[tuple[B, float]]:
        ahead: deque[Future[B]] = deque()
        next_step = done + 2
        for step in range(done + 1, steps + 1):
            began = time.monotonic()
            if step == done + 1:
                batch = data.batch(step, share.whole, share.samples)
            else:
                while next_step <= steps and len(ahead) < PREFETCH + workers:
                    ahead.append(pool.submit(data.batch, next_step, share.whole, share.samples))
                    next_step += 1
                batch = ahead.popleft().result()
            yield batch, time.monotonic() - began

    try:
        yield run()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
