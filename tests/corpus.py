"""A small made-up corpus in the real on-disk format: a face of flat colours whose mouth opens with the sound."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dheads_cli.data.manifest import ManifestRow, write_rows
from dheads_cli.data.shard_writer import ShardWriter
from dheads_cli.data.stored_clip import StoredClip, encode_sample

SIZE, FPS, RATE = 32, 25.0, 16000


def make_clip(number: int, split: str, n_frames: int = 20, size: int = SIZE) -> StoredClip:
    """A clip whose colour is its own, with a dark mouth that is open where the sound is loud."""
    rng = np.random.default_rng(number)
    opening = (np.sin(np.arange(n_frames) * 0.9 + number) + 1) / 2  # [F], 0 ... 1
    frames = np.empty((n_frames, size, size, 3), np.uint8)
    frames[:] = rng.integers(100, 200, 3)
    landmarks = np.zeros((n_frames, 68, 2), np.float32)
    landmarks[:, :, 0] = np.linspace(0.2, 0.8, 68) * size
    landmarks[:, :, 1] = 0.4 * size
    landmarks[:, 48:, 0] = np.linspace(0.35, 0.65, 20) * size
    for k in range(n_frames):
        half = 1 + 3 * opening[k]
        top, bottom = round(0.7 * size - half), round(0.7 * size + half)
        frames[k, top:bottom, round(0.35 * size) : round(0.65 * size)] = 20
        landmarks[k, 48:58, 1], landmarks[k, 58:, 1] = top, bottom
        landmarks[k, 61:64, 1] = top  # the inner upper lip
    loudness = np.repeat(opening, round(RATE / FPS)).astype(np.float32)
    wave = 0.3 * loudness * rng.standard_normal(len(loudness)).astype(np.float32)
    return StoredClip(
        f"s{number % 2}/clip{number}", f"s{number % 2}", split, frames, np.clip(wave, -1, 1), landmarks, FPS, RATE, {}
    )


def make_corpus(folder: Path, splits: dict[str, int], n_frames: int = 20, size: int = SIZE) -> Path:
    """Write a corpus with so many clips in each split."""
    which = [split for split, n_clips in splits.items() for _ in range(n_clips)]
    return write_corpus(folder, [make_clip(number, split, n_frames, size) for number, split in enumerate(which)])


def write_corpus(folder: Path, clips: Sequence[StoredClip]) -> Path:
    """Write clips as a preprocessed corpus, a shard for each split."""
    folder.mkdir(parents=True)
    rows = []
    for split in dict.fromkeys(clip.split for clip in clips):
        shard = ShardWriter(folder / f"{split}-000000.tar")
        for clip in (clip for clip in clips if clip.split == split):
            key = clip.id.replace("/", "_")
            places, digest = shard.add(key, encode_sample(clip))
            rows.append(
                ManifestRow(
                    clip.id, key, split, clip.speaker, f"{clip.id}.mp4", "ok", shard=shard.path.name,
                    n_frames=len(clip.frames), members=places, sha256=digest,
                )
            )  # fmt: skip
        shard.close()
    write_rows(folder / "manifest.jsonl", rows)
    return folder
