"""Conditions that can be taken away: in training some of the time, in sampling to be guided away from what is left."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """What a frame is drawn from, besides x_t and its step.

    Attributes:
        identity: x_Id [B, 3, H, W] in [-1, 1].
        motion: the frames before, oldest first, M x [B, 3, H, W]; the identity frame stands for missing ones.
        audio: audio window [B, K, D].
    """

    identity: Tensor
    motion: list[Tensor]
    audio: Tensor

    def without(self, condition: str, dropped: Tensor | None = None) -> Conditions:
        """The conditions without one of them; no weights stand for it, so any network can learn what is left.

        - audio: a window of zeros, which no encoder gives for a sound. What the network makes of it, through the
          biases of its `audio_embed`, is a learned embedding: the null token of Ho & Salimans 2022, section 3.2.
        - motion: the identity frame in place of all motion frames. So the first frame of a video is drawn, when
          nothing of the motion is known, and so `train.motion_drop` trains it.
        - identity: mid-gray, zeros (as the null image of Brooks et al. 2023, section 3.2.1), wherever the identity
          frame stands: among the inputs, for missing motion frames, and where `identity_residual` adds the output to
          it. With the true frame left in any of these, nothing would be missing.

        Args:
            condition: "audio", "identity" or "motion".
            dropped: the samples that lose it, bool [B]; None is all.
        """
        if dropped is None:
            dropped = torch.ones(len(self.identity), dtype=torch.bool, device=self.identity.device)
        of_frames = dropped.view(-1, 1, 1, 1)
        if condition == "audio":
            return replace(self, audio=self.audio.masked_fill(dropped.view(-1, 1, 1), 0))
        if condition == "motion":
            return replace(self, motion=[torch.where(of_frames, self.identity, frame) for frame in self.motion])
        assert condition == "identity"
        stands_in = [(frame == self.identity).flatten(1).all(1).view(-1, 1, 1, 1) for frame in self.motion]
        motion = [frame.masked_fill(of_frames & same, 0) for frame, same in zip(self.motion, stands_in, strict=True)]
        return replace(self, identity=self.identity.masked_fill(of_frames, 0), motion=motion)


@dataclass(frozen=True)
class ConditionDropout:
    """How often training takes a condition away, for the model to learn what frames are like without it.

    Motion is not among these: `train.motion_drop` puts the identity frame in its place where batches are made.

    Attributes:
        audio: share of the samples without audio.
        identity: share of the samples without an identity frame, independently.
    """

    audio: float = 0.0
    identity: float = 0.0

    def __call__(self, given: Conditions, generator: torch.Generator) -> Conditions:
        """What is left of a batch's conditions; a share of 0 draws nothing from the CPU generator."""
        for condition, share in (("audio", self.audio), ("identity", self.identity)):
            if share:
                dropped = torch.rand(len(given.identity), generator=generator) < share
                given = given.without(condition, dropped.to(given.identity.device))
        return given
