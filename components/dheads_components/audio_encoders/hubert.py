"""HuBERT (Hsu et al. 2021), frozen, by torchaudio's pipelines."""

from __future__ import annotations

from dheads_components.audio_encoders import bundles
from dheads_components.audio_encoders.self_supervised import SelfSupervised, layers_of

FAMILY = ("HUBERT_",)
DEPTH = 9 / 12


def hubert(
    model: str = "base",
    weights: str | None = None,
    layer: int | list[int] | None = None,
    vectors_per_frame: int = 2,
    stride_frames: int = 50,
    context_frames: int = 25,
) -> SelfSupervised:
    """HuBERT features of each frame. Weights do not ship: a file, or torchaudio's download (base: 378 MB). MIT.

    By default one layer at 9/12 of the depth: the 9th of base is where its makers took the features whose clusters
    the larger networks then learned to predict, being nearest to phones (Hsu et al. 2021, arXiv 2106.07447); unlike in
    wav2vec 2.0, the sounds of speech stay well told apart in deep layers (Pasad, Shi and Livescu 2023, arXiv
    2211.03929). Not measured here: `dheads data probe` compares layers.

    Args:
        model: which network; a wrong name gets the list.
        weights: path of its weights (torchaudio's .pth, or safetensors of the same tensors); None is torch.hub's cache,
            and a download into it.
        layer: transformer layer or layers, from 1; None is the one at 9/12 of the depth.
        vectors_per_frame: parts of a frame with a feature each; two are all there are at 25 fps.
        stride_frames: frames that a window gives embeddings for; 50 are 2 s at 25 fps.
        context_frames: frames it has beyond them, on either side; with 25 windows are 4 s.
    """
    pretrained = bundles.load("hubert", model, FAMILY, weights)
    layers = layers_of(layer, DEPTH, pretrained.n_layers)
    return SelfSupervised(pretrained, layers, vectors_per_frame, stride_frames, context_frames)
