"""The section `model` of a talking head's recipe: its U-Net, what it is told, its diffusion."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from dheads_cli.recipe_section import Component, Fraction, Positive, Section

CONTROL_DIMS = {"eyes": 2, "head": 3}  # how many numbers each control is


class Model(Section):
    """The U-Net and its diffusion."""

    size: int = Field(128, ge=32, le=1024, description="Width and height of the frames, px.")
    patch_size: Literal[1, 2, 4] = Field(1, description="Pixel-unshuffle factor before the first convolution.")
    detail_channels: int = Field(
        0,
        ge=0,
        multiple_of=32,
        description="Width of a branch in patches half as wide, which adds finer detail to the output; 0: none. "
        "Weights without it can begin it (train.weights). Needs an even patch_size.",
    )
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
    controls: list[Literal["eyes", "head"]] = Field(
        [],
        description="What of the target frame the network is told besides its speech: eyes (openness of each), head "
        "(yaw, pitch and roll against the identity frame). So `dheads animate` can make a face blink and turn.",
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

    @property
    def n_controls(self) -> int:
        """How many numbers the controls are."""
        return sum(CONTROL_DIMS[name] for name in self.controls)

    # Field by field, so that these are reported beside all other mistakes of the section.

    @field_validator("motion_noise_per_frame")
    @classmethod
    def _levels_are_told(cls, per_frame: bool, info: ValidationInfo) -> bool:
        if per_frame and info.data.get("noised_motion") is False:
            raise PydanticCustomError("misfit", "needs noised_motion: true: the network is told no level without it")
        return per_frame

    @field_validator("controls")
    @classmethod
    def _named_once(cls, controls: list[str]) -> list[str]:
        if len(set(controls)) < len(controls):
            raise PydanticCustomError("misfit", "must name each control once")
        return controls

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
