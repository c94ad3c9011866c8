"""`dheads data probe`: how well a linear map finds the mouth's opening in an audio encoder's embeddings.

For each encoder: the clips go through it in the host's own windows; a ridge regression from frame k's audio window
(k - m_y ... k + m_y) to the mouth's opening is fitted on the split `train`, its strength chosen on `val`; its traces
are scored on held-out clips (`test`) and held-out speakers (`test-speakers`). docs/HEARING.md has the definitions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dheads_cli import console, registry
from dheads_cli.data.mouth import pearson
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import choose_device
from dheads_cli.model.checkpoint import load_hearing
from dheads_cli.model.speech import encode_speech, is_trained
from dheads_cli.protocols import AudioEncoder
from dheads_cli.recipe_section import Component
from dheads_cli.run.probe_baseline import LogMelColumns
from dheads_cli.run.probe_changes import Change, augmentations
from dheads_cli.run.probe_changes import voices as voices_of
from dheads_cli.run.probe_clips import CHOOSING, FITTED, HELD_OUT, SoundClip, Wave, read_clips
from dheads_cli.run.probe_fit import HeardClip, Probe, Score, Window, choose, moments, ridge, score, targets
from dheads_cli.run.probe_report import make_report, show, write_csv

TIMED_S = 10.0  # of speech, that an encoder's speed is measured on


@dataclass(frozen=True)
class Subject:
    """An encoder to probe, what to call it, and what to know when its numbers are read."""

    label: str
    encoder: AudioEncoder
    note: str = ""


@dataclass(frozen=True)
class Probed:
    """What the probe of one encoder gives.

    Attributes:
        probe: as fitted.
        scores: of each held-out split.
        left_out: r of the fitted split's clips, by id, each by a probe fitted on all other speakers.
        changed: name of a change of the sound -> scores under it of each held-out split that has clips for it.
    """

    probe: Probe
    scores: dict[str, Score]
    left_out: dict[str, float]
    changed: dict[str, dict[str, Score]]


def probe_encoders(
    corpus_folder: Path,
    encoders: Sequence[Component],
    checkpoints: Sequence[str] = (),
    *,
    audio_context: int = 2,
    limit: int | None = None,
    leave_speakers_out: bool = False,
    augment: Sequence[str] = (),
    strength: float = 0.5,
    voices: Sequence[str] = (),
    csv: Path | None = None,
    seed: int = 0,
    device: str = "auto",
) -> dict[str, Any]:
    """Probe encoders on a preprocessed corpus, and print the tables.

    Args:
        corpus_folder: that `dheads preprocess` wrote.
        encoders: by registered name.
        checkpoints: run folders or checkpoint files whose audio encoders are probed too.
        audio_context: m_y.
        limit: at most this many clips of each split, spread evenly over it.
        leave_speakers_out: also score each speaker of `train` with a probe of all the others.
        augment: augmentations of the sound that the probes are scored under, too; they are fitted on it as it is.
        strength: of the augmentations.
        voices: of eSpeak NG that speak the words of held-out clips, where their times are known, as a change.
        csv: file to write with a line for each clip.
        seed: of the weights of encoders that have none yet, and of the augmentations.
        device: for the encoders.

    Returns:
        What --json prints.
    """
    on, changes = choose_device(device), augmentations(augment, strength, seed)
    if csv is not None and not csv.parent.is_dir():
        raise DheadsError(f"--csv {csv}: there is no folder {csv.parent}: make it first.")
    if csv is not None and csv.is_dir():
        raise DheadsError(f"--csv {csv}: is a folder: give the file to write.")
    clips, silent = read_clips(Corpus(corpus_folder), limit)
    if leave_speakers_out and len({clip.speaker for clip in clips[FITTED]}) < 2:
        raise DheadsError(f"--leave-speakers-out: {corpus_folder} has one speaker only in the split {FITTED!r}.")
    rate = clips[FITTED][0].sample_rate
    subjects = [
        Subject("log-mel columns", LogMelColumns(rate), "baseline: the spectrogram itself, no encoder"),
        *(registered(component, seed, on) for component in encoders),
        *(from_checkpoint(reference, on) for reference in checkpoints),
    ]
    for label, wanted in ((subject.label, subject.encoder.sample_rate) for subject in subjects):
        if wanted != rate:
            raise DheadsError(
                f"{corpus_folder}: its sound has {rate} Hz, but {label} takes {wanted}: preprocess again with "
                f"--set preprocess.sample_rate={wanted}"
            )
    held_out = [clip for split in HELD_OUT for clip in clips.get(split, ())]
    spoken = voices_of(voices, held_out)
    n_heard = sum(map(len, clips.values())) + len(changes) * len(held_out)
    n_heard += len(spoken) * sum(bool(clip.words) for clip in held_out)
    results, speeds = [], []
    with console.progress("probe", total=len(subjects) * n_heard, unit="clips") as bar:
        for subject in subjects:
            bar.note(subject.label)
            results.append(
                probe(
                    subject.encoder, clips, audio_context=audio_context, leave_speakers_out=leave_speakers_out,
                    changes=changes | spoken, device=on, heard=bar.advance,
                )
            )  # fmt: skip
            speeds.append(seconds_for_10s(subject.encoder, clips[FITTED], on))
    report = make_report(corpus_folder, clips, silent, subjects, results, speeds, audio_context)
    if csv is not None:
        write_csv(csv, clips, subjects, results)
    show(report)
    console.result(report)
    return report


def probe(
    encoder: AudioEncoder,
    clips: Mapping[str, Sequence[SoundClip]],
    *,
    audio_context: int = 2,
    leave_speakers_out: bool = False,
    changes: Mapping[str, Change] | None = None,
    device: torch.device | None = None,
    heard: Callable[[], None] = lambda: None,
) -> Probed:
    """Fit a probe on one encoder's embeddings and score it.

    Args:
        encoder: in evaluation mode.
        clips: of the splits train, val, and at least one of test and test-speakers.
        audio_context: m_y.
        leave_speakers_out: fill `left_out`.
        changes: fill `changed`.
        device: where the encoder is.
        heard: called after each clip that the encoder has heard.
    """

    def hear(split: str, change: Change = lambda clip: clip.waveform) -> list[HeardClip]:
        sounds = ((clip, change(clip)) for clip in clips[split])
        return [_hear(encoder, clip, sound, device, heard) for clip, sound in sounds if sound is not None]

    fitted = hear(FITTED)
    window, wanted = Window.of(fitted, audio_context), targets(fitted)
    sums = moments(fitted, wanted, window)
    chosen = choose(sums, hear(CHOOSING), window)
    left_out: dict[str, float] = {}
    for speaker in sorted({clip.speaker for clip in fitted}) if leave_speakers_out else ():
        own = [i for i, clip in enumerate(fitted) if clip.speaker == speaker]
        rest = sums.without(moments([fitted[i] for i in own], [wanted[i] for i in own], window))
        other = Probe(ridge(rest, [chosen.strength])[0], window, chosen.strength)
        left_out |= {fitted[i].id: pearson(other(fitted[i].embeddings), fitted[i].opening) for i in own}
    held_out = [split for split in HELD_OUT if split in clips]
    return Probed(
        chosen,
        {split: score(chosen, hear(split)) for split in held_out},
        left_out,
        {
            name: {split: score(chosen, some, floor=False) for split in held_out if (some := hear(split, change))}
            for name, change in (changes or {}).items()
        },
    )


def _hear(
    encoder: AudioEncoder,
    clip: SoundClip,
    waveform: Wave,
    device: torch.device | None,
    heard: Callable[[], None],
) -> HeardClip:
    embeddings = encode_speech(encoder, torch.from_numpy(waveform).to(device), len(clip.opening), clip.fps)
    heard()
    return HeardClip(clip.id, clip.speaker, embeddings.float().cpu().numpy(), clip.opening)


def registered(component: Component, seed: int, device: torch.device) -> Subject:
    """An encoder by its registered name; one that learns with the model has weights drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = registry.build("audio_encoders", component.use, component.options)
    options = ", ".join(f"{name}={value}" for name, value in component.options.items())
    return _ready(f"{component.use}({options})" if options else component.use, encoder, device, trained=False)


