"""From a recipe's `model` section to the network, its audio encoder and its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.diffusion import SCHEDULES, Schedule
from dheads_cli.model.speech import is_trained
from dheads_cli.model.unet import UNet
from dheads_cli.protocols import AudioEncoder, Conditioning
from dheads_cli.recipe_model import Model
from dheads_cli.recipe_section import Component


@dataclass(frozen=True)
class Parts:
    """What a model is made of.

    Attributes:
        unet: the network.
        audio_encoder: its hearing.
        schedule: its diffusion.
        audio_encoder_frozen: training leaves the audio encoder as it is, although its weights are the model's.
    """

    unet: UNet
    audio_encoder: AudioEncoder
    schedule: Schedule
    audio_encoder_frozen: bool = False

    def own_modules(self) -> dict[str, nn.Module]:
        """The modules whose weights a checkpoint holds, by their prefix in it."""
        return {"unet": self.unet, **own_encoder(self.audio_encoder)}

    def trained_modules(self) -> dict[str, nn.Module]:
        """The modules whose weights are learned, by their prefix in a checkpoint."""
        return trained(self.own_modules(), self.audio_encoder_frozen)


def own_encoder(encoder: AudioEncoder) -> dict[str, nn.Module]:
    """The audio encoder by its prefix in a checkpoint; nothing where its component brings its weights, frozen."""
    return {"audio_encoder": encoder} if isinstance(encoder, nn.Module) and is_trained(encoder) else {}


def trained(modules: dict[str, nn.Module], audio_encoder_frozen: bool) -> dict[str, nn.Module]:
    """A model's own modules without the audio encoder where training leaves that as it is."""
    return {
        prefix: module for prefix, module in modules.items() if not (audio_encoder_frozen and prefix == "audio_encoder")
    }


def build_component(kind: str, component: Component) -> Any:
    """A component from its place in a recipe."""
    return registry.build(kind, component.use, component.options)


def build_model(settings: Model, device: torch.device | None = None, *, freeze_audio_encoder: bool = False) -> Parts:
    """Make the parts of a model with fresh weights, drawn from torch's global generator.

    Raises:
        DheadsError: a component can't be built, or the sizes do not go together.
    """
    encoder: AudioEncoder = build_component("audio_encoders", settings.audio_encoder)
    conditioning = build_component("conditioning", settings.conditioning)
    unet = build_unet(settings, conditioning, encoder.embed_dim)
    if device is not None:
        unet = unet.to(device)
        for parameter in unet.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.data.to(memory_format=unet.memory_format)
        if isinstance(encoder, nn.Module):
            encoder = encoder.to(device)
    if freeze_audio_encoder and isinstance(encoder, nn.Module):
        encoder.eval()
    return Parts(unet, encoder, SCHEDULES[settings.schedule](settings.n_timesteps), freeze_audio_encoder)


def build_unet(settings: Model, conditioning: Conditioning, audio_dim: int) -> UNet:
    """The network alone, for audio embeddings of width audio_dim.

    Raises:
        DheadsError: the sizes do not go together.
    """
    try:
        return UNet(
            channels=settings.channels,
            channel_mult=settings.channel_mult,
            n_res_blocks=settings.n_res_blocks,
            attention_levels=settings.attention_levels,
            head_dim=settings.head_dim,
            n_heads=settings.n_heads,
            dropout=settings.dropout,
            patch_size=settings.patch_size,
            n_motion_frames=settings.n_motion_frames,
            grayscale_motion=settings.grayscale_motion,
            noised_motion=settings.noised_motion,
            identity_last=settings.identity_last,
            time_max_period=settings.time_max_period,
            learned_variance=settings.learned_variance,
            size=settings.size,
            n_window=2 * settings.audio_context + 1,
            audio_dim=audio_dim,
            conditioning=conditioning,
            motion_noise_per_frame=settings.motion_noise_per_frame,
            detail_channels=settings.detail_channels,
            n_controls=settings.n_controls,
        )
    except ValueError as error:
        raise DheadsError(f"model: {error}") from error


def random_inputs(settings: Model, audio_dim: int, batch: int, device: torch.device) -> tuple[Tensor | None, ...]:
    """Random inputs of the network in the order of its forward, the same on every device; "meta" has shapes alone."""
    draws = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draws, device="cpu").to(device)

    frame = (batch, 3, settings.size, settings.size)
    n_motion = settings.n_motion_frames * (1 if settings.grayscale_motion else 3)
    levels = (batch, settings.n_motion_frames) if settings.motion_noise_per_frame else (batch,)
    return (
        randn(*frame),
        torch.randint(settings.n_timesteps, (batch,), generator=draws, device="cpu").to(device),
        randn(*frame).clamp(-1, 1),
        randn(batch, n_motion, settings.size, settings.size),
        randn(batch, 2 * settings.audio_context + 1, audio_dim),
        torch.rand(levels, generator=draws, device="cpu").to(device) if settings.noised_motion else None,
        randn(batch, settings.n_controls) if settings.n_controls else None,
    )


def choose_device(name: str) -> torch.device:
    """ "auto" is a GPU where there is one; else what torch makes of the name.

    Raises:
        DheadsError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DheadsError(f"--device {name}: {str(error).splitlines()[0]}") from error
    return device


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """ "auto" is bf16 where the device computes in it (a GPU, or a CPU with AVX-512 BF16 or AMX), else float32."""
    if name == "float32":
        return torch.float32
    if name == "bf16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32
