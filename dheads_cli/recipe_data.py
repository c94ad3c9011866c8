"""Which clips of a preprocessed corpus a run reads: the section `data`, and what of it is the same for every task."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dheads_cli.recipe_section import Fraction, Positive, Section


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
