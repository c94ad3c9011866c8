"""In what two recipes differ, and which of it a run that goes on may bear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# What may change when a run goes on: everything else changes what the weights mean.
FREE_TO_CHANGE = {
    "description", "data.path", "data.cache", "data.cache_gb", "data.workers", "data.embeddings", "train.steps",
    "train.log_every", "train.checkpoint_every", "train.keep_checkpoints", "train.sample_every", "train.threads",
    "train.accumulate",
    "train.max_bad_steps", "train.divergence", "train.timesteps", "train.recompute_activations",
    "train.compile", "train.watch_clips", "train.watch_s", "train.watch_steps", "sample", "evaluate", "preprocess",
}  # fmt: skip


def differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Paths of the values in which two recipes differ."""
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            yield from differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield prefix + key


def is_free(key: str) -> bool:
    return any(key == free or key.startswith(free + ".") for free in FREE_TO_CHANGE)
