"""What the numbers of a corpus mean: a few checks, each good, worth a look or bad, in a sentence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dheads_cli.data.corpora import TEST_SPEAKERS
from dheads_cli.run.data_stats.sync import LagCurve

State = Literal["good", "look", "bad", "unknown"]

SKIPPED_LOOK, SKIPPED_BAD = 0.05, 0.25  # shares of a corpus's clips
# Measured on GRID at 64 px: 0.93 as it is; 0.77, 0.59 and 0.46 with each clip's crops moved by 1, 2 and 3 px (s.d.).
SHARP_GOOD, SHARP_LOOK = 0.85, 0.65
# The same over all nine speakers, whose eyes differ: 0.78; 0.69, 0.54 and 0.41. More people were not measured.
SHARP_GOOD_MIXED, SHARP_LOOK_MIXED = 0.65, 0.5
ODD_R = 0.8  # of a clip's eyes and its speaker's mean; GRID has 0.92 and more, half of it less when moved by 2 px
LAG_EARLY_S, LAG_LATE_S = -0.08, 0.12  # of lips behind sound that is in step; GRID has 0.04 s and r = 0.38
MIN_R = 0.1  # correlation below which lips and sound have little to do with each other
MIN_ERRORS = 4  # standard errors that the greatest correlation must be above 0 to mean anything
# What no two splits share, by the layout's way of splitting (data/corpora/); LRW's own splits share words.
SPLIT_BY = {"grid": "text", "crema": "speaker", "folder": "speaker", "lrw": "video"}


@dataclass(frozen=True)
class Check:
    """One question about a corpus, and its answer."""

    name: str
    state: State
    text: str


def check_files(broken: Mapping[str, str], unreadable: Mapping[str, str], n_decoded: int) -> Check:
    """Are the shards there, and the clips that were looked at whole?"""
    if broken:
        name, what = next(iter(broken.items()))
        return Check("files", "bad", f"damaged shards: {len(broken)}, first {name}: {what}")
    if unreadable:
        clip, what = next(iter(unreadable.items()))
        return Check("files", "bad", f"clips that can't be read: {len(unreadable)}, first {clip}: {what}")
    if not n_decoded:
        return Check("files", "unknown", "no clip was decoded")
    return Check("files", "good", f"every shard is there; {n_decoded} clips decoded, all whole")


def check_skipped(n_skipped: int, n_rows: int, reasons: Mapping[str, Mapping[str, Any]]) -> Check:
    """Can most of the corpus be used?"""
    share = n_skipped / n_rows if n_rows else 1.0
    most = "".join(f", most for {reason!r}" for reason in list(reasons)[:1])
    state: State = "good" if share < SKIPPED_LOOK else "look" if share < SKIPPED_BAD else "bad"
    return Check("skipped", state, f"{n_skipped} of {n_rows} clips ({share:.1%}){most}")


def check_splits(numbers: Mapping[str, Any]) -> Check:
    """Is anything in two splits that should not be?"""
    leaks, rule = numbers["leakage"], numbers["split_by"]
    empty = [name for name, split in numbers["splits"].items() if not split["clips"]]
    said = [f"{', '.join(empty)} without a usable clip"] if empty else []
    state: State = "look" if empty else "good"
    if count := leaks["sources"]["count"]:
        state, said = "bad", [*said, f"videos in two splits: {count}, such as {leaks['sources']['examples'][0]}"]
    held_out = [name for name, where in leaks["speakers"].items() if rule == "speaker" or TEST_SPEAKERS in where]
    if held_out:
        state, said = "bad", [*said, f"speakers in two splits: {len(held_out)}, such as {held_out[0]}"]
    texts = {pair: found for pair, found in leaks["texts"].items() if TEST_SPEAKERS not in pair.split(" & ")}
    if rule == "text" and texts:
        pair, found = next(iter(texts.items()))
        state, said = "bad", [*said, f"texts in {pair}: {found['count']}, such as {found['examples'][0]!r}"]
    if not said and rule is None:
        return Check("splits", "unknown", "no video is in two splits; what they were made by is not recorded")
    ruled = "" if rule in (None, "video") else f", no {rule} either (the rule of these splits)"
    return Check("splits", state, "; ".join(said) or f"no video is in two splits{ruled}")


def check_faces(by_speaker: float | None, mixed: float | None, likeness: NDArray[np.float64]) -> Check:
    """Do the eyes of all clips lie in the same place?

    Args:
        by_speaker, mixed: sharpness of the eyes in mean faces, of each speaker's clips and of all clips.
        likeness: of each clip's eyes to the speaker's others [N], NaN where not known.
    """
    if by_speaker is not None:
        value, good, look, of = by_speaker, SHARP_GOOD, SHARP_LOOK, "one speaker's"
    elif mixed is not None:
        value, good, look, of = mixed, SHARP_GOOD_MIXED, SHARP_LOOK_MIXED, "all speakers'"
    else:
        return Check("faces", "unknown", "too few clips for a mean face")
    state: State = "good" if value >= good else "look" if value >= look else "bad"
    blurred = {"good": "they lie alike", "look": "some lie elsewhere", "bad": "the crops are not aligned"}[state]
    text = f"eyes of {of} mean face keep {value:.0%} of a frame's contrast: {blurred}"
    if n_odd := int((likeness < ODD_R).sum()):
        state = "look" if state == "good" else state
        text += f"; in {n_odd} of {np.isfinite(likeness).sum()} clips they are unlike the speaker's other clips"
    return Check("faces", state, text)


def check_sync(curve: LagCurve | None) -> Check:
    """Do mouths open when the sound is loud?"""
    if curve is None:
        return Check("lips and sound", "unknown", "no clip is long enough, or no mouth moves")
    r, error, lag = float(curve.r[curve.best]), float(curve.error[curve.best]), int(curve.lags[curve.best])
    if curve.n_clips < 5 or np.isnan(error):
        return Check("lips and sound", "unknown", f"{curve.n_clips} clips are too few to tell (best r = {r:.2f})")
    if r < MIN_R or r < MIN_ERRORS * error:
        return Check("lips and sound", "bad", f"mouths don't follow the sound at any lag (best r = {r:.2f})")
    seconds = lag / curve.fps
    side = "behind" if lag > 0 else "before"
    frames = "frame" if abs(lag) == 1 else "frames"
    where = f"{abs(lag)} {frames} ({abs(seconds):.2f} s) {side} the sound" if lag else "at lag 0"
    in_step = LAG_EARLY_S - 1e-6 <= seconds <= LAG_LATE_S + 1e-6
    text = f"lips follow loudness best {where}, r = {r:.2f}"
    return Check("lips and sound", "good" if in_step else "bad", text if in_step else f"{text}: out of step")
