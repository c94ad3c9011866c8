"""A samples folder without a model: the clips of a made-up corpus, darker than they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dheads_cli.data.media import VideoWriter
from dheads_cli.data.samples import SampleRow, write_samples, write_settings
from dheads_cli.data.shards import Corpus


def make_samples(folder: Path, corpus: Path, recipe: str = "murky", darker: int = 20) -> Path:
    """One clip for each clip of a corpus's split `test`, each a little darker than the one before."""
    folder.mkdir(parents=True)
    stored, rows = Corpus(corpus), []
    for number, ref in enumerate(stored.clips("test")):
        real = stored.load(ref)
        height, width = real.frames.shape[1:3]
        with VideoWriter(folder / f"{ref.key}.mp4", real.fps, (width, height), audio=real.waveform) as writer:
            for frame in real.frames:
                writer.write((frame - np.minimum(frame, darker + number)).astype(np.uint8))
        rows.append(
            SampleRow(
                id=ref.key, file=f"{ref.key}.mp4", speaker=ref.speaker, split="test", corpus=str(corpus),
                clip_id=ref.id, audio_clip_id=ref.id, identity_frame=0, seed=0, kind="synced",
            )
        )  # fmt: skip
    write_samples(folder, rows)
    write_settings(folder, {"recipe": recipe, "step": 7, "checkpoint_sha256": "0123abcd"})
    return folder


def write_film(path: Path, levels: list[int], fps: float = 25, size: tuple[int, int] = (32, 32)) -> Path:
    """A film of gray frames without sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, fps, size) as writer:
        for level in levels:
            writer.write(np.full((size[1], size[0], 3), level, np.uint8))
    return path
