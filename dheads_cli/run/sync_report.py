"""How well a network tells whether lips and sound are in step: sync.json in its run folder, and a table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dheads_cli import console
from dheads_cli.data.samples import partners
from dheads_cli.data.sync_clips import SyncSet
from dheads_cli.files import write_atomically
from dheads_cli.model.sync import WINDOW_FRAMES, SyncNet
from dheads_cli.model.sync_curve import Sync, sync_of

REPORT = "sync.json"
SHIFTS = range(-5, 6)  # frames by which the sound is put ahead of the lips
SHORT_FRAMES = 29  # LRW's clips


def make_report(step: int, network: SyncNet, sets: Mapping[str, SyncSet], device: torch.device) -> dict[str, Any]:
    """Judge a network, evaluating, on the clips of each split: as they are, shifted, and with another's sound.

    Args:
        step: of the training.
        network: the towers.
        sets: by split, of clips of SHORT_FRAMES or more.
        device: where the towers are.

    Returns:
        {"step", "splits": {split: numbers}}, the numbers being those of `of_split`.
    """
    splits = {}
    for split, data in sets.items():
        embedded = list(embed_clips(network, data, device))
        others = partners({index: ref.speaker for index, ref in enumerate(data.clips)})
        splits[split] = of_split(embedded, others)
    return {"step": step, "splits": splits}


@torch.no_grad()
def embed_clips(network: SyncNet, data: SyncSet, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    """Embeddings of each clip's lips and sound, [N, D] each, on the CPU."""
    for index in range(len(data.clips)):
        mouths, sound = data.whole(index)
        lips = network.lips(mouths[None].to(device))[0]
        yield lips.cpu(), network.sound(sound[None].to(device))[0].cpu()


def of_split(embedded: Sequence[tuple[Tensor, Tensor]], others: Mapping[int, int]) -> dict[str, Any]:
    """One split's numbers.

    Args:
        embedded: of each clip, lips and sound [N, D].
        others: for a clip, another one of its speaker.

    Returns:
        "n" clips. "exact" and "within_one": shares of all shifted clips whose offset is found, to the frame or within
        one; "short_within_one": of the middle SHORT_FRAMES of each clip, as it is. "auc": of the confidence of clips as
        they are against that of the same lips with another's sound, "agreement_auc" likewise; None without others.
        "confidence" and "agreement" by shift, and "shuffled" of both with another's sound: means over clips.
    """
    found = {shift: [_scored(lips, sound, shift) for lips, sound in embedded] for shift in SHIFTS}
    errors = np.array([[each.offset - shift for each in found[shift]] for shift in SHIFTS])
    middle = [_scored(*_middle(lips, sound), 0) for lips, sound in embedded]
    shuffled = [_scored(embedded[index][0], embedded[other][1], 0) for index, other in others.items()]
    names = ("confidence", "agreement")
    means = {name: {str(shift): _mean(found[shift], name) for shift in SHIFTS} for name in names}
    return {
        "n": len(embedded),
        "exact": float((errors == 0).mean()),
        "within_one": float((abs(errors) <= 1).mean()),
        "short_within_one": float(np.mean([abs(each.offset) <= 1 for each in middle])),
        "auc": _auc([each.confidence for each in found[0]], [each.confidence for each in shuffled]),
        "agreement_auc": _auc([each.agreement for each in found[0]], [each.agreement for each in shuffled]),
        **means,
        "shuffled": {name: _mean(shuffled, name) for name in names},
    }


def _scored(lips: Tensor, sound: Tensor, shift: int) -> Sync:
    """A clip whose sound is `shift` frames ahead of its lips; what has no partner then is cut off both."""
    n = min(len(lips), len(sound)) - abs(shift)
    scored = sync_of(lips[max(-shift, 0) :][:n], sound[max(shift, 0) :][:n])
    assert scored is not None  # 29 frames are 25 windows, of which a shift leaves 20
    return scored


def _middle(lips: Tensor, sound: Tensor) -> tuple[Tensor, Tensor]:
    n = SHORT_FRAMES - WINDOW_FRAMES + 1
    first = max(0, (len(lips) - n) // 2)
    return lips[first : first + n], sound[first : first + n]


def _mean(found: Sequence[Sync], name: str) -> float | None:
    return float(np.mean([getattr(each, name) for each in found])) if found else None


def _auc(right: Sequence[float], wrong: Sequence[float]) -> float | None:
    """How often one of `right` is above one of `wrong`; a tie is half."""
    if not right or not wrong:
        return None
    a, b = np.array(right)[:, None], np.array(wrong)[None]
    return float((a > b).mean() + (a == b).mean() / 2)


def write(run_dir: Path, report: Mapping[str, Any]) -> None:
    """Write the report into the run folder."""
    write_atomically(run_dir / REPORT, json.dumps(report, indent=1) + "\n")


def show(run_dir: Path, report: Mapping[str, Any]) -> None:
    """The report for people."""
    head = [
        "split", "clips", "exact", "within one", f"of {SHORT_FRAMES} frames", "AUC", "confidence", "shuffled",
        "agreement", "shift 1", "shift 2", "shift 5", "shuffled",
    ]  # fmt: skip
    rows = []
    for split, each in report["splits"].items():
        shares = [f"{100 * each[name]:.1f} %" for name in ("exact", "within_one", "short_within_one")]
        by_shift = [(each["agreement"][str(shift)] + each["agreement"][str(-shift)]) / 2 for shift in (0, 1, 2, 5)]
        values = [
            each["auc"], each["confidence"]["0"], each["shuffled"]["confidence"], *by_shift,
            each["shuffled"]["agreement"],
        ]  # fmt: skip
        rows.append([split, str(each["n"]), *shares, *("" if value is None else f"{value:.3f}" for value in values)])
    title = f"sound moved by {SHIFTS[0]} ... {SHIFTS[-1]} frames: offsets found, step {report['step']}"
    console.table(title, head, rows, f"{run_dir / REPORT} has every shift; docs/METRICS.md says what they mean.")
