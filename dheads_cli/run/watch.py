"""What one sees of a model in training: held-out speech, drawn beside real, and how well the mouth follows it.

Read from `Watch.__call__` downwards.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dheads_cli import console, registry
from dheads_cli.data.mouth import MIN_FRAMES, mouth_opening, pearson
from dheads_cli.data.provenance import made_here
from dheads_cli.data.samples import partners
from dheads_cli.data.shards import ClipRef, Corpus
from dheads_cli.data.stored_clip import StoredClip, first_identity
from dheads_cli.files import write_atomically
from dheads_cli.model.build import Parts, build_component
from dheads_cli.model.speech import samples_of
from dheads_cli.protocols import LandmarkDetector
from dheads_cli.recipe import Recipe, Sample
from dheads_cli.recipe_section import Component
from dheads_cli.run.frames import draw_spoken
from dheads_cli.run.training_log import Drawn
from dheads_cli.run.watch_pictures import GRID_CLIPS, GRID_FRAMES, grid_png, talking_gif, write_talking

EXPENSIVE = 0.1  # share of the time, from which on it is told how to spend less


@dataclass
class Watch:
    """Held-out clips by which a model in training is watched; called with a step, it draws them.

    Attributes:
        recipe: the model's.
        parts: the model; it must hold the weights to draw with, in evaluation mode, when this is called.
        run_dir: where grid-STEP.png and talking-STEP.mp4 go.
        clips: the beginnings of a few clips, equally long.
        other_sounds: for each, the waveform of another clip [T]; none where no mouth is measured, or there is one clip.
        detector: finds landmarks in what is drawn; None: only the grid is made.
        settings: how frames are drawn.
        ended: when it was last called; before that, when it was made (time.monotonic).
    """

    recipe: Recipe
    parts: Parts
    run_dir: Path
    clips: list[StoredClip]
    other_sounds: list[NDArray[np.float32]]
    detector: LandmarkDetector | None
    settings: Sample
    ended: float = field(default_factory=time.monotonic)

    def __call__(self, step: int) -> Drawn:
        """Draw the clips, write the pictures, and say how well the mouths follow the sound."""
        before, began = self.ended, time.monotonic()
        n_clips, own = len(self.clips), [clip.waveform for clip in self.clips]
        frames = self.draw(self.clips * (2 if self.other_sounds else 1), own + self.other_sounds)
        drawn, shuffled = frames[:n_clips], frames[n_clips:]
        pictures = {"grid": grid_png(self.clips, drawn)}
        write_atomically(self.run_dir / f"grid-{step:06d}.png", pictures["grid"])
        if self.detector is None:
            self.ended = time.monotonic()
            return Drawn({"watch_s": self.ended - began}, pictures)
        tags = made_here(self.recipe.name, self.recipe.seed).tags(f"{self.recipe.name}, step {step}: real, drawn")
        write_talking(self.run_dir / f"talking-{step:06d}.mp4", self.clips, drawn, tags)
        pictures["talking"] = talking_gif(self.clips, drawn)
        values = measured(mouth_r(drawn, self.clips, self.detector), mouth_r(shuffled, self.clips, self.detector))
        self.ended = time.monotonic()
        values["watch_s"] = self.ended - began
        said = in_words(values, n_clips, best_before(self.run_dir / "log.jsonl", step))
        cost = cost_in_words(values["watch_s"], values["watch_s"] / (self.ended - before))
        console.info(f"step {step}: {said}; {cost}")
        return Drawn(values, pictures)

    def draw(self, clips: Sequence[StoredClip], sounds: Sequence[NDArray[np.float32]]) -> list[NDArray[np.uint8]]:
        """Clips' faces, from their first frames, saying these sounds: uint8 RGB [F, H, W, 3] of each.

        The noise is that of the clip's place among those watched, at each step and for each sound.
        """
        n_frames, at_once = len(clips[0].frames), self.settings.batch_size
        drawn: list[NDArray[np.uint8]] = []
        for first in range(0, len(clips), at_once):
            chosen = clips[first : first + at_once]
            frames = draw_spoken(
                self.recipe,
                self.parts,
                self.settings,
                np.stack([first_identity(clip) for clip in chosen]),
                sounds[first : first + at_once],
                [n_frames] * len(chosen),
                clips[0].fps,
                [self.recipe.seed + (first + i) % len(self.clips) for i in range(len(chosen))],
            )
            drawn += list(np.stack(list(frames), axis=1))
        return drawn


def watch_of(recipe: Recipe, parts: Parts, corpus: Corpus, refs: Sequence[ClipRef], run_dir: Path, step: int) -> Watch:
    """Choose the clips to watch, evenly over those held out, and make ready what measures them.

    Before a run's first step, pictures that another run left in its folder are removed.

    Args:
        recipe: the model's.
        parts: the model.
        corpus: holds the clips.
        refs: the held-out clips.
        run_dir: the run's folder.
        step: steps done.
    """
    stale = [".talking-*.part"] + ["grid-*.png", "talking-*.mp4"] * (step == 0)
    for path in (path for pattern in stale for path in run_dir.glob(pattern)):
        path.unlink(missing_ok=True)
    n_clips = recipe.train.watch_clips or GRID_CLIPS
    chosen = list(refs[:: max(len(refs) // n_clips, 1)][:n_clips])
    clips = [corpus.load(ref) for ref in chosen]
    wanted = round(recipe.train.watch_s * clips[0].fps) if recipe.train.watch_clips else GRID_FRAMES
    n_frames = min(wanted, *(len(clip.frames) for clip in clips))
    beginnings = [beginning(clip, n_frames) for clip in clips]
    settings = recipe.sample.model_copy(
        update={"sampler": with_fewer_steps(recipe.sample.sampler, recipe.train.watch_steps)}
    )
    if not recipe.train.watch_clips:
        return Watch(recipe, parts, run_dir, beginnings, [], None, settings)
    detector = build_component("landmark_detectors", recipe.evaluate.detector)
    others = [corpus.load(other_clip(ref, refs)).waveform for ref in chosen] if len(refs) > 1 else []
    return Watch(recipe, parts, run_dir, beginnings, others, detector, settings)


def beginning(clip: StoredClip, n_frames: int) -> StoredClip:
    """The first frames of a clip, with their sound."""
    length = samples_of(n_frames, clip.fps, clip.sample_rate)
    return replace(
        clip, frames=clip.frames[:n_frames], landmarks=clip.landmarks[:n_frames], waveform=clip.waveform[:length]
    )


def other_clip(ref: ClipRef, refs: Sequence[ClipRef]) -> ClipRef:
    """Whose sound a clip is given to see what is drawn without hearing: of the same speaker, where there is one."""
    others = partners({each.id: each.speaker for each in refs})
    if ref.id in others:
        return next(each for each in refs if each.id == others[ref.id])
    return refs[(refs.index(ref) + len(refs) // 2) % len(refs)]


def with_fewer_steps(sampler: Component, most: int) -> Component:
    """The sampler, with its option `steps` brought down to `most` where it has one that is larger."""
    option = registry.signature_of(registry.load("samplers", sampler.use)).get("steps")
    if option is None:
        return sampler
    steps = sampler.options.get("steps", option.default)
    if not isinstance(steps, int) or steps <= most:
        return sampler
    return Component.model_validate({"use": sampler.use, **sampler.options, "steps": most})


def mouth_r(
    drawn: Iterable[NDArray[np.uint8]], clips: Sequence[StoredClip], detector: LandmarkDetector
) -> list[float | None]:
    """Correlation of the mouth's opening in drawn clips with that in the real ones, as the metric `mouth` has it.

    None where too few frames show a face.
    """
    values: list[float | None] = []
    for frames, clip in zip(drawn, clips, strict=False):
        opening, real = mouth_opening(detector(frames)), mouth_opening(clip.landmarks)
        n_seen = (np.isfinite(opening) & np.isfinite(real)).sum()
        values.append(pearson(opening, real) if n_seen >= MIN_FRAMES else None)
    return values


def measured(own: Iterable[float | None], shuffled: Iterable[float | None]) -> dict[str, float]:
    """What is logged of the correlations with the clips' own sound and with another's; without a face, nothing."""
    with_own, with_other = ([r for r in each if r is not None] for each in (own, shuffled))
    values = {"mouth_clips": float(len(with_own))}
    if with_own:
        values |= {"mouth_r": float(np.mean(with_own)), "mouth_r_lowest": min(with_own)}
    if with_other:
        values["mouth_r_shuffled"] = float(np.mean(with_other))
    return values


def best_before(log: Path, step: int) -> tuple[float, int] | None:
    """The highest mean r in a run's log before a step, and its step; only where as many clips as ever had a face."""
    lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    found = [line for line in lines if "mouth_r" in line and line["step"] < step]
    if not found:
        return None
    best = max(found, key=lambda line: (line["mouth_clips"], line["mouth_r"]))
    return best["mouth_r"], best["step"]


def in_words(values: dict[str, float], n_clips: int, best: tuple[float, int] | None) -> str:
    """What was measured, as one reads it."""
    n_measured = int(values["mouth_clips"])
    if not n_measured:
        return "mouth r not measured: no face is found in what is drawn"
    missing = f", no face in {n_clips - n_measured} of {n_clips}" if n_measured < n_clips else ""
    said = f"mouth r {values['mouth_r']:.2f} (lowest {values['mouth_r_lowest']:.2f}{missing})"
    if "mouth_r_shuffled" in values:
        said += f", shuffled {values['mouth_r_shuffled']:.2f}"
    if best:
        said += f"; best before {best[0]:.2f} at step {best[1]}"
    return said


def cost_in_words(seconds: float, share: float) -> str:
    """What watching cost; where that is much, how to spend less."""
    hint = " (fewer train.watch_clips, watch_s or watch_steps take less)" if share > EXPENSIVE else ""
    return f"drawn in {seconds:.0f} s, {share:.0%} of the time{hint}"
