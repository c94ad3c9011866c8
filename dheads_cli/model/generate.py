"""The frame loop: each frame is drawn from noise, given the identity frame, the frames before it and the sound."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from dheads_cli.model.diffusion import PREDICTIONS, Denoised, Schedule, to_grayscale
from dheads_cli.model.unet import UNet
from dheads_cli.protocols import Noise, Sampler


@torch.inference_mode()
def generate(
    unet: UNet,
    schedule: Schedule,
    sampler: Sampler,
    prediction: str,
    identity: Tensor,
    audio_windows: Iterable[Tensor],
    *,
    motion_noise: float,
    noise: Noise,
    precision: torch.dtype = torch.float32,
) -> Iterator[Tensor]:
    """Draw the frames of B clips side by side.

    The motion frames are the last m_x frames drawn, the identity frame standing in for those before the first
    (Diffused Heads, section 3.1). With motion_noise they are shown with fresh Gaussian noise of that level, which the
    network is told: its own small errors drown in it instead of adding up (GameNGen, section 3.2).

    Args:
        unet: the network, in evaluation mode.
        schedule: the full schedule.
        sampler: the sampler component.
        prediction: what the network's output is, a key of diffusion.PREDICTIONS.
        identity: x_Id [B, 3, H, W] in [-1, 1].
        audio_windows: one [B, K, D] for each frame.
        motion_noise: sigma of the noise on motion frames, in units of the frames' [-1, 1].
        noise: source of all random draws: for each frame x_T first, then the motion frames' noise, then the sampler's.
        precision: of the network's arithmetic; the diffusion itself is float32.

    Yields:
        One frame of each clip [B, 3, H, W] in [-1, 1], as soon as it is drawn.
    """
    device = identity.device
    motion: deque[Tensor] = deque([identity] * unet.n_motion_frames, maxlen=unet.n_motion_frames)
    level = torch.full((len(identity),), motion_noise, device=device) if motion_noise else None
    autocast = torch.autocast(device.type, precision, enabled=precision != torch.float32)
    for audio_window in audio_windows:
        x_t = noise(tuple(identity.shape))
        motion_frames = stack_motion(list(motion), identity, unet.grayscale_motion)
        if motion_noise:
            motion_frames = motion_frames + motion_noise * noise(tuple(motion_frames.shape))

        def denoise(x_t: Tensor, t: int, motion_frames: Tensor = motion_frames, y: Tensor = audio_window) -> Denoised:
            step = torch.full((len(x_t),), t, device=device)
            with autocast:
                output = unet(x_t, step, identity, motion_frames, y, level)
            return PREDICTIONS[prediction](output, x_t, schedule.alphas_cumprod[t].to(device, torch.float32), identity)

        frame = sampler(denoise, x_t, schedule, noise)
        motion.append(frame)
        yield frame


def stack_motion(frames: Sequence[Tensor], identity: Tensor, grayscale: bool) -> Tensor:
    """Motion frames, oldest first, as channels: M x [B, 3, H, W] -> [B, M C, H, W], C = 1 where grayscale, else 3."""
    if not frames:
        return identity[:, :0]
    return torch.cat([to_grayscale(frame) for frame in frames] if grayscale else list(frames), dim=1)


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
