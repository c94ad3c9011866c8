"""The recipe: every setting of a model's life, in the order its commands need them.

Only the schema is here, its section `train` in recipe_train.py; reading files, overrides, origins and error positions
are in recipe_io.py. `run/` takes the recipe apart: models and components get plain arguments.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dheads_cli.recipe_section import Component, Fraction, NoiseLevel, Positive, Section
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


class Limits(Section):
    """Least and most of a measure."""

    min: float | None = Field(None, description="Clips with less are left out; None is no limit.")
    max: float | None = Field(
        None, validate_default=True, description="Clips with more are left out; None is no limit."
    )

    @field_validator("max")
    @classmethod
    def _some_value_fits(cls, most: float | None, info: ValidationInfo) -> float | None:
        least = info.data.get("min")
        if "min" in info.data and least is None and most is None:
            raise PydanticCustomError("misfit", "is not given, and no min either: give one of them, such as {min: 60}")
        if least is not None and most is not None and most < least:
            raise PydanticCustomError("misfit", "is below min, so no clip fits")
        return most


class Shards(Section):
    """Which clips of a preprocessed corpus a run reads; the same for every task."""

    path: str = Field("data/grid-64", description="Folder that `dheads preprocess` wrote.")
    train_split: str = Field("train", description="Split to train on.")
    val_split: str = Field("val", description="Split that training is watched by: its loss, its samples.")
    cache_gb: float = Field(4.0, ge=0, description="Memory for decoded clips, GiB; the rest is decoded when needed.")
    workers: int = Field(
        0,
        ge=0,
        description="Threads that decode clips and make batches ahead, for each process; what they make is the same "
        "for any number. 0 takes one where a CPU trains, else one for each core, up to 8.",
    )
    embeddings: Literal["auto", "off"] = Field(
        "auto", description="auto keeps a frozen audio encoder's embeddings beside the shards; off computes them anew."
    )
    keep: dict[str, Limits] = Field(
        {},
        description="Clips of both splits that are used: measure -> {min: ..., max: ...}, such as face_height_px, "
        "sharpness, av_lag_frames (see the manifest's `quality`).",
    )

    @property
    def limits(self) -> dict[str, tuple[float | None, float | None]]:
        """`keep` as plain pairs."""
        return {name: (limits.min, limits.max) for name, limits in self.keep.items()}


class Data(Shards):
    """Which shards a run reads, and how often each speaker is drawn."""

    cache: Literal["lru", "ram"] = Field(
        "lru",
        description="lru decodes clips when they are drawn and keeps those drawn last, up to cache_gb; ram decodes all "
        "before the first step, and refuses where cache_gb is too small for them.",
    )
    targets_per_clip: Positive = Field(
        1,
        description="Target frames drawn from each clip that is chosen for a batch, which must be a multiple of it: n "
        "need an n-th of the decoding, where the clips do not stay in memory.",
    )
    speaker_balance: Fraction = Field(
        0.5, description="A speaker with n clips is drawn in proportion to n^(1 - speaker_balance)."
    )


class Model(Section):
    """The U-Net and its diffusion."""

    size: int = Field(128, ge=32, le=1024, description="Width and height of the frames, px.")
    patch_size: Literal[1, 2, 4] = Field(1, description="Pixel-unshuffle factor before the first convolution.")
    channels: int = Field(256, ge=32, multiple_of=32, description="Width of the first level.")
    channel_mult: list[Positive] = Field(
        [1, 2, 3], validate_default=True, description="Width of each level as a multiple of `channels`."
    )
    n_res_blocks: Positive = Field(2, description="Residual blocks a level going down; one more going up.")
    attention_levels: list[int] = Field(
        [],
        validate_default=True,
        description="Levels (0 is the finest) with self-attention, besides the middle block's.",
    )
    head_dim: Positive = Field(64, description="Channels of one attention head, where n_heads is not given.")
    n_heads: Positive | None = Field(
        None, validate_default=True, description="Attention heads; None takes channels / head_dim."
    )
    dropout: Fraction = Field(0.1, description="Dropout in the residual blocks.")
    conditioning: Component = Field(Component(use="adagn"), description="How time and speech reach the network.")
    audio_encoder: Component = Field(Component(use="whisper"), description="Speech to one embedding a frame.")
    n_motion_frames: int = Field(2, ge=0, le=8, description="m_x: frames before the target that the network sees.")
    audio_context: int = Field(2, ge=0, le=16, description="m_y: audio embeddings on either side of the target's.")
    grayscale_motion: bool = Field(False, description="Show motion frames in gray, so that identity is x_Id's alone.")
    noised_motion: bool = Field(False, description="Tell the network the level of noise on its motion frames.")
    motion_noise_per_frame: bool = Field(
        False,
        validate_default=True,
        description="Each motion frame has a level of noise of its own, and the network is told each "
        "(Diffusion Forcing); needs noised_motion.",
    )
    identity_last: bool = Field(
        False, description="Input channels: noised, motion, identity (the release); else noised, identity, motion."
    )
    time_max_period: float = Field(
        1e4, gt=1, description="Longest period of the step's sinusoids, over 2 pi; 10 gives the authors' frequencies."
    )
    prediction: Literal["eps", "identity_residual"] = Field(
        "eps", description="Output: eps (the paper), or x_0 as the identity frame plus the output."
    )
    learned_variance: bool = Field(True, description="Predict the variance interpolation nu in three more channels.")
    schedule: Literal["cosine", "linear"] = Field("cosine", description="Noise schedule; the paper's is cosine.")
    n_timesteps: Positive = Field(1000, description="T: steps of the full diffusion.")

    # Field by field, so that these are reported beside all other mistakes of the section.

    @field_validator("motion_noise_per_frame")
    @classmethod
    def _levels_are_told(cls, per_frame: bool, info: ValidationInfo) -> bool:
        if per_frame and info.data.get("noised_motion") is False:
            raise PydanticCustomError("misfit", "needs noised_motion: true: the network is told no level without it")
        return per_frame

    @field_validator("channel_mult")
    @classmethod
    def _levels_halve_the_size(cls, channel_mult: list[int], info: ValidationInfo) -> list[int]:
        size, patch_size = info.data.get("size"), info.data.get("patch_size")
        if not channel_mult:
            raise PydanticCustomError("misfit", "must name at least one level, such as [1, 2, 3]")
        if size and patch_size and size % (multiple := patch_size * 2 ** (len(channel_mult) - 1)):
            text = "must be a multiple of {multiple} (patch_size x 2^(levels - 1)), not {size}"
            raise PydanticCustomError("misfit", text, {"multiple": multiple, "size": size, "field": "size"})
        return channel_mult

    @field_validator("attention_levels")
    @classmethod
    def _levels_exist(cls, attention_levels: list[int], info: ValidationInfo) -> list[int]:
        last = len(info.data.get("channel_mult", ())) - 1  # -1: channel_mult is wrong itself
        if wrong := [level for level in attention_levels if not 0 <= level <= last and last >= 0]:
            text = "{wrong} do not exist: there are levels 0 to {last}"
            raise PydanticCustomError("misfit", text, {"wrong": str(wrong), "last": last})
        return attention_levels

    @field_validator("n_heads")
    @classmethod
    def _heads_divide_the_widths(cls, n_heads: int | None, info: ValidationInfo) -> int | None:
        if not {"channels", "channel_mult", "attention_levels", "head_dim"} <= info.data.keys():
            return n_heads
        mult, head_dim = info.data["channel_mult"], info.data["head_dim"]
        for width in [info.data["channels"] * mult[level] for level in (*info.data["attention_levels"], -1)]:
            if width % (n_heads or head_dim):
                text = "{given} does not divide the {width} channels of a level with attention"
                key, given = ("n_heads", n_heads) if n_heads else ("head_dim", head_dim)
                raise PydanticCustomError("misfit", text, {"width": width, "given": given, "field": key})
        return n_heads


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
    close_mouth: bool = Field(
        False,
        description="`dheads animate` closes a photo's open mouth first: for models that keep a smile's teeth.",
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
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the model and its run folder.")
    description: str = Field("", description="What the model is, for people.")
    seed: int = Field(0, ge=0, description="Seed of every random draw.")
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
