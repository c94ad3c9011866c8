"""Pictures of a model in training: real frames above the frames it draws from the same sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dheads_cli.data.shards import Corpus
from dheads_cli.model.build import Parts
from dheads_cli.model.generate import to_uint8
from dheads_cli.model.speech import audio_windows, encode_speech
from dheads_cli.recipe import Recipe
from dheads_cli.run.frames import draw_frames

N_CLIPS, N_FRAMES, EVERY = 4, 32, 4  # clips in a grid, frames drawn of each, every which of them is shown


def save_sample_grid(path: Path, recipe: Recipe, parts: Parts, corpus: Corpus) -> None:
    """Draw the beginnings of a few validation clips from their first frames; two rows of PNG for each: real, drawn.

    The modules must hold the weights to sample with, in evaluation mode.
    """
    refs = corpus.clips(recipe.data.val_split)
    clips = [corpus.load(ref) for ref in refs[:: max(len(refs) // N_CLIPS, 1)][:N_CLIPS]]
    device = next(parts.unet.parameters()).device
    n_frames = min(N_FRAMES, *(len(clip.frames) for clip in clips))
    identity = np.stack([clip.frames[0] for clip in clips])
    sounds = [torch.from_numpy(clip.waveform).to(device) for clip in clips]
    embeddings = torch.stack([encode_speech(parts.audio_encoder, sound, n_frames, clips[0].fps) for sound in sounds])
    windows = audio_windows(embeddings, recipe.model.audio_context)
    seeds = [recipe.seed + i for i in range(len(clips))]
    frames = draw_frames(recipe, parts, recipe.sample, identity, windows, seeds)
    drawn = np.stack([to_uint8(frame).numpy() for frame in frames], axis=1)  # [B, F, H, W, 3]
    rows = []
    for clip, generated in zip(clips, drawn, strict=True):
        rows += [np.hstack(list(clip.frames[:n_frames:EVERY])), np.hstack(list(generated[::EVERY]))]
    Image.fromarray(np.vstack(rows)).save(path)
