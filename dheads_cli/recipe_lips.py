"""The recipe of a lip-reader: it tells what is said from the mouth alone."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dheads_cli.recipe import Preprocess
from dheads_cli.recipe_data import Shards
from dheads_cli.recipe_section import Description, Fraction, Name, Positive, Section, Seed
from dheads_cli.recipe_train import Augment, Optimisation


class LipsData(Shards):
    """Which clips a run reads, and how often each speaker is drawn."""

    speaker_balance: Fraction = Field(
        0.5, description="A speaker with n clips is drawn in proportion to n^(1 - speaker_balance)."
    )


class LipsModel(Section):
    """The tower of convolutions of a `sync` network over 5 frames, and a recurrent network over time."""

    sentence: Annotated[list[Annotated[list[str], Field(min_length=1)]], Field(min_length=1)] = Field(
        description="The pattern of all sentences: for each place, the words that can stand there."
    )
    channels: Positive = Field(24, description="Channels of the first convolution; later ones have 2 to 8x.")
    embed_dim: Positive = Field(256, description="Width of what the convolutions tell of each frame.")
    hidden_dim: Positive = Field(128, description="Width of the recurrent network, of each direction.")
    layers: Positive = Field(2, description="Layers of the recurrent network.")
    dropout: Fraction = Field(0.3, description="Dropout before each layer of the recurrent network and after the last.")

    @field_validator("sentence")
    @classmethod
    def _has_a_word_once(cls, sentence: list[list[str]]) -> list[list[str]]:
        counts = Counter(word for place in sentence for word in place)
        if twice := [word for word, count in counts.items() if count > 1]:
            text = "a word must stand in one place, and once: {words}"
            raise PydanticCustomError("misfit", text, {"words": ", ".join(twice)})
        return sentence


class LipsTrain(Optimisation):
    """How clips are changed, and the optimiser."""

    lips_weights: str | None = Field(
        None,
        description="Run or checkpoint of the task sync, or of this one, whose convolutions training begins with; None "
        "begins anew, or with `weights`.",
    )
    freeze_lips: bool = Field(False, description="Keep the convolutions as they are: train the rest alone.")
    flip: Fraction = Field(0.5, description="Share of clips mirrored.")
    warp: Fraction = Field(0.5, description="Strength of turns, growth and moves of the mouth, alike in all frames.")
    light: Fraction = Field(1.0, description="Strength of changes of brightness and contrast, alike in all frames.")
    blur: Fraction = Field(0.2, description="Share of clips shown smaller, and so less sharp.")

    @field_validator("freeze_lips")
    @classmethod
    def _freezes_what_was_learned(cls, freeze: bool, info: ValidationInfo) -> bool:
        if freeze and {info.data.get(key, "") for key in ("weights", "lips_weights")} == {None}:
            text = "needs lips_weights or weights: what is frozen must have been learned before"
            raise PydanticCustomError("misfit", text)
        return freeze

    @field_validator("augment")
    @classmethod
    def _changes_no_sound(cls, augment: Augment) -> Augment:
        if augment.active():
            raise PydanticCustomError("misfit", "changes sound, and a lip-reader hears none: leave it out")
        return augment


class LipsRecipe(Section):
    """One lip-reader: its corpus, network and training."""

    task: Literal["lips"] = Field(description="What is learned: lips, to read words from them.")
    name: Name
    description: Description = ""
    seed: Seed = 0
    preprocess: Preprocess = Field(Preprocess(), description="Corpus to shards.")
    data: LipsData = Field(LipsData(), description="Which clips to read.")
    model: LipsModel = Field(description="The words and the network.")
    train: LipsTrain = Field(LipsTrain(), description="Changes of clips and the optimiser.")
