"""The recipe: every setting of a model's life, in the order its commands need them.

Only the schema is here, its sections `data`, `model` and `train` in recipe_data.py, recipe_model.py and
recipe_train.py; reading files, overrides, origins and error positions are in recipe_io.py. `run/` takes the recipe
apart: models and components get plain arguments.
"""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dheads_cli.recipe_data import Data
from dheads_cli.recipe_model import Model
from dheads_cli.recipe_section import Component, Description, Fraction, Name, NoiseLevel, Positive, Section, Seed
from dheads_cli.recipe_train import Train


class Preprocess(Section):
    """From a corpus of videos to shards of aligned faces."""

    size: int = Field(128, ge=32, le=1024, multiple_of=8, description="Width and height of the face crops, px.")
    fps: Positive = Field(25, description="Frames a second of the clips; other rates are resampled.")
    sample_rate: Positive = Field(16000, description="Sample rate of the clips' sound, Hz.")
    detector: Component = Field(Component(use="mediapipe"), description="Landmark detector.")
    which_face: Literal["speaking", "largest", "central"] = Field(
        "speaking",
        description="Which of several faces: the one whose lips move with the sound (the largest, where that is not "
        "clear), the largest, or the most central.",
    )
    smooth_frames: Positive = Field(7, description="Width of the window that smooths landmarks in time, frames; odd.")
    max_gap_frames: int = Field(5, ge=0, description="Longest run of frames without a face that is interpolated.")
    margin_side: Fraction = Field(0.11, description="Margin left and right of the mean face, share of the width.")
    margin_above: Fraction = Field(0.335, description="Margin above the mean face's brows, share of the height.")
    margin_below: Fraction = Field(0.155, description="Margin below the mean face's chin, share of the height.")
    min_frames: Positive = Field(16, description="Clips shorter than this are skipped.")
    clips_per_shard: Positive = Field(256, description="Clips in one tar shard.")
    layout: Literal["auto", "grid", "lrw", "crema", "folder"] = Field(
        "auto", description="How the corpus lies on disk; auto looks at it and says what it found."
    )
    test_speakers: list[str] = Field([], description="Speakers held out wholly, as the split `test-speakers`.")
    test_fraction: Fraction = Field(
        0.1, description="Share of the other speakers' clips held out as the split `test`, where the corpus has none."
    )
    val_fraction: Fraction = Field(0.02, description="Share held out likewise as the split `val`.")
    workers: int = Field(0, ge=0, description="Processes of the local executor; 0 takes one for each core.")
    clip_timeout_s: float = Field(
        300.0,
        gt=0,
        description="A clip that takes longer is skipped as hung, s: many times what the longest clip of the corpus "
        "takes on a busy machine, for it is to catch decoders that never end and not to judge slow ones.",
    )
    executor: Literal["local", "ray"] = Field("local", description="Processes on this machine, or a Ray cluster.")
    ray_address: str | None = Field(
        None, description="Address of the Ray cluster; None takes RAY_ADDRESS, and without it a Ray on this machine."
    )

    @property
    def margins(self) -> tuple[float, float, float]:
        """Side, above and below; see align.mean_face_in_crop."""
        return self.margin_side, self.margin_above, self.margin_below


class Guidance(Section):
    """How strongly each condition counts when frames are drawn; 1 is off, and every other costs an evaluation a step.

    docs/SAMPLERS.md has the equation.
    """

    audio: float = Field(1.0, ge=0, description="Scale of the audio; needs a model with train.audio_drop.")
    identity: float = Field(1.0, ge=0, description="Scale of the identity frame; needs train.identity_drop.")
    motion: float = Field(1.0, ge=0, description="Scale of the motion frames; needs train.motion_drop.")
    interval: list[Fraction] = Field(
        [0.0, 1.0],
        min_length=2,
        max_length=2,
        description="Lowest and highest step that is guided, as shares of the schedule; the others cost no evaluation.",
    )

    @property
    def scales(self) -> dict[str, float]:
        """By condition."""
        return self.model_dump(exclude={"interval"})

    @field_validator("interval")
    @classmethod
    def _in_order(cls, interval: list[float]) -> list[float]:
        if interval[0] > interval[1]:
            told = {"low": interval[0], "high": interval[1]}
            raise PydanticCustomError("misfit", "must begin at the lower step: [{high}, {low}]", told)
        return interval


MAX_BLINK_RATE, MAX_OPENNESS, MAX_TURN = 2.0, 1.5, 60.0  # blinks a second; of the usual; degrees
Openness = Annotated[float, Field(ge=0, le=MAX_OPENNESS)]
Degrees = Annotated[float, Field(ge=-MAX_TURN, le=MAX_TURN)]
BlinkRate = Annotated[float, Field(ge=0, le=MAX_BLINK_RATE)]
Eyes = Annotated[list[Openness], Field(min_length=2, max_length=2)]
Turn = Annotated[list[Degrees], Field(min_length=3, max_length=3)]
Blinks: TypeAlias = Literal["natural", "none"] | BlinkRate | Annotated[list[Eyes], Field(min_length=1)]
Head: TypeAlias = Literal["still", "natural"] | Annotated[list[Turn], Field(min_length=1)]


