"""How many held-out words a lip-reader gets wrong: lips.json in its run folder, and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dheads_cli import console
from dheads_cli.data.lip_clips import LipSet
from dheads_cli.data.samples import partners
from dheads_cli.files import write_atomically
from dheads_cli.model.lips import LipReader
from dheads_cli.model.sentence import likeliest
from dheads_cli.run.word_report import GRID_PLACES

REPORT = "lips.json"


def make_report(step: int, reader: LipReader, sets: Mapping[str, LipSet], device: torch.device) -> dict[str, Any]:
    """Read the lips of held-out clips.

    Args:
        step: of the training.
        reader: the network, evaluating.
        sets: by split.
        device: where the network is.

    Returns:
        {"step", "sentence", "chance", "splits": {split: {speaker: numbers}}}, the numbers being those of `of_clips`;
        the speaker "" stands for all. "chance": the word error rate of guesses, each word of a place as often.
    """
    splits = {}
    for split, data in sets.items():
        said = [clip.words for clip in data.clips]
        read = [
            likeliest(reader.log_probs(data.whole(index).to(device)).numpy(), reader.sentence)
            for index in range(len(data.clips))
        ]
        speakers = [clip.ref.speaker for clip in data.clips]
        groups = {"": list(range(len(said)))}
        for speaker in dict.fromkeys(speakers):
            groups[speaker] = [index for index, other in enumerate(speakers) if other == speaker]
        splits[split] = {name: of_clips([said[i] for i in group], [read[i] for i in group])
                         for name, group in groups.items()}  # fmt: skip
    chance = 1 - float(np.mean([1 / len(words) for words in reader.sentence]))
    return {"step": step, "sentence": reader.sentence, "chance": chance, "splits": splits}


def of_clips(said: Sequence[Sequence[str]], read: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Numbers of some clips, from the words that are said in each and those that are read, one for each place.

    Returns:
        "n" clips; "wer", the share of words that are wrong; "places", the share right in each; "wer_of_other", what
        remains wrong where each clip is taken to say what another of them says, None for a single clip.
    """
    right = np.array([_right(a, b) for a, b in zip(said, read, strict=True)])
    others = partners(dict.fromkeys(range(len(said)), ""))
    wrong_clip = [_right(said[other], read[index]) for index, other in others.items()]
    return {
        "n": len(said),
        "wer": 1 - float(right.mean()),
        "places": right.mean(axis=0).tolist(),
        "wer_of_other": 1 - float(np.mean(wrong_clip)) if wrong_clip else None,
    }


def _right(said: Sequence[str], read: Sequence[str]) -> list[bool]:
    return [k < len(read) and read[k] == word for k, word in enumerate(said)]


def write(run_dir: Path, report: Mapping[str, Any]) -> None:
    """Write the report into the run folder."""
    write_atomically(run_dir / REPORT, json.dumps(report, indent=1) + "\n")


def show(run_dir: Path, report: Mapping[str, Any]) -> None:
    """The report for people."""
    n_places = len(report["sentence"])
    places = list(GRID_PLACES) if n_places == len(GRID_PLACES) else [f"word {k + 1}" for k in range(n_places)]
    rows = []
    for split, groups in report["splits"].items():
        for speaker, each in groups.items():
            other = "" if each["wer_of_other"] is None else f"{each['wer_of_other']:.3f}"
            shares = [f"{100 * share:.0f} %" for share in each["places"]]
            rows.append([split, speaker or "all", str(each["n"]), f"{each['wer']:.3f}", other, *shares])
    title = f"words read from lips, step {report['step']}; chance {report['chance']:.3f}"
    head = ["split", "speaker", "clips", "WER", "another clip's words", *(f"{place} right" for place in places)]
    console.table(title, head, rows, f"{run_dir / REPORT} has these, too.")
