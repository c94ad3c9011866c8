"""The authors' release in our terms: its weights' names, its float32 schedule, its order of random draws.

All of it runs on the code that trains and samples everything else; here is only what differs. Facts about the release,
none of its code: what its configurations are called, how its tensors are named, and where its arithmetic departs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dheads_cli import registry
from dheads_cli.data.dataset import mouth_box_mask
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_unet
from dheads_cli.model.diffusion import Objective, Schedule, cosine_betas, q_sample, respaced, shifted, training_losses
from dheads_cli.model.generate import Continuity, generate
from dheads_cli.model.speech import audio_windows
from dheads_cli.model.unet import UNet
from dheads_cli.protocols import Noise
from dheads_cli.recipe import Model

TIME_MAX_PERIOD = 10.0  # of the release's frequencies, see unet.sinusoidal_embedding
MOUTH_MARGIN_PX = 5  # growth of the mouth box, whatever the size of the frames

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


def unet_from_state_dict(
    state_dict: Mapping[str, Tensor], head_dim: int = 64, *, grayscale_motion: bool | None = None
) -> UNet:
    """The network of a state dict with the release's names, in evaluation mode.

    Called like any other: unet(x_t, t, identity_frame, motion_frames, audio_window) -> [B, 6, H, W].

    Args:
        state_dict: tensors by the release's names, all with the same prefix or none.
        head_dim: channels of an attention head; everything else follows from the shapes.
        grayscale_motion: whether motion frames are gray; None takes RGB where the number of input channels allows both.

    Raises:
        DheadsError: the shapes are of no network of the release, with the tensors that are wrong, unused or missing.
    """
    fit = fit_state_dict(state_dict, head_dim, grayscale_motion=grayscale_motion)
    if fit.unused or fit.missing:
        raise DheadsError(f"not a network of the release: {misfit(fit)}")
    return unet_of(fit).eval()


def unet_of(fit: Fit) -> UNet:
    """The network of a fit, with its weights."""
    conditioning = registry.build("conditioning", fit.settings.conditioning.use)
    unet = build_unet(fit.settings, conditioning, fit.audio_dim)
    unet.load_state_dict(fit.tensors)
    return unet


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
    channels = shapes["input_blocks.0.0.weight"][0]
    n_in, n_out = shapes["input_blocks.0.0.weight"][1], shapes["out.2.weight"][0]
    if n_out not in (3, 6):
        raise DheadsError(f"out.2.weight: {n_out} output channels; 3 (eps) or 6 (eps and the variance) are known")
    if shapes["time_embed.fc.2.weight"][0] != 4 * channels:
        found = shapes["time_embed.fc.2.weight"][0]
        raise DheadsError(f"time_embed.fc.2.weight: time embeddings of {found}, not {4 * channels}")
    mult, n_res_blocks, attention_levels = _levels(shapes, channels)
    grayscale, n_motion = _motion(n_in, grayscale_motion)
    audio_dim = audio_dim or channels
    n_window, rest = divmod(shapes["audio_embed.0.weight"][1], audio_dim)
    if rest or n_window % 2 == 0:
        found = shapes["audio_embed.0.weight"][1]
        raise DheadsError(f"audio_embed.0.weight: {found} inputs are no odd number of embeddings of {audio_dim}")
    places = shapes.get("middle_block.1.audio_emb_proj.weight")
    if places:
        size = round(places[0] ** 0.5) * 2 ** (len(mult) - 1)
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
        f"{theirs} is {list(shapes[theirs])}, not {list(expected[name])}"
        for theirs, name in known.items()
        if shapes[theirs] != expected[name]
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


class _Shapes:
    """Shapes by the release's names, without their common prefix."""

    def __init__(self, state_dict: Mapping[str, Tensor]) -> None:
        first = "input_blocks.0.0.weight"
        found = [name for name in state_dict if name == first or name.endswith("." + first)]
        if len(found) != 1:
            raise DheadsError(f"not a network of the release: {len(found)} of its tensors are called {first}, not one")
        self.prefix = found[0].removesuffix(first)
        self.tensors = {name.removeprefix(self.prefix): tensor for name, tensor in state_dict.items()}

    def __getitem__(self, name: str) -> tuple[int, ...]:
        if name not in self.tensors:
            raise DheadsError(f"not a network of the release: it has no {name}")
        return tuple(self.tensors[name].shape)

    def get(self, name: str) -> tuple[int, ...] | None:
        return self[name] if name in self.tensors else None

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)


def _levels(shapes: _Shapes, channels: int) -> tuple[list[int], int, list[int]]:
    """(channel_mult, n_res_blocks, attention_levels): every level but the finest ends in a second residual block."""
    matches = (re.match(r"output_blocks\.(\d+)\.(\d+)\.in_layers\.0\.weight$", name) for name in shapes)
    blocks = [(int(match[1]), int(match[2])) for match in matches if match]
    n_blocks = len({block for block, _ in blocks})
    n_levels = 1 + sum(1 for _, layer in blocks if layer > 0)
    n_res_blocks = n_blocks // n_levels - 1
    if n_blocks % n_levels or n_res_blocks < 1:
        raise DheadsError(f"{n_blocks} output blocks in {n_levels} levels: not a network of the release")
    first = [1 + level * (n_res_blocks + 1) for level in range(n_levels)]  # input block 0 is the first convolution
    widths = [shapes[f"input_blocks.{block}.0.out_layers.3.weight"][0] for block in first]
    if any(width % channels for width in widths):
        raise DheadsError(f"levels of {widths} channels are not multiples of the first convolution's {channels}")
    heard = [any(shapes.get(f"input_blocks.{block}.1.{key}.weight") for key in ("qkv", "q")) for block in first]
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
    if shapes.get("middle_block.1.audio_emb_proj.weight"):
        return "cross_attention_official"
    (width,) = shapes["middle_block.0.out_layers.0.weight"]
    audio = shapes.get("middle_block.0.audio_emb_layers.1.weight")
    if audio is None:
        return "adagn_summed"
    if audio[0] not in (width, 2 * width):
        raise DheadsError(
            f"middle_block.0.audio_emb_layers.1.weight: {audio[0]} rows are neither the {width} of a scale nor the "
            f"{2 * width} of scale and shift"
        )
    return "adagn" if audio[0] == 2 * width else "audio_scale"


