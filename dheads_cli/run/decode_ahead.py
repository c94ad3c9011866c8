"""Before training with `data.cache: ram`: all clips of the training split decoded into memory, where they stay."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

from dheads_cli import console
from dheads_cli.data.dataset import TrainingSet
from dheads_cli.errors import DheadsError

GIB = 2**30


def decode_ahead(data: TrainingSet, workers: int) -> None:
    """Decode every clip of the set into its memory.

    Args:
        data: the set.
        workers: threads that decode.

    Raises:
        DheadsError: they do not fit in the memory that the set may take.
    """
    needed, allowed = data.bytes_of_all(), data.memory.most_bytes
    if needed > allowed:
        raise DheadsError(
            f"data.cache=ram: the {len(data.clips)} clips of {data.corpus.folder}, split {data.clips[0].split!r}, take "
            f"{needed / GIB:.2f} GiB, more than data.cache_gb={allowed / GIB:g}: set data.cache_gb="
            f"{math.ceil(10 * needed / GIB) / 10:g} where the machine has so much (each process holds them), or "
            "data.cache=lru"
        )
    with (
        console.progress("decode", total=len(data.clips), unit="clips") as bar,
        ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool,
    ):
        for _ in pool.map(data.clip, data.clips):
            bar.advance(1)
