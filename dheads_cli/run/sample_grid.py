"""Pictures of a model in training: real frames above the frames it draws from the same sound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dheads_cli.data.shards import Corpus
from dheads_cli.model.build import Parts, build_component
from dheads_cli.model.generate import NoiseStreams, from_uint8, generate, to_uint8
from dheads_cli.model.speech import audio_windows, encode_speech
from dheads_cli.recipe import Recipe

N_CLIPS, N_FRAMES, EVERY = 4, 32, 4  # clips in a grid, frames drawn of each, every which of them is shown


def save_sample_grid(path: Path, recipe: Recipe, parts: Parts, corpus: Corpus, precision: torch.dtype) -> None:
    """Draw the beginnings of a few validation clips from their first frames; two rows of PNG for each: real, drawn.

    The modules must hold the weights to sample with, in evaluation mode.
    """
    refs = corpus.clips(recipe.data.val_split)
    clips = [corpus.load(ref) for ref in refs[:: max(len(refs) // N_CLIPS, 1)][:N_CLIPS]]
    device = next(parts.unet.parameters()).device
    n_frames = min(N_FRAMES, *(len(clip.frames) for clip in clips))
    identity = torch.from_numpy(np.stack([clip.frames[0] for clip in clips])).to(device)
    sounds = [torch.from_numpy(clip.waveform).to(device) for clip in clips]
    embeddings = torch.stack([encode_speech(parts.audio_encoder, sound, n_frames, clips[0].fps) for sound in sounds])
    frames = generate(
        parts.unet,
        parts.schedule,
        build_component("samplers", recipe.sample.sampler),
        recipe.model.prediction,
        from_uint8(identity),
        audio_windows(embeddings, recipe.model.audio_context),
        motion_noise=recipe.sample.motion_noise,
        noise=NoiseStreams([recipe.seed + i for i in range(len(clips))], device),
        precision=precision,
    )
    drawn = np.stack([to_uint8(frame).numpy() for frame in frames], axis=1)  # [B, F, H, W, 3]
    rows = []
    for clip, generated in zip(clips, drawn, strict=True):
        rows += [np.hstack(list(clip.frames[:n_frames:EVERY])), np.hstack(list(generated[::EVERY]))]
    Image.fromarray(np.vstack(rows)).save(path)
