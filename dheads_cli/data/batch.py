"""What one training step of a talking head needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """What one training step needs; frames are float32 in [-1, 1].

    Attributes:
        x_0: target frames [B, 3, H, W].
        identity: identity frames [B, 3, H, W].
        motion: motion frames, oldest first, clean, M x [B, 3, H, W].
        audio: windows of embeddings [B, K, D] of a frozen encoder, or, for one that is trained with the model, the
            sound of frames k - m_y - context ... k + m_y + context [B, T].
        audio_index: places of the window among the embeddings of that sound [B, K]; None for a frozen encoder.
        mouth_mask: 1 inside the target's mouth box [B, 1, H, W].
        motion_noise: sigma of the noise to put on the motion frames [B], or on each of them [B, M].
        start: in a step whose motion frames the network draws itself (model/rollout.py), the real frames before the
            first it draws, oldest first, M x [B, 3, H, W]; else empty, as are the next two.
        start_audio: as `audio`, for each frame it draws.
        start_index: as `audio_index`, for each frame it draws; empty for a frozen encoder.
        start_exists: whether the clip has these frames, bool [B, N]; None where it draws none.
        corpus: which of several corpora each sample is from, int64 [B]; None where there is one.
        controls: eye openness and head turn of the target [B, n_controls], NaN where withheld (data/controls.py); None
            for a model without controls.
        start_controls: as `controls`, for each frame it draws; empty for a model without controls.
    """

    x_0: Tensor
    identity: Tensor
    motion: list[Tensor]
    audio: Tensor
    audio_index: Tensor | None
    mouth_mask: Tensor
    motion_noise: Tensor
    start: list[Tensor] = field(default_factory=list)
    start_audio: list[Tensor] = field(default_factory=list)
    start_index: list[Tensor] = field(default_factory=list)
    start_exists: Tensor | None = None
    corpus: Tensor | None = None
    controls: Tensor | None = None
    start_controls: list[Tensor] = field(default_factory=list)
