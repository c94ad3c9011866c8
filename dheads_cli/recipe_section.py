"""What every section of a recipe is made of: its base, a component chosen by name, kinds of values."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator


class Section(BaseModel):
    """A section of a recipe: unknown keys are errors, "5" is no number, values never change once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Component(BaseModel):
    """A component chosen by its registered name, with its options: `ddim` or `{use: ddim, steps: 50}`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    use: str = Field(description="Registered name (see `dheads components`); never a Python path.")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"use": value} if isinstance(value, str) else value

    @model_serializer(mode="plain")
    def _to_plain(self) -> str | dict[str, Any]:
        return {"use": self.use, **self.options} if self.options else self.use

    @property
    def options(self) -> dict[str, Any]:
        """Arguments for the component."""
        return dict(self.model_extra or {})


Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
NoiseLevel = Annotated[float, Field(ge=0)]

# What every recipe begins with, whatever its task.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(pattern=NAME, description="Name of the model and its run folder.")]
Description = Annotated[str, Field(description="What the model is, for people.")]
Seed = Annotated[int, Field(ge=0, description="Seed of every random draw.")]
