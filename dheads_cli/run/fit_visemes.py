"""`dheads data fit-visemes`: a linear map from speech to lips and jaw, for the audio encoder `visemes`."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dheads_cli import console, registry
from dheads_cli.data.hearing import Versions
from dheads_cli.data.mouth import mouth_opening, pearson
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.files import write_atomically
from dheads_cli.model.speech import encode_speech

Array = NDArray[np.float64]

JAW, LIPS = range(3, 14), range(48, 68)  # of the 68 landmarks
POINTS = [*JAW, *LIPS]
WHISPER = {"combine": "concatenate", "stride_frames": 50, "context_frames": 25}
CONTEXT = 2  # frames on either side
KINDS = {"noise": (0.5, 0.5), "reverb": (0.4, 0.4), "pitch": (0.6, 0.6), "formants": (0.6, 0.6), "band": (0.4, 0.4)}


@dataclass(frozen=True)
class Ridge:
    """What a ridge regression is made of: sums over frames, each weighed, of a clip or of many."""

    xx: Array  # [P, P]
    xy: Array  # [P, Q]
    x: Array  # [P]
    y: Array  # [Q]
    n: float

    def __add__(self, other: Ridge) -> Ridge:
        return Ridge(
            self.xx + other.xx, self.xy + other.xy, self.x + other.x, self.y + other.y, self.n + other.n
        )


def fit_visemes(
    corpus: Path,
    out: Path,
    *,
    split: str = "train",
    layers: tuple[int, ...] = (2,),
    rank: int = 8,
    penalty: float = 3.0,
    per_speaker: int = 250,
    augmented: int = 1,
    seed: int = 0,
) -> dict[str, Any]:
    """Fit the map on a split, score it on the corpus's other splits, and write it.

    Ridge regression from the standardised features of 2 CONTEXT + 1 frames to the landmarks of jaw and lips, each clip
    less its median, in units of the distance of the eyes; every speaker counts the same. Then the map is cut to the
    `rank` directions in which what it predicts varies most, all scaled so that the first has a standard deviation of 1:
    what varies little is mostly noise.

    Args:
        corpus: preprocessed corpus.
        out: safetensors file.
        split: clips to fit on.
        layers: of Whisper's encoder, averaged.
        rank: K.
        penalty: of the squared weights, relative to the number of frames.
        per_speaker: clips of a speaker, at most.
        augmented: further versions of each clip's sound, in other voices, rooms and lines.
        seed: which clips are taken, and how they are augmented.

    Returns:
        {"out", "clips", "rank", "r": {split: mean correlation of the mouth's opening}}.

    Raises:
        DheadsError: the corpus lacks the split.
    """
    shards = Corpus(corpus)
    encoder = registry.build("audio_encoders", "whisper", {"layers": list(layers), **WHISPER})
    chosen = _chosen(shards.clips(split), per_speaker, seed)
    counts = Counter(ref.speaker for ref in chosen)
    versions = Versions(augmented, KINDS, seed)
    total: Ridge | None = None
    with console.progress("fit visemes", total=len(chosen) * (1 + augmented), unit="clips") as bar:
        for ref in chosen:
            for version in range(1 + augmented):
                features, landmarks = _clip(shards, ref, encoder, versions, version)
                sums = _sums(windows(features), lips_and_jaw(landmarks), 1 / counts[ref.speaker])
                total = sums if total is None else total + sums
                bar.advance(1)
    assert total is not None
    weights, bias = _solve(total, rank, penalty)
    scores = {}
    for name in shards.splits:
        if name != split:
            held_out = _chosen(shards.clips(name), 20, seed)
            clean = (_clip(shards, ref, encoder, Versions(), 0) for ref in held_out)
            scores[name] = _score(weights, bias, [(features, mouth_opening(points)) for features, points in clean])
    tensors = {
        "layers": torch.tensor(layers),
        "map": torch.from_numpy(weights.reshape(2 * CONTEXT + 1, -1, rank)).float(),
        "bias": torch.from_numpy(bias).float(),
    }
    from safetensors.torch import save

    write_atomically(out, save({name: tensor.contiguous() for name, tensor in tensors.items()}))
    result = {"out": str(out), "clips": len(chosen), "rank": rank, "r": scores}
    said = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
    console.info(f"{out}: fitted on {len(chosen)} clips; r of the mouth's opening: {said or 'no other split'}")
    console.result(result)
    return result


def _chosen(clips: list[ClipRef], per_speaker: int, seed: int) -> list[ClipRef]:
    """At most so many clips of each speaker."""
    rng = np.random.default_rng(seed)
    taken: Counter[str] = Counter()
    chosen = []
    for index in rng.permutation(len(clips)):
        if taken[clips[index].speaker] < per_speaker:
            taken[clips[index].speaker] += 1
            chosen.append(clips[index])
    return chosen


def _clip(
    shards: Corpus, ref: ClipRef, encoder: Any, versions: Versions, version: int
) -> tuple[Array, NDArray[np.float32]]:
    """Features [F, D] of a version of a clip's sound, and its landmarks [F, 68, 2]."""
    clip = shards.load(ref)
    wave = versions.apply(clip.waveform, clip.sample_rate, ref.id, version)
    with torch.inference_mode():
        features = encode_speech(encoder, torch.from_numpy(wave), len(clip.frames), clip.fps)
    return features.numpy().astype(np.float64), clip.landmarks


def lips_and_jaw(landmarks: NDArray[np.floating[Any]]) -> Array:
    """Places of lips and jaw of a clip [F, 68, 2] less their median, in distances of the eyes: float64 [F, 2 P]."""
    points = landmarks.astype(np.float64)
    eyes = points[:, 42:48].mean(axis=1) - points[:, 36:42].mean(axis=1)
    middle = points[:, [33, 36, 39, 42, 45]].mean(axis=1, keepdims=True)
    placed = ((points - middle) / np.linalg.norm(eyes, axis=1).mean())[:, POINTS].reshape(len(points), -1)
    return np.asarray(placed - np.median(placed, axis=0))


def windows(features: Array) -> Array:
    """Features of frames k - CONTEXT ... k + CONTEXT side by side, edges repeated: [F, D] -> [F, (2 CONTEXT + 1) D]."""
    places = np.arange(len(features))
    shifts = range(-CONTEXT, CONTEXT + 1)
    return np.concatenate([features[np.clip(places + shift, 0, len(features) - 1)] for shift in shifts], axis=1)


def _sums(x: Array, y: Array, weight: float) -> Ridge:
    return Ridge(
        weight * x.T @ x, weight * x.T @ y, weight * x.sum(axis=0), weight * y.sum(axis=0), weight * len(x)
    )


def _solve(sums: Ridge, rank: int, penalty: float) -> tuple[Array, Array]:
    """Map [P, K] and bias [K] of the ridge regression of these sums, cut to a rank."""
    x, y = sums.x / sums.n, sums.y / sums.n
    xx, xy = sums.xx / sums.n - np.outer(x, x), sums.xy / sums.n - np.outer(x, y)
    scale = np.sqrt(np.diag(xx)) + 1e-3
    xx, xy = xx / np.outer(scale, scale), xy / scale[:, None]
    weights = np.linalg.solve(xx + penalty * np.eye(len(xx)), xy)  # [P, Q], of standardised features
    spread, directions = np.linalg.eigh(weights.T @ xx @ weights)  # of the predictions
    spread, directions = spread[::-1][:rank], directions[:, ::-1][:, :rank]
    cut = weights @ directions / np.sqrt(spread[0]) / scale[:, None]
    return cut, -x @ cut


def _score(weights: Array, bias: Array, clips: list[tuple[Array, Array]]) -> float:
    """Mean correlation of the opening with its best linear combination of the visemes, fitted on these clips' half."""
    outputs = [(windows(features) @ weights + bias, opening) for features, opening in clips]
    scores = []
    for fitted, scored in ((outputs[::2], outputs[1::2]), (outputs[1::2], outputs[::2])):
        if not fitted or not scored:
            continue
        x = np.concatenate([each for each, _ in fitted])
        y = np.concatenate([opening - np.nanmean(opening) for _, opening in fitted])
        known = np.isfinite(y)
        solution = np.linalg.lstsq(np.c_[x, np.ones(len(x))][known], y[known], rcond=None)[0]
        scores += [pearson(each @ solution[:-1], opening) for each, opening in scored]
    return round(float(np.mean(scores)), 3) if scores else float("nan")
