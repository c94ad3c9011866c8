"""Before training with `data.cache: ram`: all clips of the training split decoded into memory, where they stay."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from dheads_cli import console
from dheads_cli.data.dataset import TrainingSet
from dheads_cli.errors import DheadsError

GIB = 2**30


def decode_ahead(sets: Sequence[TrainingSet], workers: int) -> None:
    """Decode every clip of the sets into their memory.

    Args:
        sets: of one corpus each, with one memory between them.
        workers: threads that decode.

    Raises:
        DheadsError: they do not fit in the memory that the sets may take.
    """
    needed, allowed = sum(each.bytes_of_all() for each in sets), sets[0].memory.most_bytes
    n_clips = sum(len(each.clips) for each in sets)
    if needed > allowed:
        folders = ", ".join(str(each.corpus.folder) for each in sets)
        raise DheadsError(
            f"data.cache=ram: the {n_clips} clips of {folders}, split {sets[0].clips[0].split!r}, take "
            f"{needed / GIB:.2f} GiB, more than data.cache_gb={allowed / GIB:g}: set data.cache_gb="
            f"{math.ceil(10 * needed / GIB) / 10:g} where the machine has so much (each process holds them), or "
            "data.cache=lru"
        )
    with (
        console.progress("decode", total=n_clips, unit="clips") as bar,
        ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool,
    ):
        for each in sets:
            for _ in pool.map(each.clip, each.clips):
                bar.advance(1)
