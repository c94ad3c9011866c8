"""Work on clips on a Ray cluster, in order, and outlive any of its nodes.

Each task of Ray hands its clip to a process beside it, a ClipPool of one: what crashes or hangs there is found and told
as on one machine. What Ray itself loses, a node or its own worker, it tries again elsewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dheads_cli.data.corpora import ClipSource
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.run.clip_pool import AHEAD, CRASHED, ClipPool
from dheads_cli.run.preprocess_clip import Outcome

MAX_LOST = 10  # nodes or workers of Ray that a clip may lose: a loss of one is not the clip's fault
KNOCK_S = 10.0  # for a cluster to answer

Work = Callable[[ClipSource], Outcome]
Versions = Callable[[], Mapping[str, str]]


@dataclass(frozen=True)
class Unfit:
    """Why a node can't work on a clip."""

    node: str
    why: str


def process_all(
    work: Work, clips: Iterable[ClipSource], address: str | None, timeout_s: float, versions: Versions
) -> Generator[Outcome]:
    """Outcomes in the order of the clips, a few for each CPU of the cluster worked on ahead of the one asked for.

    While it runs, nothing reaches standard output: Ray's own messages would.

    Args:
        work: called on the nodes, as are `versions`; picklable.
        clips: with absolute paths, which every node has to see.
        address: of the cluster; None takes RAY_ADDRESS, and without it a Ray of this machine alone.
        timeout_s: a clip that takes longer is hung.
        versions: of all that decides the outcomes' bytes; every node's have to equal the driver's.

    Raises:
        DheadsError: there is no Ray, no cluster, or a node is not as the driver is.
    """
    with _ray(address) as ray:
        task = ray.remote(num_cpus=1, max_retries=MAX_LOST)(_on_node)
        expected, clips, waiting, ahead = dict(versions()), iter(clips), deque[Any](), 0
        while True:
            if len(waiting) <= ahead // 2:
                ahead = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))  # nodes come and go
                for clip in itertools.islice(clips, ahead - len(waiting)):
                    waiting.append(task.remote(work, clip, timeout_s, versions, expected, _files(clip)))
            if not waiting:
                return
            yield _outcome(ray, waiting.popleft())


@contextlib.contextmanager
def _ray(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected; nothing is reported to its makers, and its messages stay in its log files."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise DheadsError('the executor ray needs Ray: install it with `pip install "dheads[cluster]"`.') from error
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        where = address or os.environ.get("RAY_ADDRESS") or "local"
        try:
            _knock(where)
            ray.init(where, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, RuntimeError, ValueError) as error:
            raise DheadsError(f"no Ray cluster can be used at {where}: {error}") from error
        try:
            yield ray
        finally:
            ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody listens: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=KNOCK_S).close()


def _outcome(ray: Any, reference: Any) -> Outcome:
    """Wait for a clip's outcome."""
    try:
        outcome: Outcome | Unfit = ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # before the clip was begun: its own mistakes are outcomes
        raise DheadsError(
            f"a node of Ray's can't work on clips: {error.cause}. Every node needs dheads as it is installed here."
        ) from error
    except ray.exceptions.RayError:
        return UnusableClip(*CRASHED)
    if isinstance(outcome, Unfit):
        raise DheadsError(f"Ray's node {outcome.node} {outcome.why}.")
    return outcome


def _files(clip: ClipSource) -> list[Path]:
    """The files of a clip that are there, as the driver sees them."""
    return [value for value in vars(clip).values() if isinstance(value, Path) and value.is_file()]


def _on_node(
    work: Work, clip: ClipSource, timeout_s: float, versions: Versions, expected: Mapping[str, str], files: list[Path]
) -> Outcome | Unfit:
    """Work on one clip; what Ray runs."""
    node, own = socket.gethostname(), versions()
    if differing := [name for name in expected if own.get(name) != expected[name]]:
        has = ", ".join(f"{name} {own.get(name)} (here {expected[name]})" for name in differing)
        return Unfit(node, f"would make other bytes: it has {has}; install the same there")
    if unseen := [path for path in files if not path.is_file()]:
        return Unfit(node, f"does not see {unseen[0]}: the corpus has to lie on a path that every node sees")
    pool = _process(timeout_s)
    pool.submit((work, clip))
    return pool.next()


@cache
def _process(timeout_s: float) -> ClipPool[tuple[Work, ClipSource], Outcome]:
    """The process beside this worker of Ray; it ends with it."""
    return ClipPool(_call, 1, timeout_s)


def _call(job: tuple[Work, ClipSource]) -> Outcome:
    work, clip = job
    return work(clip)
