"""The frame loop: each frame is drawn from noise, given the identity frame, the frames before it and the sound."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat

import torch
from torch import Tensor

from dheads_cli.model.anchor import anchored
from dheads_cli.model.diffusion import PREDICTIONS, Denoised, Schedule
from dheads_cli.model.guidance import Conditions, Guidance
from dheads_cli.model.motion_frames import add_noise, sampling_levels, stack_motion
from dheads_cli.model.unet import UNet
from dheads_cli.protocols import Noise, Sampler


@dataclass(frozen=True)
class Continuity:
    """How a frame takes up from those before it; the defaults are the paper's.

    Attributes:
        motion_noise: sigma of fresh Gaussian noise on the motion frames, in units of the frames' [-1, 1], told to the
            network: its own small errors drown in it instead of adding up (GameNGen, section 3.2). Or one sigma for
            each motion frame, oldest first, where the network is told each (Diffusion Forcing).
        warm_start: share of the steps (0 ... 1) to which the last frame is noised to begin the next one from, in place
            of pure noise; the sampler's steps then lie below it. None, and the first frame: pure noise.
        stabilize_every: before every so many frames the identity frame takes the oldest motion frame's place, for
            that frame alone (the authors' release; not in the paper). None: never.
        anchor: share (0 ... 1) by which each frame's mean and spread of colour outside the mouth are brought back to
            the identity frame's before it is shown and fed back (model/anchor.py). 0: not.
    """

    motion_noise: float | tuple[float, ...] = 0.0
    warm_start: float | None = None
    stabilize_every: int | None = None
    anchor: float = 0.0


@dataclass(frozen=True)
class Past:
    """What a clip's next frame takes up from.

    Attributes:
        motion: the last m_x frames, oldest first, M x [B, 3, H, W]; the identity frame stands in for those before the
            first (Diffused Heads, section 3.1).
        last: the last frame [B, 3, H, W]; None before the first.
        n_frames: drawn so far.
    """

    motion: tuple[Tensor, ...]
    last: Tensor | None = None
    n_frames: int = 0

    def then(self, frame: Tensor) -> Past:
        """The past once this frame [B, 3, H, W] is drawn."""
        motion = (*self.motion, frame)[1:] if self.motion else ()
        return Past(motion, frame, self.n_frames + 1)


@dataclass(frozen=True)
class Drawer:
    """Draws the next frame of B clips side by side.

    Attributes:
        unet: the network, in evaluation mode.
        schedule: the full schedule.
        sampler: the sampler component.
        prediction: what the network's output is, a key of diffusion.PREDICTIONS.
        continuity: how a frame takes up from those before it.
        guidance: how strongly each condition counts. Its passes go through the network as one batch, and see the same
            noise.
        precision: of the network's arithmetic; the diffusion itself is float32.
    """

    unet: UNet
    schedule: Schedule
    sampler: Sampler
    prediction: str
    continuity: Continuity
    guidance: Guidance = field(default_factory=Guidance)
    precision: torch.dtype = torch.float32

    @cached_property
    def warm(self) -> Schedule | None:
        """The schedule of a warm start."""
        return self.schedule.until(self.continuity.warm_start) if self.continuity.warm_start else None

    def kind(self, past: Past) -> tuple[bool, bool]:
        """Clips whose kinds are equal can be drawn side by side, whatever their number of frames."""
        return self.warm is not None and past.last is None, self._is_stabilized(past)

    def _is_stabilized(self, past: Past) -> bool:
        every = self.continuity.stabilize_every
        return bool(past.motion and every and past.n_frames and past.n_frames % every == 0)

    @torch.inference_mode()
    def __call__(
        self,
        identity: Tensor,
        past: Past,
        audio_window: Tensor,
        noise: Noise,
        frame_noise: Noise | None = None,
        controls: Tensor | None = None,
    ) -> Tensor:
        """Draw one frame [B, 3, H, W] in [-1, 1].

        Args:
            identity: x_Id [B, 3, H, W] in [-1, 1].
            past: of clips of one kind.
            audio_window: [B, K, D].
            noise: source of all random draws: x_T first, then the motion frames' noise, then the sampler's.
            frame_noise: source of x_T; None is `noise`.
            controls: what the frame is to show [B, n_controls], NaN where that is left to the network; None leaves all
                to it.
        """
        unet, guidance, device = self.unet, self.guidance, identity.device
        x_t, steps = (frame_noise or noise)(tuple(identity.shape)), self.schedule
        if self.warm is not None and past.last is not None:
            abar = float(self.warm.alphas_cumprod[-1])
            x_t, steps = abar**0.5 * past.last + (1 - abar) ** 0.5 * x_t, self.warm
        shown = list(past.motion)
        if self._is_stabilized(past):
            shown[0] = identity
        alone = Conditions(identity, shown, audio_window, controls)
        given = guidance.passes(alone)
        motion_frames = stack_motion(given.motion, given.identity, unet.grayscale_motion)
        noised, per_frame = self.continuity.motion_noise, unet.motion_noise_per_frame
        level = sampling_levels(noised, unet.n_motion_frames, per_frame, guidance.repeated(identity))
        if level is not None:
            drawn = noise((len(identity), *motion_frames.shape[1:]))
            motion_frames = add_noise(motion_frames, level, guidance.repeated(drawn))
        last_step = max(self.schedule.n_timesteps - 1, 1)

        def denoise(x_t: Tensor, t: int) -> Denoised:
            guided = guidance.acts_at(t / last_step)
            x_t, seen = (guidance.repeated(x_t), given) if guided else (x_t, alone)
            n = len(x_t)  # the pass with all conditions is the first
            step = torch.full((n,), t, device=device)
            levels = None if level is None else level[:n]
            with torch.autocast(device.type, self.precision, enabled=self.precision != torch.float32):
                output = unet(x_t, step, seen.identity, motion_frames[:n], seen.audio, levels, seen.controls)
            abar = self.schedule.alpha_cumprod_at(t).to(device)
            denoised = PREDICTIONS[self.prediction](output, x_t, abar, seen.identity)
            return guidance.combined(denoised) if guided else denoised

        frame = self.sampler(denoise, x_t, steps, noise)
        return anchored(frame, identity, self.continuity.anchor) if self.continuity.anchor else frame

    def begin(self, identity: Tensor) -> Past:
        """The past of clips before their first frame."""
        return Past((identity,) * self.unet.n_motion_frames)


def generate(
    unet: UNet,
    schedule: Schedule,
    sampler: Sampler,
    prediction: str,
    identity: Tensor,
    audio_windows: Iterable[Tensor],
    *,
    continuity: Continuity,
    noise: Noise,
    frame_noise: Noise | None = None,
    guidance: Guidance | None = None,
    motion_before: Sequence[Tensor] | None = None,
    precision: torch.dtype = torch.float32,
    controls: Iterable[Tensor | None] | None = None,
) -> Iterator[Tensor]:
    """Draw the frames of B clips side by side.

    Args:
        unet, schedule, sampler, prediction, continuity, guidance, precision: see Drawer.
        identity: x_Id [B, 3, H, W] in [-1, 1].
        audio_windows: one [B, K, D] for each frame.
        noise, frame_noise: see Drawer.
        motion_before: the m_x frames before the first, oldest first, M x [B, 3, H, W]; None is the identity frame.
        controls: one [B, n_controls] for each frame, see Drawer; None leaves all to the network.

    Yields:
        One frame of each clip [B, 3, H, W] in [-1, 1], as soon as it is drawn.
    """
    drawer = Drawer(unet, schedule, sampler, prediction, continuity, guidance or Guidance(), precision)
    past = drawer.begin(identity) if motion_before is None else Past(tuple(motion_before))
    return draw_all(drawer, identity, past, audio_windows, noise, frame_noise, controls)


def draw_all(
    drawer: Drawer,
    identity: Tensor,
    past: Past,
    audio_windows: Iterable[Tensor],
    noise: Noise,
    frame_noise: Noise | None = None,
    controls: Iterable[Tensor | None] | None = None,
) -> Iterator[Tensor]:
    """Draw frame after frame, see generate."""
    for audio_window, told in zip(audio_windows, controls or repeat(None)):  # noqa: B905 (controls may be endless)
        frame = drawer(identity, past, audio_window, noise, frame_noise, told)
        past = past.then(frame)
        yield frame


def from_uint8(pictures: Tensor) -> Tensor:
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in [-1, 1], on the same device; the inverse of to_uint8."""
    return pictures.permute(0, 3, 1, 2).float() / 127.5 - 1


def to_uint8(frames: Tensor) -> Tensor:
    """[B, 3, H, W] in [-1, 1] -> uint8 [B, H, W, 3] on the CPU."""
    return ((frames.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu()


class NoiseStreams:
    """A noise source with a stream of its own for each clip, so that a clip's noise does not depend on its batch.

    Draws are made on the CPU, so that one seed means one noise on every device.
    """

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.device = device

    def __call__(self, shape: tuple[int, ...]) -> Tensor:
        """Standard normal float32; shape[0] must be the number of streams."""
        draws = [torch.randn(shape[1:], generator=generator) for generator in self.generators]
        assert len(draws) == shape[0]
        return torch.stack(draws).to(self.device)


def side_by_side(streams: Sequence[NoiseStreams]) -> NoiseStreams:
    """The streams of several sources as one source: what is drawn from it is drawn from them."""
    joined = NoiseStreams([], streams[0].device)
    joined.generators = [generator for each in streams for generator in each.generators]
    return joined


def pasts_side_by_side(pasts: Sequence[Past]) -> Past:
    """Pasts of one kind, see Drawer.kind, as one of all their clips; it has the first one's number of frames."""
    motion = tuple(torch.cat(frames) for frames in zip(*(past.motion for past in pasts), strict=True))
    lasts = [past.last for past in pasts if past.last is not None]
    return Past(motion, torch.cat(lasts) if len(lasts) == len(pasts) else None, pasts[0].n_frames)
