"""Frames from a trained model: what sampling, animating, sample grids and benchmarks have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, repeat
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import Parts, build_component, choose_precision
from dheads_cli.model.checkpoint import Trained
from dheads_cli.model.control_series import control_series
from dheads_cli.model.generate import Continuity, Drawer, NoiseStreams, draw_all, from_uint8, to_uint8
from dheads_cli.model.guidance import Guidance
from dheads_cli.model.speech import audio_windows, encode_speech
from dheads_cli.recipe import CONTROL_OF, Recipe, Sample
from dheads_cli.recipe_io import overridden
from dheads_cli.recipe_section import Component
from dheads_cli.run.control_files import ChosenControls

Quality = Literal["draft", "normal", "best"]


def chosen_settings(
    trained: Trained,
    sampler: Component | None = None,
    motion_noise: float | None = None,
    sets: Sequence[str] = (),
    quality: Quality = "normal",
    controls: ChosenControls | None = None,
) -> Sample:
    """The recipe's sampling settings with what the command line chose instead.

    Args:
        trained: the model.
        sampler: None is the recipe's for this quality.
        motion_noise: None is the recipe's.
        sets: `sample.KEY=VALUE` each, after the others: `sample.sampler.steps=5` is an option of the sampler chosen.
        quality: which of the recipe's samplers.
        controls: None are the recipe's.

    Raises:
        DheadsError: a setting is wrong, the network was not trained to be told of noise on motion frames, or not
            without a condition that is to guide it, or has not the control that is asked for.
    """
    asked = {name: value for name, value in vars(controls or ChosenControls()).items() if value is not None}
    check_controls(trained.recipe, asked)
    sampler = sampler or sampler_for(quality, trained.recipe.sample)
    chosen: dict[str, Any] = {"sampler": sampler, "motion_noise": motion_noise, **asked}
    chosen = {key: value for key, value in chosen.items() if value is not None}
    sample = trained.recipe.sample.model_copy(update=chosen)
    settings = overridden(trained.recipe.model_copy(update={"sample": sample}), sets, "sample").sample
    check_motion_noise(trained.recipe, settings.motion_noise)
    return settings


def sampler_for(quality: Quality, sample: Sample) -> Component:
    """A recipe's sampler for a quality: the one that it names for it, or its usual one with fewer or more steps.

    Raises:
        DheadsError: it names none, and its usual one has no option `steps`.
    """
    usual = sample.sampler
    if named := {"draft": sample.draft_sampler, "normal": usual, "best": sample.best_sampler}[quality]:
        return named
    options = registry.signature_of(registry.load("samplers", usual.use))
    steps = usual.options.get("steps", options["steps"].default if "steps" in options else None)
    if not isinstance(steps, int):
        raise DheadsError(
            f"--quality {quality}: the model's sampler {usual.use} has no option steps, and its recipe names no other; "
            f"--set sample.{quality}_sampler=NAME does"
        )
    steps = 2 * steps if quality == "best" else min(steps, max(2, steps // 2))
    return Component.model_validate({"use": usual.use, **usual.options, "steps": steps})


def check_controls(recipe: Recipe, asked: Iterable[str]) -> None:
    """Refuse options that ask for a control that the model has not.

    Raises:
        DheadsError: the first of them.
    """
    for name in asked:
        if CONTROL_OF[name] not in recipe.model.controls:
            raise DheadsError(
                f"--{name}: {recipe.name} has no such control (it was trained without model.controls: "
                f"[{CONTROL_OF[name]}]); leave it out"
            )


def check_motion_noise(recipe: Recipe, motion_noise: float | list[float]) -> None:
    """Refuse levels of noise that the network can't be told.

    Raises:
        DheadsError: what is wrong with them.
    """
    if isinstance(motion_noise, list):
        if not recipe.model.motion_noise_per_frame:
            raise DheadsError(
                f"motion noise {motion_noise}: {recipe.name} is told one level for all motion frames "
                "(it was trained without model.motion_noise_per_frame); give one number"
            )
        if len(motion_noise) != recipe.model.n_motion_frames:
            raise DheadsError(
                f"motion noise {motion_noise}: {recipe.name} has {recipe.model.n_motion_frames} motion frames: "
                "give one number, or one for each, oldest first"
            )
    elif motion_noise and not recipe.model.noised_motion:
        raise DheadsError(f"motion noise {motion_noise}: {recipe.name} does not know model.noised_motion; use 0")


def draw_frames(
    recipe: Recipe,
    parts: Parts,
    settings: Sample,
    identity: NDArray[np.uint8],
    windows: Iterable[Tensor],
    seeds: Sequence[int],
) -> Iterator[Tensor]:
    """Draw the frames of B clips side by side, on the device where the network is.

    Args:
        recipe: what the model is.
        parts: the model, in evaluation mode.
        settings: how to draw.
        identity: identity frames, uint8 RGB [B, H, W, 3].
        windows: audio windows, one [B, K, D] for each frame.
        seeds: one for each clip.

    Yields:
        One frame of each clip [B, 3, H, W] in [-1, 1], as soon as it is drawn.
    """
    drawer = drawer_of(recipe, parts, settings)
    device = next(parts.unet.parameters()).device
    frame = from_uint8(torch.from_numpy(identity).to(device))
    told = controls_for(recipe, settings, seeds, device)
    return draw_all(drawer, frame, drawer.begin(frame), windows, NoiseStreams(seeds, device), controls=told)


def controls_for(
    recipe: Recipe, settings: Sample, seeds: Sequence[int], device: torch.device, first: int = 0
) -> Iterator[Tensor | None]:
    """What the frames of B clips are to show besides their speech, [B, n_controls] each, without end.

    Args:
        recipe, settings, seeds: see draw_frames.
        device: where the network is.
        first: the frame to begin with.
    """
    names, fps = recipe.model.controls, recipe.preprocess.fps
    if not names:
        return repeat(None)
    series = [control_series(names, settings.blinks, settings.head, fps, seed) for seed in seeds]
    return (torch.stack(each).to(device) for each in islice(zip(*series, strict=True), first, None))


def drawer_of(recipe: Recipe, parts: Parts, settings: Sample) -> Drawer:
    """What draws the frames of a model.

    Args:
        recipe, parts, settings: see draw_frames.
    """
    return Drawer(
        parts.unet,
        parts.schedule,
        build_component("samplers", settings.sampler),
        recipe.model.prediction,
        continuity_of(settings),
        Guidance(settings.guidance.scales, settings.guidance.interval),
        choose_precision(recipe.train.precision, next(parts.unet.parameters()).device),
    )


def draw_spoken(
    recipe: Recipe,
    parts: Parts,
    settings: Sample,
    identity: NDArray[np.uint8],
    waveforms: Sequence[NDArray[np.float32]],
    n_frames: Sequence[int],
    fps: float,
    seeds: Sequence[int],
) -> Iterator[NDArray[np.uint8]]:
    """Draw B clips saying their whole recordings, side by side.

    Args:
        recipe, parts, settings, identity, seeds: see draw_frames.
        waveforms: of each clip [T], at the audio encoder's rate.
        n_frames: of each clip; all are drawn to the longest's end, and what lies past a clip's own means nothing.
        fps: frames a second.

    Returns:
        One frame of each clip, uint8 RGB [B, H, W, 3], as soon as it is drawn; the speech is encoded before.
    """
    device, longest = next(parts.unet.parameters()).device, max(n_frames)
    embeddings = []
    for waveform, length in zip(waveforms, n_frames, strict=True):
        own = encode_speech(parts.audio_encoder, torch.from_numpy(waveform).to(device), length, fps)
        embeddings.append(torch.cat([own, own[-1:].expand(longest - length, -1)]))
    windows = audio_windows(torch.stack(embeddings), recipe.model.audio_context)
    frames = draw_frames(recipe, parts, settings, identity, windows, seeds)
    return (to_uint8(frame).numpy() for frame in frames)


def continuity_of(settings: Sample) -> Continuity:
    """How a frame takes up from those before it, as the recipe's section `sample` has it."""
    level = settings.motion_noise
    motion_noise = tuple(level) if isinstance(level, list) else level
    return Continuity(motion_noise, settings.warm_start, settings.stabilize_every, settings.anchor)
