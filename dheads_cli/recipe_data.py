"""Which clips of a preprocessed corpus a run reads: the section `data`, and what of it is the same for every task."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, TypeAdapter, ValidationInfo, field_validator, model_validator
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


class WeightedCorpus(Section):
    """One of several corpora; a folder's name alone has the weight 1."""

    path: str = Field(description="Folder that `dheads preprocess` wrote.")
    weight: float = Field(1.0, gt=0, description="Samples drawn from it, in proportion to the others' weights.")

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


FOLDER = TypeAdapter(str)
FOLDERS = TypeAdapter(list[WeightedCorpus])
PATH_DESCRIPTION = (
    "Folder that `dheads preprocess` wrote, or a list of several, each a path or {path: ..., weight: ...}: the weight "
    "(1 where it is not given) is a corpus's share of the samples, whatever its size."
)


class Shards(Section):
    """Which clips of preprocessed corpora a run reads; the same for every task."""

    path: str | list[WeightedCorpus] = Field("data/grid-64", description=PATH_DESCRIPTION)
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

    @field_validator("path", mode="before", json_schema_input_type=str | list[str | WeightedCorpus])
    @classmethod
    def _one_or_several(cls, path: Any) -> str | list[WeightedCorpus]:
        """A list of one is the same as its path."""
        if not isinstance(path, list):
            return FOLDER.validate_python(path, strict=True)
        corpora = FOLDERS.validate_python(path, strict=True)
        if not corpora:
            raise PydanticCustomError("misfit", "is an empty list: name a corpus")
        folders = [os.path.abspath(each.path) for each in corpora]
        for i, folder in enumerate(folders):
            if folder in folders[:i]:
                told = {"path": corpora[i].path, "below": ("data", "path", i)}
                raise PydanticCustomError("misfit", "{path} is named before: give it once, with its whole weight", told)
        return corpora if len(corpora) > 1 else corpora[0].path

    @property
    def paths(self) -> list[Path]:
        """The corpora's folders."""
        return [Path(self.path)] if isinstance(self.path, str) else [Path(each.path) for each in self.path]

    @property
    def shares(self) -> list[float]:
        """Each corpus's share of the samples; together 1."""
        weights = [1.0] if isinstance(self.path, str) else [each.weight for each in self.path]
        return [weight / sum(weights) for weight in weights]

    @property
    def corpus_names(self) -> list[str]:
        """Each corpus's folder name, with a number where another has the same name."""
        names: list[str] = []
        for path in self.paths:
            name = folder = os.path.basename(os.path.abspath(path))
            number = 2
            while name in names:
                name, number = f"{folder}-{number}", number + 1
            names.append(name)
        return names

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
