"""Stored clips: what goes in comes out."""

from __future__ import annotations

import numpy as np
from corpus import make_clip

from dheads_cli.data.stored_clip import decode_sample, encode_sample


def test_a_clip_comes_back_as_it_was() -> None:
    clip = make_clip(3, "train")
    back = decode_sample(encode_sample(clip))
    assert (back.id, back.speaker, back.split, back.fps, back.sample_rate) == ("s1/clip3", "s1", "train", 25, 16000)
    assert back.frames.shape == clip.frames.shape
    assert np.abs(back.frames.astype(int) - clip.frames).mean() < 3
    assert np.abs(back.waveform - clip.waveform).max() < 2**-14
    assert back.landmarks.dtype == np.float32
    assert np.abs(back.landmarks - clip.landmarks).max() < 0.02
    assert len(back.waveform) == round(len(back.frames) / back.fps * back.sample_rate)
