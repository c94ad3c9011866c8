"""The recipe of a network that learns whether lips and sound are in step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dheads_cli.recipe import Preprocess
from dheads_cli.recipe_data import Shards
from dheads_cli.recipe_section import Description, Fraction, Name, Positive, Section, Seed
from dheads_cli.recipe_train import Optimisation


class SyncData(Shards):
    """Which clips a run reads, and how often each speaker is drawn."""

    speaker_balance: Fraction = Field(
        0.5, description="A speaker with n clips is drawn in proportion to n^(1 - speaker_balance)."
    )


class SyncModel(Section):
    """Two towers of convolutions, one for mouths and one for sound."""

    channels: Positive = Field(32, description="Channels of each tower's first convolution; later ones have 2 to 8x.")
    embed_dim: Positive = Field(256, description="Width of the embeddings in which mouths and sound are compared.")


class SyncTrain(Optimisation):
    """How pieces of clips are cut and changed, and the optimiser."""

    n_frames: Annotated[int, Field(ge=6)] = Field(
        50, description="Frames of a piece; a mouth is told from all other times of its piece, and of another's sound."
    )
    temperature: float = Field(0.07, gt=0, description="What cosines are divided by before the softmax.")
    flip: Fraction = Field(0.5, description="Share of pieces mirrored.")
    warp: Fraction = Field(1.0, description="Strength of turns, growth and moves of the mouth, alike in all frames.")
    light: Fraction = Field(1.0, description="Strength of changes of brightness and contrast, alike in all frames.")
    blur: Fraction = Field(0.3, description="Share of pieces shown smaller, and so less sharp.")


class SyncRecipe(Section):
    """One network for lips and sound: its corpus, towers and training."""

    task: Literal["sync"] = Field(description="What is learned: sync, whether lips and sound are in step.")
    name: Name
    description: Description = ""
    seed: Seed = 0
    preprocess: Preprocess = Field(Preprocess(), description="Corpus to shards.")
    data: SyncData = Field(SyncData(), description="Which clips to learn from.")
    model: SyncModel = Field(SyncModel(), description="The towers.")
    train: SyncTrain = Field(SyncTrain(), description="Pieces and optimiser.")
