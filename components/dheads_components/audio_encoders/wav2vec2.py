"""wav2vec 2.0 (Baevski et al. 2020), frozen, by torchaudio's pipelines."""

from __future__ import annotations

from dheads_components.audio_encoders import bundles
from dheads_components.audio_encoders.self_supervised import SelfSupervised, layers_of

FAMILY = ("WAV2VEC2_", "VOXPOPULI_", "MMS_")  # all of the one architecture
DEPTH = 7 / 12


def wav2vec2(
    model: str = "base",
    weights: str | None = None,
    layer: int | list[int] | None = None,
    vectors_per_frame: int = 2,
    stride_frames: int = 50,
    context_frames: int = 25,
) -> SelfSupervised:
    """wav2vec 2.0 features of each frame. Weights do not ship: a file, or torchaudio's download (base: 378 MB).

    Licences, as torchaudio states them: MIT, but for CC BY-NC 4.0 (no commercial use) of voxpopuli_* and mms_fa. Many
    languages: xlsr53 (53), xlsr_300m, xlsr_1b, xlsr_2b (128), mms_fa (over 1100).

    By default one layer at 7/12 of the depth, the 7th of base: these networks first build up, then take back what is
    not needed to predict their own input, and the sounds of speech are told apart best in the middle (Pasad, Chou and
    Livescu 2021, arXiv 2107.04734; Pasad, Shi and Livescu 2023, arXiv 2211.03929). asr_* models were fine-tuned to
    read letters, and hold them best in their last layers. Not measured here: `dheads data probe` compares layers.

    Args:
        model: which network; a wrong name gets the list.
        weights: path of its weights (torchaudio's .pth, or safetensors of the same tensors); None is torch.hub's cache,
            and a download into it.
        layer: transformer layer or layers, from 1; None is the one at 7/12 of the depth.
        vectors_per_frame: parts of a frame with a feature each; two are all there are at 25 fps.
        stride_frames: frames that a window gives embeddings for; 50 are 2 s at 25 fps.
        context_frames: frames it has beyond them, on either side; with 25 windows are 4 s.
    """
    pretrained = bundles.load("wav2vec2", model, FAMILY, weights)
    layers = layers_of(layer, DEPTH, pretrained.n_layers)
    return SelfSupervised(pretrained, layers, vectors_per_frame, stride_frames, context_frames)
