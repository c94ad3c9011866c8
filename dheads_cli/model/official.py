"""The authors' release in our terms: its weights, its float32 schedule, its order of random draws.

All of it runs on the code that trains and samples everything else; here is only what differs.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dheads_cli import registry
from dheads_cli.data.mouth_box import mouth_box_mask
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_unet
from dheads_cli.model.diffusion import Objective, Schedule, cosine_betas, q_sample, respaced, shifted, training_losses
from dheads_cli.model.generate import Continuity, generate
from dheads_cli.model.official_fit import Fit, fit_state_dict, misfit
from dheads_cli.model.speech import audio_windows
from dheads_cli.model.unet import UNet
from dheads_cli.protocols import Noise

N_TIMESTEPS = 1000
MOUTH_MARGIN_PX = 5  # growth of the mouth box, whatever the size of the frames


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


def official_schedule(n_timesteps: int = N_TIMESTEPS, n_steps: int | None = None) -> Schedule:
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
    x_0, eps, identity_frame, motion_frames, audio_window = (
        tensor.float() for tensor in (x_0, eps, identity_frame, motion_frames, audio_window)
    )
    x_t = q_sample(schedule, x_0, t, eps)
    output = unet(x_t, t, identity_frame, motion_frames, audio_window)
    height, width = x_0.shape[-2:]
    masks = [mouth_box_mask(points.numpy(), height, width, MOUTH_MARGIN_PX) for points in mouth_landmarks.cpu().float()]
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

    Raises:
        DheadsError: n_steps is not in 1 ... T, or stabilize_every below 1.
    """
    if not 1 <= n_steps <= N_TIMESTEPS:
        raise DheadsError(f"n_steps must be from 1 to {N_TIMESTEPS}, not {n_steps}")
    if stabilize_every is not None and stabilize_every < 1:
        raise DheadsError(f"stabilize_every must be None or from 1, not {stabilize_every}")
    identity_frame, audio_sequence = identity_frame.float(), audio_sequence.float()

    def draw(shape: tuple[int, ...]) -> Tensor:
        return torch.as_tensor(noise(shape)).to(identity_frame)

    n_frames = audio_sequence.shape[1]
    x_T = iter(draw((len(identity_frame), n_frames, *identity_frame.shape[1:])).unbind(1))
    frames = generate(
        unet,
        official_schedule(n_steps=n_steps),
        registry.build("samplers", "ddpm", {"steps": n_steps}),
        "eps",
        identity_frame,
        audio_windows(audio_sequence, unet.n_window // 2),
        continuity=Continuity(stabilize_every=stabilize_every),
        noise=draw,
        frame_noise=lambda shape: next(x_T),
    )
    return torch.stack(list(frames), dim=1)
