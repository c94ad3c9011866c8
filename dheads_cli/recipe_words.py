"""The recipe of a word recogniser, which an audio encoder learns to hear with before it drives a face."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dheads_cli.recipe import Preprocess
from dheads_cli.recipe_data import Shards
from dheads_cli.recipe_section import Component, Description, Fraction, Name, Positive, Section, Seed
from dheads_cli.recipe_train import HearingOptimisation


class WordsData(Shards):
    """Which spoken words a run reads: clips of one word (LRW), or of several whose times are known (GRID)."""

    path: str = Field("data/lrw-128", description="Folder that `dheads preprocess` wrote.")  # one: no list of several
    word_balance: Fraction = Field(
        0.5, description="A word with n samples is drawn in proportion to n^(1 - word_balance)."
    )

    @field_validator("path", mode="before")
    @classmethod
    def _one_or_several(cls, path: Any) -> Any:
        """Words are learned from one corpus: a list is not a path."""
        return path


class WordsModel(Section):
    """The audio encoder, and a linear layer over the mean of its embeddings."""

    audio_encoder: Component = Field(Component(use="waveform_gru"), description="Speech to one embedding a frame.")
    n_frames: Positive = Field(29, description="Frames of a sample, the word in their middle; LRW's clips have 29.")
    pooled_frames: Positive | None = Field(
        None,
        validate_default=True,
        description="Frames in the middle of a sample whose embeddings are averaged; None takes all.",
    )

    @field_validator("pooled_frames")
    @classmethod
    def _lie_in_the_sample(cls, pooled_frames: int | None, info: ValidationInfo) -> int | None:
        n_frames = info.data.get("n_frames")
        if pooled_frames and n_frames and (pooled_frames > n_frames or (n_frames - pooled_frames) % 2):
            text = "must leave as many of the {n_frames} frames before as after, not {pooled_frames}"
            raise PydanticCustomError("misfit", text, {"n_frames": n_frames, "pooled_frames": pooled_frames})
        return pooled_frames


class WordsTrain(HearingOptimisation):
    """How samples are cut and changed, and the optimiser."""

    jitter_frames: float = Field(
        2.0, ge=0, description="The word lies off the sample's middle by up to this, either way, uniformly, frames."
    )
    gain_db: float = Field(
        6.0,
        ge=0,
        description="A sample is louder or softer by up to this, uniformly, dB; not where the audio encoder is frozen.",
    )
    noise_max: float = Field(
        0.0,
        ge=0,
        description="White noise on a sample: its sigma is uniform in 0 ... this; 1 is full scale. Not where the audio "
        "encoder is frozen; augment has noise for it, too.",
    )


class WordsRecipe(Section):
    """One word recogniser: its corpus, network and training."""

    task: Literal["words"] = Field(description="What is learned: words, to tell spoken words apart.")
    name: Name
    description: Description = ""
    seed: Seed = 0
    preprocess: Preprocess = Field(Preprocess(), description="Corpus to shards.")
    data: WordsData = Field(WordsData(), description="Which words to hear.")
    model: WordsModel = Field(WordsModel(), description="Audio encoder and what is read off it.")
    train: WordsTrain = Field(WordsTrain(), description="Samples and optimiser.")