def from_checkpoint(reference: str, device: torch.device) -> Subject:
    """The encoder of a trained model of any task: a run folder, a checkpoint, or a shipped model's name."""
    encoder, component = load_hearing(reference, device)
    return _ready(f"{component.use} of {reference}", encoder, device, trained=True)


def _ready(label: str, encoder: Any, device: torch.device, *, trained: bool) -> Subject:
    learns = is_trained(encoder)
    if isinstance(encoder, nn.Module):
        encoder.to(device).eval()
    return Subject(label, encoder, "untrained: its weights are random" if learns and not trained else "")


def seconds_for_10s(encoder: AudioEncoder, clips: Sequence[SoundClip], device: torch.device) -> float:
    """Time the encoder takes for 10 s of speech, clips one after another: the best of three, s."""
    fps, rate = clips[0].fps, clips[0].sample_rate
    n_frames, n_samples = round(TIMED_S * fps), round(TIMED_S * rate)
    speech = np.concatenate([clip.waveform for clip in clips[: 1 + int(n_samples // len(clips[0].waveform))]])
    waveform = torch.from_numpy(np.resize(speech, n_samples)).to(device)
    taken = []
    for _ in range(3):
        begun = time.perf_counter()
        encode_speech(encoder, waveform, n_frames, fps).cpu()
        taken.append(time.perf_counter() - begun)
    return min(taken)
