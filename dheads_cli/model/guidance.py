"""Conditions that can be taken away: in training some of the time, in sampling to be guided away from what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dheads_cli.model.diffusion import Denoised


@dataclass(frozen=True)
class Conditions:
    """What a frame is drawn from, besides x_t and its step.

    Attributes:
        identity: x_Id [B, 3, H, W] in [-1, 1].
        motion: the frames before, oldest first, M x [B, 3, H, W]; the identity frame stands for missing ones.
        audio: audio window [B, K, D].
        controls: eye openness and head turn [B, n_controls], NaN where withheld; None for a model without controls, or
            withholds all. Nothing takes them away here: batches come with some withheld (`train.control_drop`).
    """

    identity: Tensor
    motion: list[Tensor]
    audio: Tensor
    controls: Tensor | None = None

    def without(self, condition: str, dropped: Tensor | None = None) -> Conditions:
        """The conditions without one of them; no weights stand for it, so any network can learn what is left.

        - audio: a window of zeros, which no encoder gives for a sound. What the network makes of it, through the
          biases of its `audio_embed`, is a learned embedding, as the null token of Ho & Salimans 2022 is.
        - motion: the identity frame in place of all motion frames. So the first frame of a video is drawn, when
          nothing of the motion is known, and so `train.motion_drop` trains it.
        - identity: mid-gray, zeros, a fixed null as in Brooks et al. 2023, section 3.2.1, wherever the identity
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

    def __call__(self, given: Conditions, uniform: Callable[[tuple[int, ...]], Tensor]) -> Conditions:
        """What is left of a batch's conditions.

        Args:
            given: the conditions.
            uniform: draws in [0, 1) of a shape, on the CPU; a share of 0 draws nothing.
        """
        for condition, share in (("audio", self.audio), ("identity", self.identity)):
            if share:
                dropped = uniform((len(given.identity),)) < share
                given = given.without(condition, dropped.to(given.identity.device))
        return given


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance (Ho & Salimans 2022), each condition with a scale s_c of its own; s_c = 1 is off.

    With D(C) what the model makes of x_t under all its conditions, and D(C \\ c) without one of them,

        D = D(C) + sum_c (s_c - 1) (D(C) - D(C \\ c)),

    as Xu et al. 2024 (VASA-1) add up theirs, with lambda_c = s_c - 1. Its score is that of p(x | C) times, for each
    condition, p(c | x, C \\ c)^(s_c - 1): it is made more certain, given all the others. Of one condition it is eq. 6
    of Ho & Salimans with w = s - 1. The chain of Brooks et al. 2023, eq. 3, has the same last term, but needs an order,
    and the model without several conditions at once, which small shares of each hardly ever train; the sum of Liu et
    al. 2022 begins from none of them, and is not off at 1.

    D may be eps or x_0: at a given x_t each is linear in the other, and the weights add up to 1.

    Attributes:
        scales: by condition: "audio", "identity", "motion"; 1 where not named. Below 1 a condition counts less; at 0,
            where no other is guided, not at all.
        interval: lowest and highest step that is guided, as shares (0 ... 1) of the schedule; at the others the network
            sees one pass (Kynkäänniemi et al. 2024).
    """

    scales: Mapping[str, float] = field(default_factory=dict)
    interval: Sequence[float] = (0.0, 1.0)

    @property
    def guided(self) -> dict[str, float]:
        """s_c - 1 of the conditions whose scale is not 1: for each the network sees one more frame."""
        return {condition: scale - 1 for condition, scale in self.scales.items() if scale != 1}

    def acts_at(self, share: float) -> bool:
        """Whether a step, as a share of the schedule, is guided."""
        return bool(self.guided) and self.interval[0] <= share <= self.interval[1]

    def passes(self, given: Conditions) -> Conditions:
        """What the network is shown for B frames: all conditions, then all but one for each guided one.

        Returns:
            One batch of P B, pass after pass; `given` itself where nothing is guided.
        """
        shown = [given, *(given.without(condition) for condition in self.guided)]
        if len(shown) == 1:
            return given
        return Conditions(
            torch.cat([each.identity for each in shown]),
            [torch.cat(frames) for frames in zip(*(each.motion for each in shown), strict=True)],
            torch.cat([each.audio for each in shown]),
            None if given.controls is None else given.controls.repeat(len(shown), 1),
        )

    def repeated(self, x: Tensor) -> Tensor:
        """[B, C, H, W] once for each pass: [P B, C, H, W]."""
        n_passes = 1 + len(self.guided)
        return x if n_passes == 1 else x.repeat(n_passes, 1, 1, 1)

    def combined(self, seen: Denoised) -> Denoised:
        """The passes' views [P B, ...] as one [B, ...]; the variance is that of the pass with all conditions."""
        differences = self.guided.values()
        if not differences:
            return seen
        weights = (1 + sum(differences), *(-difference for difference in differences))

        def weighed(x: Tensor) -> Tensor:
            passes = x.chunk(len(weights))
            return torch.stack([weight * each for weight, each in zip(weights, passes, strict=True)]).sum(0)

        nu = None if seen.nu is None else seen.nu.chunk(len(weights))[0]
        return Denoised(weighed(seen.x_0), weighed(seen.eps), nu)
