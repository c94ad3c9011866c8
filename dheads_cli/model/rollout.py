"""Self-rollout: in some training steps the network sees frames of its own, as it will when it samples.

The frames before the target are drawn by the network itself, without gradient, in a few sampler steps and with the real
sound, then rounded to 8 bit; the loss is the usual one, on the real next frame. So the errors it learns from are its
own, and not noise's (Self-Forcing: Huang et al. 2025, arXiv 2506.08009; DIAMOND: Alonso et al. 2024, arXiv 2405.12399,
whose world model likewise goes on from frames rounded to 8 bit). Unlike Self-Forcing the loss is that of the next real
frame alone, not of the drawn video as a whole, and no gradient goes through what was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dheads_cli.model.diffusion import Schedule
from dheads_cli.model.generate import Continuity, from_uint8, generate, to_uint8
from dheads_cli.model.unet import UNet
from dheads_cli.protocols import Noise, Sampler


@dataclass(frozen=True)
class Rollout:
    """How the network draws its own motion frames.

    Attributes:
        sampler: the sampler, of few steps.
        prediction: what the network's output is, a key of diffusion.PREDICTIONS.
        continuity: how a frame takes up from those before it: the level of noise on motion frames in sampling.
        precision: of the network's arithmetic.
    """

    sampler: Sampler
    prediction: str
    continuity: Continuity
    precision: torch.dtype

    def __call__(
        self,
        unet: UNet,
        schedule: Schedule,
        identity: Tensor,
        before: Sequence[Tensor],
        windows: Sequence[Tensor],
        exists: Tensor,
        noise: Noise,
        controls: Sequence[Tensor] = (),
    ) -> list[Tensor]:
        """Draw len(windows) frames one after another and give the last m_x, oldest first, M x [B, 3, H, W].

        Args:
            unet: the network; dropout is off while it draws.
            schedule: the full schedule.
            identity: x_Id [B, 3, H, W] in [-1, 1].
            before: real motion frames of the first frame drawn, oldest first, M x [B, 3, H, W].
            windows: audio window of each frame to draw, [B, K, D] each.
            exists: whether the clip has that frame, bool [B, N]; one before its beginning is the identity frame.
            noise: of the draws.
            controls: of each frame to draw, [B, n_controls] each; none leaves all to the network.
        """
        motion = list(before)
        with evaluating(unet):
            told: Sequence[Tensor | None] = controls or [None] * len(windows)
            for window, has_frame, shown in zip(windows, exists.unbind(1), told, strict=True):
                frames = generate(
                    unet,
                    schedule,
                    self.sampler,
                    self.prediction,
                    identity,
                    [window],
                    continuity=self.continuity,
                    noise=noise,
                    motion_before=motion,
                    precision=self.precision,
                    controls=[shown],
                )
                drawn = from_uint8(to_uint8(next(frames)).to(identity.device))
                motion = [*motion[1:], torch.where(has_frame.view(-1, 1, 1, 1), drawn, identity)]
        return motion


@contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Modules without dropout, and with running statistics that stay; afterwards as they were."""
    were = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, were, strict=True):
            module.train(training)
