"""Which clips are held out: the corpus's own splits, else by sentence, by speaker or by clip."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dheads_cli.data.corpora.clips import ClipSource


def with_splits(
    clips: Sequence[ClipSource], layout: str, test_fraction: float, val_fraction: float
) -> tuple[list[ClipSource], list[str]]:
    """Decide the split of every clip that has none yet; (clips, lines for people about how)."""
    open_clips = [clip for clip in clips if not clip.split]
    if not open_clips:
        return list(clips), []
    speakers = {clip.speaker for clip in open_clips}
    if any(clip.split == "test" for clip in clips):  # the corpus's own
        test_fraction = 0.0
    if layout == "grid":
        splits = {name: _split_of(name, test_fraction, val_fraction) for name in {clip.split_by for clip in open_clips}}
        note = "split by sentence: no sentence is in two splits"
    elif len(speakers) == 1:
        clips = [clip if clip.split else replace(clip, split_by=clip.id) for clip in clips]
        splits = {clip.id: _split_of(clip.id, test_fraction, val_fraction) for clip in open_clips}
        note = f"one speaker only ({next(iter(speakers))}): split by clip"
    else:
        splits = _split_speakers(speakers, test_fraction, val_fraction)
        note = "split by speaker: no speaker is in two splits"
    return [clip if clip.split else replace(clip, split=splits[clip.split_by]) for clip in clips], [note]


def _split_of(name: str, test_fraction: float, val_fraction: float) -> str:
    """A split from the name alone, so that more clips never move one to another split."""
    place = zlib.crc32(name.encode()) / 2**32
    return "test" if place < test_fraction else "val" if place < test_fraction + val_fraction else "train"


def _split_speakers(speakers: Iterable[str], test_fraction: float, val_fraction: float) -> dict[str, str]:
    """Whole speakers in order of a hash; each wanted split gets at least one where there are three or more."""
    order = sorted(speakers, key=lambda speaker: (zlib.crc32(speaker.encode()), speaker))
    least = 1 if len(order) >= 3 else 0
    n_test = max(round(len(order) * test_fraction), least if test_fraction else 0)
    n_val = max(round(len(order) * val_fraction), least if val_fraction else 0)
    names = ["test"] * n_test + ["val"] * n_val + ["train"] * len(order)
    return dict(zip(order, names, strict=False))