class Sample(Section):
    """Drawing videos from a trained model."""

    sampler: Component = Field(Component(use="ddpm"), description="Sampler.")
    draft_sampler: Component | None = Field(
        None, description="Of `dheads animate --quality draft`; None is `sampler` with half its steps, at least two."
    )
    best_sampler: Component | None = Field(
        None, description="Of `dheads animate --quality best`; None is `sampler` with twice its steps."
    )
    motion_noise: NoiseLevel | list[NoiseLevel] = Field(
        0.0,
        description="Noise put on motion frames, sigma; the network is told. A list has one for each motion frame, "
        "oldest first (model.motion_noise_per_frame).",
    )
    warm_start: Fraction | None = Field(
        None,
        gt=0,
        description="Begin a frame from the last one, noised to this share of the steps; None begins from pure noise.",
    )
    stabilize_every: Positive | None = Field(
        None, description="Every so many frames the identity frame takes the oldest motion frame's place; None never."
    )
    anchor: Fraction = Field(
        0.0,
        description="Bring each frame's mean and spread of colour outside the mouth back to the identity frame's by "
        "this share.",
    )
    max_stray: float | None = Field(
        20.0,
        gt=0,
        description="`dheads animate` stops where drawn frames stray further than this from the photo's colours "
        "outside the lower face, in levels of 255 (docs/MEDIA.md); null never stops: for models that draw other "
        "backgrounds.",
    )
    close_mouth: bool | Literal["learned"] = Field(
        False,
        description="`dheads animate` closes a photo's open mouth first (true), for models that keep a smile's teeth; "
        "learned: the model has learned from photos of smiles to close them itself.",
    )
    blinks: Blinks = Field(
        "natural",
        description="How the eyes move, where model.controls has eyes: natural (0.3 blinks a second), none, blinks a "
        "second, or each frame's openness of the eyes on the picture's left and right, 0 closed and 1 open.",
    )
    head: Head = Field(
        "still",
        description="How the head turns, where model.controls has head: still, natural, or each frame's yaw, pitch and "
        "roll against the identity frame, degrees.",
    )
    guidance: Guidance = Field(Guidance(), description="Classifier-free guidance, one scale for each condition.")
    speech_dbfs: float | None = Field(
        -12.6,
        ge=-60,
        le=0,
        description="Level that `dheads animate` brings a recording to before the network hears it, dB below full "
        "scale: that of the corpus (manifest, speech_dbfs); the default is GRID's. None leaves it as it is.",
    )
    batch_size: Positive = Field(12, description="Clips drawn together.")


class Evaluate(Section):
    """Scoring samples."""

    metrics: list[Component] = Field(
        [Component(use=name) for name in ("mouth", "lmd", "ssim", "psnr")], description="Metrics, in table order."
    )
    detector: Component = Field(Component(use="mediapipe"), description="Landmark detector for both sides.")


class Recipe(Section):
    """One talking-head model: its corpus, network, training, sampling and scoring."""

    task: Literal["video"] = Field("video", description="What is learned: video, a face that speaks.")
    name: Name
    description: Description = ""
    seed: Seed = 0
    preprocess: Preprocess = Field(Preprocess(), description="Corpus to shards.")
    data: Data = Field(Data(), description="Which shards to read.")
    model: Model = Field(Model(), description="Network and diffusion.")
    train: Train = Field(Train(), description="Objective and optimiser.")
    sample: Sample = Field(Sample(), description="Drawing videos.")
    evaluate: Evaluate = Field(Evaluate(), description="Scoring.")

    @field_validator("train")
    @classmethod
    def _batches_hold_whole_clips(cls, train: Train, info: ValidationInfo) -> Train:
        data = info.data.get("data")
        if data and train.batch_size % data.targets_per_clip:
            text = "must be a multiple of data.targets_per_clip={n}, not {size}"
            told = {"n": data.targets_per_clip, "size": train.batch_size, "below": ("train", "batch_size")}
            raise PydanticCustomError("misfit", text, told)
        return train

    @field_validator("sample")
    @classmethod
    def _guides_by_what_can_be_dropped(cls, sample: Sample, info: ValidationInfo) -> Sample:
        train, model = info.data.get("train"), info.data.get("model")
        for condition in (name for name, scale in sample.guidance.scales.items() if scale != 1):
            told = {"condition": condition, "below": ("sample", "guidance", condition)}
            if condition == "motion" and model and not model.n_motion_frames:
                raise PydanticCustomError("misfit", "must be 1 (off): model.n_motion_frames is 0", told)
            if train and not getattr(train, f"{condition}_drop"):
                text = "must be 1 (off): the model is never trained without {condition} (train.{condition}_drop is 0)"
                raise PydanticCustomError("misfit", text, told)
        return sample

    @field_validator("sample")
    @classmethod
    def _asks_for_controls_that_are_there(cls, sample: Sample, info: ValidationInfo) -> Sample:
        model = info.data.get("model")
        for name, control in CONTROL_OF.items():
            usual = Sample.model_fields[name].default
            if model and control not in model.controls and getattr(sample, name) != usual:
                text = "must be {usual}: model.controls has no {control}"
                raise PydanticCustomError(
                    "misfit", text, {"usual": usual, "control": control, "below": ("sample", name)}
                )
        return sample


CONTROL_OF = {"blinks": "eyes", "head": "head"}  # setting of `sample` -> the one of model.controls that it takes

# Which registry group a component of each recipe path comes from.
COMPONENT_PATHS: dict[str, str] = {
    "preprocess.detector": "landmark_detectors",
    "model.conditioning": "conditioning",
    "model.audio_encoder": "audio_encoders",
    "train.rollout_sampler": "samplers",
    "sample.sampler": "samplers",
    "sample.draft_sampler": "samplers",
    "sample.best_sampler": "samplers",
    "evaluate.metrics": "metrics",
    "evaluate.detector": "landmark_detectors",
}
