"""The frame loop: each frame is drawn from noise, given the identity frame, the frames before it and the sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

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


@torch.inference_mode()
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
) -> Iterator[Tensor]:
    """Draw the frames of B clips side by side.

    The motion frames are the last m_x frames drawn, the identity frame standing in for those before the first
    (Diffused Heads, section 3.1).

    Args:
        unet: the network, in evaluation mode.
        schedule: the full schedule.
        sampler: the sampler component.
        prediction: what the network's output is, a key of diffusion.PREDICTIONS.
        identity: x_Id [B, 3, H, W] in [-1, 1].
        audio_windows: one [B, K, D] for each frame.
        continuity: how a frame takes up from those before it.
        noise: source of all random draws: for each frame x_T first, then the motion frames' noise, then the sampler's.
        frame_noise: source of x_T; None is `noise`.
        guidance: how strongly each condition counts; None is as the network has learned it. Its passes go through the
            network as one batch, and see the same noise.
        motion_before: the m_x frames before the first, oldest first, M x [B, 3, H, W]; None is the identity frame.
        precision: of the network's arithmetic; the diffusion itself is float32.

    Yields:
        One frame of each clip [B, 3, H, W] in [-1, 1], as soon as it is drawn.
    """
    device = identity.device
    before = [identity] * unet.n_motion_frames if motion_before is None else motion_before
    motion: deque[Tensor] = deque(before, maxlen=unet.n_motion_frames)
    guidance = guidance or Guidance()
    passes = guidance.repeated(identity)  # [P B, 3, H, W]
    level = sampling_levels(continuity.motion_noise, unet.n_motion_frames, unet.motion_noise_per_frame, passes)
    autocast = torch.autocast(device.type, precision, enabled=precision != torch.float32)
    warm = schedule.until(continuity.warm_start) if continuity.warm_start else None
    frame: Tensor | None = None
    for k, audio_window in enumerate(audio_windows):
        x_t, steps = (frame_noise or noise)(tuple(identity.shape)), schedule
        if warm is not None and frame is not None:
            abar = float(warm.alphas_cumprod[-1])
            x_t, steps = abar**0.5 * frame + (1 - abar) ** 0.5 * x_t, warm
        shown = list(motion)
        if shown and continuity.stabilize_every and k and k % continuity.stabilize_every == 0:
            shown[0] = identity
        given = guidance.passes(Conditions(identity, shown, audio_window))
        motion_frames = stack_motion(given.motion, given.identity, unet.grayscale_motion)
        if level is not None:
            drawn = noise((len(identity), *motion_frames.shape[1:]))
            motion_frames = add_noise(motion_frames, level, guidance.repeated(drawn))

        def denoise(x_t: Tensor, t: int, given: Conditions = given, motion_frames: Tensor = motion_frames) -> Denoised:
            x_t = guidance.repeated(x_t)
            step = torch.full((len(x_t),), t, device=device)
            with autocast:
                output = unet(x_t, step, given.identity, motion_frames, given.audio, level)
            abar = schedule.alpha_cumprod_at(t).to(device)
            return guidance.combined(PREDICTIONS[prediction](output, x_t, abar, given.identity))

        frame = sampler(denoise, x_t, steps, noise)
        if continuity.anchor:
            frame = anchored(frame, identity, continuity.anchor)
        motion.append(frame)
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
