"""The animate loop with a clock on each of its parts, for `dheads bench`."""

from __future__ import annotations

import wave
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dheads_cli.data import media
from dheads_cli.model.checkpoint import Trained
from dheads_cli.model.generate import to_uint8
from dheads_cli.model.speech import encode_stream, frames_of, samples_of, stream_windows
from dheads_cli.run.animate_clip import SOUND_RATE, scaled
from dheads_cli.run.device_speed import Clock
from dheads_cli.run.frames import chosen_settings, draw_frames
from dheads_cli.run.recording import listen

Item = TypeVar("Item")

TRIAL_FRAMES = 2


@dataclass
class Pass:
    """Seconds of one pass of the animate loop."""

    total: float = 0.0
    audio: float = 0.0  # encoding the speech
    network: float = 0.0  # forwards of the U-Net
    draw: float = 0.0  # waiting for frames: audio, network, and the sampler's arithmetic and noise
    n_forwards: int = 0  # of one frame: guidance asks for several at once

    @property
    def shares(self) -> dict[str, float]:
        """Of the total; they add up to 1. Video is scaling, encoding, and closing the file."""
        parts = {"audio": self.audio, "network": self.network, "sampler": self.draw - self.audio - self.network}
        return {name: seconds / self.total for name, seconds in (parts | {"video": self.total - self.draw}).items()}


class AnimateLoop:
    """The loop of `run/animate.py`, from speech to a closed video file, with a clock on each of its parts.

    Calling it makes one pass: all of the speech, or as many frames as `max_seconds` are enough for.

    Args:
        trained: the model.
        crop: the face uint8 [H, W, 3].
        speech: file with sound.
        out: the video, replaced by every pass.
        size: its width and height, px.
        max_seconds: of a pass.
        clock: of the model's device.
    """

    def __init__(
        self,
        trained: Trained,
        crop: NDArray[np.uint8],
        speech: Path,
        out: Path,
        size: int,
        max_seconds: float,
        clock: Clock,
    ) -> None:
        self.trained, self.crop, self.out, self.size, self.clock = trained, crop, out, size, clock
        self.settings = chosen_settings(trained)
        self.fps, self.rate = trained.recipe.preprocess.fps, trained.parts.audio_encoder.sample_rate
        recording = listen(speech, self.rate, self.fps)
        self.waveform = np.concatenate(list(recording.heard(self.settings.speech_dbfs)))
        self.sound = np.concatenate(list(recording.sound(SOUND_RATE)))
        self.passes: list[Pass] = []
        n_all = frames_of(len(self.waveform), self.fps, self.rate)
        self.n_frames = min(TRIAL_FRAMES, n_all)
        self()
        trial = self.passes.pop()
        self.n_frames = max(1, min(n_all, int(max_seconds / (trial.draw - trial.audio) * self.n_frames)))

    def __call__(self) -> None:
        device, clock, done = self.clock.device, self.clock, Pass()
        recipe, parts = self.trained.recipe, self.trained.parts
        waveform = self.waveform[: samples_of(self.n_frames, self.fps, self.rate)]
        sound = media.fit_length(self.sound, samples_of(self.n_frames, self.fps, SOUND_RATE))
        began = clock()
        embeddings = encode_stream(parts.audio_encoder, torch.from_numpy(waveform).to(device), self.n_frames, self.fps)
        windows = stream_windows(timed(embeddings, clock, done, "audio"), recipe.model.audio_context)
        frames = draw_frames(recipe, parts, self.settings, self.crop[None], windows, [recipe.seed])
        size = (self.size, self.size)
        with (
            timed_forwards(parts.unet, clock, done),
            media.VideoWriter(self.out, self.fps, size, sound, SOUND_RATE, overwrite=True) as video,
        ):
            for frame in timed(frames, clock, done, "draw"):
                video.write(scaled(to_uint8(frame)[0].numpy(), self.size))
        done.total = clock() - began
        self.passes.append(done)


def timed(items: Iterable[Item], clock: Clock, done: Pass, part: str) -> Iterator[Item]:
    """The items; the seconds that they take to come are added to one part of a pass."""
    iterator, end = iter(items), object()
    while True:
        began = clock()
        item = next(iterator, end)
        setattr(done, part, getattr(done, part) + clock() - began)
        if item is end:
            return
        yield cast(Item, item)


@contextmanager
def timed_forwards(unet: nn.Module, clock: Clock, done: Pass) -> Iterator[None]:
    """Time and count the network's forwards inside this block; one of a batch of two counts as two."""
    began = 0.0

    def before(*_: object) -> None:
        nonlocal began
        began = clock()

    def after(_: nn.Module, given: tuple[Any, ...], __: object) -> None:
        done.network += clock() - began
        done.n_forwards += len(given[0])

    hooks = [unet.register_forward_pre_hook(before), unet.register_forward_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def write_speech(path: Path, seconds: float = 3.0) -> None:
    """Write a sound with the rhythm and spectrum of speech: a voice of 120 Hz in four syllables a second."""
    t = np.arange(round(seconds * SOUND_RATE)) / SOUND_RATE
    phase = 2 * np.pi * 120 * t + 3 * np.sin(2 * np.pi * 0.7 * t)
    voice = sum(np.sin(k * phase) / k for k in range(1, 30))
    syllables = np.clip(np.sin(2 * np.pi * 4 * t), 0, None)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_RATE)
        file.writeframes((voice * syllables * 8000).astype("<i2").tobytes())
