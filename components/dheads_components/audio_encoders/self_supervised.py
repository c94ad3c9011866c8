"""Features of a frozen self-supervised network (wav2vec 2.0, HuBERT) for each video frame."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dheads_components.audio_encoders.bundles import Pretrained

HOP, FIELD = 320, 400  # samples between the networks' features, and under the convolutions of each: 20 and 25 ms


class SelfSupervised(nn.Module):
    """Features of some transformer layers, at 50 Hz, those nearest to each part of a video frame side by side.

    The window gets 40 samples of silence at either end, so feature i is of the 25 ms around the middle of samples
    320 i ... 320 i + 319, and a window of T samples has ceil(T / 320) features. A frame's parts, vectors_per_frame of
    them, each take the feature in whose 20 ms their middle lies: at 25 fps and two parts that is every feature once,
    and they lie evenly about the frame's middle. At other rates no part is further than 10 ms from its feature's.

    Attention, and what scales the sound, run over the whole window: the windowing is part of the features. Each
    layer's features are brought to mean 0 and variance 1, as layers of the larger networks, which normalise before
    and not after a block, differ a hundredfold in scale.

    Args:
        pretrained: the network.
        layers: which transformer layers, from 1; more than one are put side by side.
        vectors_per_frame: V, parts of a frame.
        stride_frames: frames that a window gives embeddings for.
        context_frames: frames it has beyond them, on either side.

    Raises:
        ValueError: the numbers make no sense, or there is no such layer.
    """

    sample_rate = 16000

    def __init__(
        self,
        pretrained: Pretrained,
        layers: Sequence[int],
        vectors_per_frame: int,
        stride_frames: int,
        context_frames: int,
    ) -> None:
        super().__init__()
        if vectors_per_frame < 1 or stride_frames < 1 or context_frames < 0:
            raise ValueError(
                "vectors_per_frame and stride_frames must be from 1 and context_frames from 0, not "
                f"{vectors_per_frame}, {stride_frames} and {context_frames}"
            )
        if not layers or not all(1 <= layer <= pretrained.n_layers for layer in layers):
            raise ValueError(f"layer must be one or more of 1 ... {pretrained.n_layers}, not {list(layers)}")
        self.network, self.layers, self.normalize = pretrained.network, tuple(layers), pretrained.normalize
        self.weights = pretrained.weights
        self.vectors_per_frame = vectors_per_frame
        self.stride_frames, self.context_frames = stride_frames, context_frames
        width: int = self.network.encoder.feature_projection.projection.out_features
        self.embed_dim = vectors_per_frame * len(self.layers) * width

    def train(self, mode: bool = True) -> SelfSupervised:
        """Stay as it is: it is frozen, and dropout would make its features random."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, waveform: Tensor, n_frames: int) -> Tensor:
        """float32 [N, T] -> [N, F, V * layers * width]."""
        with torch.autocast(waveform.device.type, enabled=False):
            features = self.features(waveform.float())
        n_vectors = n_frames * self.vectors_per_frame
        middles = (torch.arange(n_vectors, device=features.device) + 0.5) * (waveform.shape[1] / n_vectors)
        nearest = (middles / HOP).long().clamp(max=features.shape[1] - 1)
        return features[:, nearest].reshape(len(waveform), n_frames, self.embed_dim)

    def features(self, waveform: Tensor) -> Tensor:
        """float32 [N, T] -> [N, ceil(T / 320), layers * width]."""
        if self.normalize:
            waveform = F.layer_norm(waveform, waveform.shape[1:])  # each window by itself
        n_features = math.ceil(waveform.shape[1] / HOP)
        edge = (FIELD - HOP) // 2
        padded = F.pad(waveform, (edge, n_features * HOP - waveform.shape[1] + edge))
        outputs, _ = self.network.extract_features(padded, num_layers=max(self.layers))
        chosen = [outputs[layer - 1] for layer in self.layers]
        return torch.cat([F.layer_norm(features, features.shape[-1:]) for features in chosen], dim=-1)


def layers_of(option: int | list[int] | None, depth: float, n_layers: int) -> list[int]:
    """The layers that an option names; None is the one at a share of the network's depth."""
    if option is None:
        return [max(round(depth * n_layers), 1)]
    return [option] if isinstance(option, int) else option
