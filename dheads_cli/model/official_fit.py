"""A state dict with the release's names, read as a network of ours: its configuration follows from shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_unet
from dheads_cli.recipe_model import Model

FIRST = "input_blocks.0.0.weight"  # a tensor that every network has
TIME_MAX_PERIOD = 10.0  # of the release's frequencies, see unet.sinusoidal_embedding

# The release's name of a tensor, piece by piece, and ours. Every pattern matches whole dotted pieces.
_NAMES = [
    (r"^time_embed\.fc\.", "time_embed."),
    (r"^audio_embed\.", "audio_embed.mlp."),
    (r"\.in_layers\.0\.", ".norm."),
    (r"\.in_layers\.2\.", ".conv_in."),
    (r"\.t_emb_layers\.1\.", ".conditioning.time."),
    (r"\.audio_emb_layers\.1\.", ".conditioning.audio."),
    (r"\.out_layers\.0\.", ".conditioning.norm."),
    (r"\.out_layers\.3\.", ".conv_out."),
    (r"\.skip_connection\.", ".skip."),
    (r"\.proj_out\.", ".proj."),
    (r"\.audio_emb_proj\.", ".audio."),
    (r"\.norm_x\.", ".norm."),
    (r"\.norm_emb\.", ".norm_audio."),
]


@dataclass(frozen=True)
class Fit:
    """How a state dict of the release fits a network of ours.

    Attributes:
        settings: the network that its shapes describe, as a recipe's section `model`.
        audio_dim: D, width of its audio embeddings.
        tensors: its tensors by our names.
        renamed: its name of each tensor -> ours.
        unused: its tensors that no network has a place for.
        missing: our names of tensors that it lacks.
    """

    settings: Model
    audio_dim: int
    tensors: dict[str, Tensor]
    renamed: dict[str, str]
    unused: list[str]
    missing: list[str]


def misfit(fit: Fit) -> str:
    """Which tensors of a fit have no place, and which places no tensor."""
    parts = [f"{len(fit.unused)} tensors have no place in it ({_some(fit.unused)})"] if fit.unused else []
    parts += [f"{len(fit.missing)} of its tensors are missing ({_some(fit.missing)})"] if fit.missing else []
    return ", and ".join(parts)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def fit_state_dict(
    state_dict: Mapping[str, Tensor],
    head_dim: int = 64,
    *,
    grayscale_motion: bool | None = None,
    audio_dim: int | None = None,
    size: int = 128,
) -> Fit:
    """Read a network's configuration off its tensors' shapes.

    Args:
        state_dict: tensors by the release's names, all with the same prefix or none.
        head_dim: channels of an attention head.
        grayscale_motion: None takes RGB where the number of input channels allows both.
        audio_dim: D; None is the width of the first level, as in the release.
        size: width and height of the frames, px, where the shapes do not tell (only cross-attention's do).

    Raises:
        DheadsError: the shapes contradict each other.
    """
    shapes = _Shapes(state_dict)
    channels, n_in, _, _ = shapes.of("input_blocks.0.0.weight", 4)
    n_out = shapes.of("out.2.weight", 4)[0]
    if n_out not in (3, 6):
        raise DheadsError(f"out.2.weight: {n_out} output channels; 3 (eps) or 6 (eps and the variance) are known")
    if (found := shapes.of("time_embed.fc.2.weight", 2)[0]) != 4 * channels:
        raise DheadsError(f"time_embed.fc.2.weight: time embeddings of {found}, not {4 * channels}")
    mult, n_res_blocks, attention_levels = _levels(shapes, channels)
    grayscale, n_motion = _motion(n_in, grayscale_motion)
    audio_dim = audio_dim or channels
    found = shapes.of("audio_embed.0.weight", 2)[1]
    n_window, rest = divmod(found, audio_dim)
    if rest or n_window % 2 == 0:
        raise DheadsError(f"audio_embed.0.weight: {found} inputs are no odd number of embeddings of {audio_dim}")
    if "middle_block.1.audio_emb_proj.weight" in shapes.tensors:
        places, _ = shapes.of("middle_block.1.audio_emb_proj.weight", 2)
        size = round(places**0.5) * 2 ** (len(mult) - 1)
    settings = _settings(
        size=size,
        channels=channels,
        channel_mult=mult,
        n_res_blocks=n_res_blocks,
        attention_levels=attention_levels,
        head_dim=head_dim,
        conditioning=_conditioning(shapes),
        n_motion_frames=n_motion,
        audio_context=n_window // 2,
        grayscale_motion=grayscale,
        identity_last=True,
        time_max_period=TIME_MAX_PERIOD,
        learned_variance=n_out == 6,
    )
    with torch.device("meta"):
        unet = build_unet(settings, registry.build("conditioning", settings.conditioning.use), audio_dim)
    expected = {name: tuple(tensor.shape) for name, tensor in unet.state_dict().items()}
    renamed = {name: ours(name) for name in shapes.tensors}
    known = {theirs: name for theirs, name in renamed.items() if name in expected}
    wrong = [
        f"{theirs} is {list(shapes.of(theirs))}, not {list(expected[name])}"
        for theirs, name in known.items()
        if shapes.of(theirs) != expected[name]
    ]
    if wrong:
        raise DheadsError(f"{len(wrong)} tensors have another shape than the others call for: {'; '.join(wrong[:3])}")
    tensors = {name: shapes.tensors[theirs].float() for theirs, name in known.items()}
    unused = [theirs for theirs in renamed if theirs not in known]
    missing = [name for name in expected if name not in tensors]
    return Fit(settings, audio_dim, tensors, {shapes.prefix + old: new for old, new in known.items()}, unused, missing)


def ours(name: str) -> str:
    """Our name of one of the release's tensors."""
    for pattern, replacement in _NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def split_networks(state_dict: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """(the network's tensors, the names of all others) of a checkpoint that may hold the network several times.

    A Lightning checkpoint of the release holds it as `unet.*` and as `diffusion.nn_backbone.*`: the first is taken.

    Raises:
        DheadsError: there is no network of the release, or its copies differ.
    """
    prefixes = prefixes_of(state_dict)
    if not prefixes:
        raise DheadsError(f"not a network of the release: none of its {len(state_dict)} tensors is called {FIRST}")
    copies = [
        {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}
        for prefix in prefixes
    ]
    for prefix, copy in zip(prefixes[1:], copies[1:], strict=True):
        differing = [
            name for name in copies[0].keys() | copy.keys()
            if name not in copies[0] or name not in copy or not torch.equal(copies[0][name], copy[name])
        ]  # fmt: skip
        if differing:
            raise DheadsError(
                f"its two copies of the network, {prefixes[0]}* and {prefix}*, differ in {len(differing)} tensors "
                f"({_some(sorted(differing))}): which of them is meant can't be told"
            )
    others = [name for name in state_dict if not name.startswith(tuple(prefixes))]
    return {prefixes[0] + name: tensor for name, tensor in copies[0].items()}, others


def prefixes_of(state_dict: Mapping[str, Tensor]) -> list[str]:
    """What stands before the names of each network in a state dict, such as "unet."."""
    return [name.removesuffix(FIRST) for name in state_dict if name == FIRST or name.endswith("." + FIRST)]


class _Shapes:
    """Shapes by the release's names, without their common prefix."""

    def __init__(self, state_dict: Mapping[str, Tensor]) -> None:
        prefixes = prefixes_of(state_dict)
        if len(prefixes) != 1:
            found = f"{len(prefixes)} of its tensors are called {FIRST}, not one"
            raise DheadsError(f"not a network of the release: {found}")
        self.prefix = prefixes[0]
        self.tensors = {name.removeprefix(self.prefix): tensor for name, tensor in state_dict.items()}

    def of(self, name: str, n_dims: int | None = None) -> tuple[int, ...]:
        """The shape of a tensor that must be there, with so many dimensions; None takes any number."""
        if name not in self.tensors:
            raise DheadsError(f"not a network of the release: it has no {name}")
        shape = tuple(self.tensors[name].shape)
        if n_dims is not None and len(shape) != n_dims:
            raise DheadsError(f"not a network of the release: {name} is {list(shape)}, not of {n_dims} dimensions")
        return shape


def _levels(shapes: _Shapes, channels: int) -> tuple[list[int], int, list[int]]:
    """(channel_mult, n_res_blocks, attention_levels): every level but the finest ends in a second residual block."""
    matches = (re.match(r"output_blocks\.(\d+)\.(\d+)\.in_layers\.0\.weight$", name) for name in shapes.tensors)
    blocks = [(int(match[1]), int(match[2])) for match in matches if match]
    n_blocks = len({block for block, _ in blocks})
    n_levels = 1 + sum(1 for _, layer in blocks if layer > 0)
    n_res_blocks = n_blocks // n_levels - 1
    if n_blocks % n_levels or n_res_blocks < 1:
        raise DheadsError(f"{n_blocks} output blocks in {n_levels} levels: not a network of the release")
    first = [1 + level * (n_res_blocks + 1) for level in range(n_levels)]  # input block 0 is the first convolution
    widths = [shapes.of(f"input_blocks.{block}.0.out_layers.3.weight", 4)[0] for block in first]
    if any(width % channels for width in widths):
        raise DheadsError(f"levels of {widths} channels are not multiples of the first convolution's {channels}")
    heard = [any(f"input_blocks.{block}.1.{key}.weight" in shapes.tensors for key in ("qkv", "q")) for block in first]
    return [width // channels for width in widths], n_res_blocks, [level for level in range(n_levels) if heard[level]]


def _motion(n_in: int, grayscale: bool | None) -> tuple[bool, int]:
    """(gray, m_x) of the input's channels: 6 + 3 m_x RGB, 6 + m_x gray."""
    n_motion = n_in - 6
    if grayscale is None:
        grayscale = n_motion % 3 != 0
    if n_motion < 0 or (not grayscale and n_motion % 3):
        kind = "gray" if grayscale else "RGB"
        raise DheadsError(f"input_blocks.0.0.weight: {n_in} input channels are no two frames and {kind} motion frames")
    return grayscale, n_motion if grayscale else n_motion // 3


def _conditioning(shapes: _Shapes) -> str:
    """The conditioning component whose layers have these tensors."""
    if "middle_block.1.audio_emb_proj.weight" in shapes.tensors:
        return "cross_attention_official"
    (width,), name = shapes.of("middle_block.0.out_layers.0.weight", 1), "middle_block.0.audio_emb_layers.1.weight"
    if name not in shapes.tensors:
        return "adagn_summed"
    n_rows, _ = shapes.of(name, 2)
    if n_rows not in (width, 2 * width):
        raise DheadsError(
            f"{name}: {n_rows} rows are neither the {width} of a scale nor the {2 * width} of scale and shift"
        )
    return "adagn" if n_rows == 2 * width else "audio_scale"


def _settings(**values: Any) -> Model:
    try:
        return Model.model_validate(values)
    except ValidationError as error:
        wrong = "; ".join(str(each["msg"]) for each in error.errors())
        raise DheadsError(f"its shapes, with the head width and size given, make no network: {wrong}") from error
