"""The loss of a batch: noise it, run the network on it, and weigh what comes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import torch
from torch import Tensor

from dheads_cli.data.batch import Batch
from dheads_cli.model.build import Parts
from dheads_cli.model.diffusion import Objective, q_sample, training_losses
from dheads_cli.model.guidance import ConditionDropout, Conditions
from dheads_cli.model.motion_frames import add_noise, drop_patches, stack_motion
from dheads_cli.model.rollout import Rollout, evaluating
from dheads_cli.model.timesteps import Timesteps
from dheads_cli.run.batch_parts import Part
from dheads_cli.run.noise_levels import by_corpus, by_noise_level


@dataclass(frozen=True)
class TrainingLoss:
    """Noise a batch, run the network on it, and weigh what comes out.

    Attributes:
        parts: the model's parts.
        objective: the weights of the loss terms.
        device: where it runs.
        precision: of the forward pass; the loss is float32.
        seed: the run's.
        timesteps: how the steps of a batch are drawn.
        dropout: how often a condition is taken away.
        patch_drop: share of the motion frames' squares that are set to zero.
        patch_px: side of such a square, px.
        rollout: how the network draws the motion frames of a batch that is to be had so.
        network: the network's forward, compiled; None runs the network itself.
        corpora: names of several corpora, whose losses are told apart.
    """

    parts: Parts
    objective: Objective
    device: torch.device
    precision: torch.dtype
    seed: int
    timesteps: Timesteps
    dropout: ConditionDropout = field(default_factory=ConditionDropout)
    patch_drop: float = 0.0
    patch_px: int = 1
    rollout: Rollout | None = None
    network: Callable[..., Tensor] | None = None
    corpora: Sequence[str] = ()

    def __call__(self, batch: Batch, noise_seed: int, part: Part | None = None) -> dict[str, Tensor]:
        """The loss and its terms, also by noise level and corpus, each [B]; noise_seed decides all random draws.

        Where the batch is a part of a larger one, its samples' draws are those they have in that.
        """
        part = part or Part(0, len(batch.x_0), len(batch.x_0))
        schedule, unet = self.parts.schedule, self.parts.unet
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + noise_seed)
        t, weights = map(part.of, self.timesteps.draw(part.whole, generator))
        eps = part.randn(batch.x_0.shape, generator).to(self.device)
        x_0, identity = batch.x_0.to(self.device), batch.identity.to(self.device)
        audio = self.hear(batch.audio, batch.audio_index)
        controls = None if batch.controls is None else batch.controls.to(self.device)
        given = Conditions(identity, self.motion_frames(batch, identity, noise_seed, part), audio, controls)
        given = self.dropout(given, part.uniform(generator))
        motion = stack_motion(given.motion, given.identity, unet.grayscale_motion)
        level = None
        if self.patch_drop:  # of a stream of its own, so that with it or without, the other draws are the same
            own = torch.Generator().manual_seed(self.seed * 1_000_003 + noise_seed + 2**40)
            motion = drop_patches(motion, unet.n_motion_frames, self.patch_drop, self.patch_px, part.uniform(own))
        if unet.motion_noise_embed is not None:
            level = batch.motion_noise.to(self.device)
            noise = part.randn(motion.shape, generator).to(self.device)
            motion = add_noise(motion, level, noise)
        x_t = q_sample(schedule, x_0, t, eps)
        with self.autocast():
            output = (self.network or unet)(
                x_t, t.to(self.device), given.identity, motion, given.audio, level, given.controls
            )
        mask = batch.mouth_mask.to(self.device)
        losses = training_losses(self.objective, schedule, output, x_0, x_t, eps, t, given.identity, mask)
        self.timesteps.observe(t, losses["loss"].detach())
        weighed = by_noise_level(losses, t, weights, schedule.n_timesteps)
        return weighed | by_corpus(weighed["loss"], batch.corpus, self.corpora, weights)

    def motion_frames(self, batch: Batch, identity: Tensor, noise_seed: int, part: Part) -> list[Tensor]:
        """The frames before the target, M x [B, 3, H, W]: real ones, or those that the network draws itself."""
        if self.rollout is None or batch.start_exists is None:
            return [frame.to(self.device) for frame in batch.motion]
        own = torch.Generator().manual_seed(self.seed * 1_000_003 + noise_seed + 2**41)
        with torch.no_grad(), evaluating(*self.parts.trained_modules().values()):
            windows = [
                self.hear(audio, index)
                for audio, index in zip_longest(batch.start_audio, batch.start_index)  # no index: a frozen encoder
            ]
        return self.rollout(
            self.parts.unet,
            self.parts.schedule,
            identity,
            [frame.to(self.device) for frame in batch.start],
            windows,
            batch.start_exists.to(self.device),
            lambda shape: part.randn(torch.Size(shape), own).to(self.device),
            [each.to(self.device) for each in batch.start_controls],
        )

    def hear(self, audio: Tensor, audio_index: Tensor | None) -> Tensor:
        """Audio windows [B, K, D] of a batch's sound, and their places in it."""
        audio = audio.to(self.device)
        if audio_index is None:
            return audio
        encoder = self.parts.audio_encoder
        with self.autocast():
            embeddings = encoder(audio, audio_index.shape[1] + 2 * encoder.context_frames)
        index = audio_index.to(self.device)[:, :, None].expand(-1, -1, embeddings.shape[-1])
        return embeddings.gather(1, index)

    def autocast(self) -> torch.autocast:
        """The forward pass's arithmetic."""
        return torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)
