"""Which clips of a preprocessed corpus are good enough to train on, by their measures in the manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dheads_cli import registry
from dheads_cli.data.shards import ClipRef
from dheads_cli.errors import DheadsError

Limits = tuple[float | None, float | None]  # least and most, both within; None is no limit


@dataclass(frozen=True)
class Choice:
    """What a choice keeps.

    Attributes:
        clips: those kept, in their order.
        n_clips: how many there were.
        dropped: rule, such as "face_height_px < 60" -> clips that it drops, whatever other rules say.
    """

    clips: list[ClipRef]
    n_clips: int
    dropped: dict[str, int]

    def __str__(self) -> str:
        rules = ", ".join(f"{rule}: {count}" for rule, count in self.dropped.items() if count)
        return f"{len(self.clips)} of {self.n_clips} clips" + (f" ({rules})" if rules else "")


def choose_clips(clips: Sequence[ClipRef], keep: Mapping[str, Limits], where: str) -> Choice:
    """Keep the clips whose measures all lie within their limits; one without a measure lies outside.

    Args:
        clips: of one split.
        keep: measure -> limits.
        where: corpus and split, for errors.

    Raises:
        DheadsError: no clip has a measure of that name, or none is kept.
    """
    known = sorted({name for clip in clips for name in clip.quality})
    if wrong := [name for name in keep if name not in known]:
        listed = f"Measures: {', '.join(known)}." if known else "It has none: preprocess it again."
        raise DheadsError(f"data.keep: {where} has no measure {wrong[0]!r}{registry.nearest(wrong[0], known)} {listed}")
    kept, dropped = list(clips), {}
    for name, (least, most) in keep.items():
        values = {clip.id: clip.quality.get(name) for clip in clips}
        for limit, sign in ((least, 1), (most, -1)):
            if limit is not None:
                out = {each for each, value in values.items() if value is not None and sign * (value - limit) < 0}
                dropped[f"{name} {'<' if sign > 0 else '>'} {limit:g}"] = len(out)
                kept = [clip for clip in kept if clip.id not in out]
        if missing := {each for each, value in values.items() if value is None}:
            dropped[f"no {name}"] = len(missing)
            kept = [clip for clip in kept if clip.id not in missing]
    choice = Choice(kept, len(clips), dropped)
    if not kept:
        raise DheadsError(f"data.keep: of {where} it keeps {choice}: loosen its limits.")
    return choice