def _settings(**values: Any) -> Model:
    try:
        return Model.model_validate(values)
    except ValueError as error:
        raise DheadsError(f"its shapes describe a network that can't be built: {error}") from error


def official_schedule(n_timesteps: int = 1000, n_steps: int | None = None) -> Schedule:
    """The release's cosine schedule in its own arithmetic, float32 from 1 - beta on: for parity alone.

    After respacing it takes betas from ratios of abar and abar anew from these betas, so that coefficients are off by
    up to 5e-4. From N = 6 steps down one of the betas rounds to 1 and its tables turn to NaN, at N = 1 it divides by
    zero: such N have no released answer, and the float64 schedule rounded to float32 is given.

    Args:
        n_timesteps: T.
        n_steps: N; None is T.
    """
    full = Schedule.from_betas(cosine_betas(n_timesteps).float())
    if n_steps is None or n_steps == n_timesteps:
        return full
    kept = respaced(n_timesteps, n_steps)
    abar = full.alphas_cumprod[kept]
    betas = 1 - abar / shifted(abar)
    if n_steps == 1 or bool((betas >= 1).any()):
        exact = Schedule.from_betas(cosine_betas(n_timesteps)).respace(n_steps)
        return Schedule(exact.betas.float(), exact.alphas_cumprod.float(), exact.timesteps, n_timesteps)
    return Schedule(betas, torch.cumprod(1 - betas, 0), tuple(kept), n_timesteps)


@torch.no_grad()
def official_losses(
    unet: UNet,
    x_0: Tensor,
    eps: Tensor,
    t: Tensor,
    identity_frame: Tensor,
    motion_frames: Tensor,
    audio_window: Tensor,
    mouth_landmarks: Tensor,
) -> dict[str, float]:
    """The terms of the paper's objective over a batch, unweighted, in the release's arithmetic.

    Args:
        unet: the network, in evaluation mode.
        x_0: target frames [B, 3, H, W] in [-1, 1].
        eps: their noise [B, 3, H, W].
        t: steps, int64 [B].
        identity_frame: [B, 3, H, W].
        motion_frames: oldest first [B, m_x C, H, W].
        audio_window: [B, 2 m_y + 1, D].
        mouth_landmarks: points of the target frames' mouths (x, y) px [B, P, 2].

    Returns:
        "simple", "vlb" (bits a dimension; NaN where the variance is not learned) and "lip".
    """
    schedule = official_schedule()
    x_t = q_sample(schedule, x_0, t, eps)
    output = unet(x_t, t, identity_frame, motion_frames, audio_window)
    height, width = x_0.shape[-2:]
    masks = [mouth_box_mask(points.numpy(), height, width, MOUTH_MARGIN_PX) for points in mouth_landmarks.cpu()]
    mouth = torch.stack([torch.from_numpy(mask) for mask in masks]).to(x_0.device)
    objective = Objective(prediction="eps", snr_weight_max=0.0, vlb_weight=0.0, lip_sync_weight=0.0)
    losses = training_losses(objective, schedule, output, x_0, x_t, eps, t, identity_frame, mouth)
    means = {name: values.mean().item() for name, values in losses.items()}
    return {"simple": means["simple"], "vlb": means.get("vlb", float("nan")), "lip": means["lip_sync"]}


def official_sample(
    unet: UNet,
    identity_frame: Tensor,
    audio_sequence: Tensor,
    n_steps: int,
    noise: Noise,
    stabilize_every: int | None = None,
) -> Tensor:
    """Sample a clip as the release does: ancestral, in its float32 arithmetic, random numbers drawn in its order.

    Args:
        unet: the network, in evaluation mode.
        identity_frame: x_Id [B, 3, H, W] in [-1, 1].
        audio_sequence: embeddings of all frames [B, F, D].
        n_steps: N of the respaced diffusion, 1 ... T.
        noise: shape -> standard normal; asked first for x_T of all frames (B, F, 3, H, W), then for one
            (B, 3, H, W) a frame and step with t > 0.
        stabilize_every: segment length of `stabilize`; None: off.

    Returns:
        [B, F, 3, H, W] in [-1, 1].
    """
    n_frames = audio_sequence.shape[1]
    x_T = iter(noise((len(identity_frame), n_frames, *identity_frame.shape[1:])).unbind(1))
    frames = generate(
        unet,
        official_schedule(n_steps=n_steps),
        registry.build("samplers", "ddpm", {"steps": n_steps}),
        "eps",
        identity_frame,
        audio_windows(audio_sequence, unet.n_window // 2),
        continuity=Continuity(stabilize_every=stabilize_every),
        noise=noise,
        frame_noise=lambda shape: next(x_T).to(identity_frame.device),
    )
    return torch.stack(list(frames), dim=1)
