"""The options of the audio encoder `whisper`: layers, the vectors of a frame, windows."""

import pytest
import torch

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import load_model
from dheads_cli.model.speech import encode_speech
from dheads_cli.recipe_io import load_recipe

SPEECH = 0.1 * torch.randn(2, 640 * 40, generator=torch.Generator().manual_seed(1))


def whisper(**options):
    return registry.build("audio_encoders", "whisper", options)


def test_whispers_layers_are_averaged_and_each_has_a_place():
    second, third, last, both = (whisper(layers=layers)(SPEECH, 40) for layers in ([2], [3], [4], [3, 2]))
    torch.testing.assert_close(both, (second + third) / 2, atol=1e-5, rtol=1e-5)
    for one, other in ((second, third), (third, last)):
        assert (one - other).abs().mean() > 0.1
    for features in (second, third):  # as the network takes them: no layer is louder than another
        assert features.std().item() == pytest.approx(1, abs=0.25)


def test_whispers_vectors_of_a_frame_are_averaged_or_set_side_by_side():
    mean, beside = whisper()(SPEECH, 40), whisper(combine="concatenate")(SPEECH, 40)
    assert (mean.shape, beside.shape) == ((2, 40, 384), (2, 40, 768))
    torch.testing.assert_close(mean, (beside[..., :384] + beside[..., 384:]) / 2)
    single = whisper(vectors_per_frame=1, combine="concatenate")
    assert single.embed_dim == 384
    torch.testing.assert_close(single(SPEECH, 40), beside[..., 384:])  # nearest to the frame's middle: the second


def test_whispers_windows_are_options():
    encoder = whisper(stride_frames=10, context_frames=5)
    embeddings = encode_speech(encoder, SPEECH[0], 40, 25)
    torch.testing.assert_close(embeddings[10:20], encoder(SPEECH[:1, 640 * 5 : 640 * 25], 20)[0, 5:15])
    assert (embeddings - encode_speech(whisper(), SPEECH[0], 40, 25)).abs().max() > 0.1


@pytest.mark.parametrize(("options", "said"), [
    ({"layers": []}, "layers must be some of 1 ... 4"),
    ({"layers": [5]}, "layers must be some of 1 ... 4"),
    ({"layers": [2, 2]}, "each once"),
    ({"combine": "max"}, "must be 'mean' or 'concatenate'"),
    ({"stride_frames": 0}, "stride_frames must be from 1"),
])  # fmt: skip
def test_whispers_wrong_options_are_told(options, said):
    with pytest.raises(DheadsError, match=said):
        whisper(**options)


def test_a_window_beyond_whispers_30_s_is_told():
    encoder = whisper(stride_frames=700, context_frames=50)
    with pytest.raises(DheadsError, match="windows of at most 30 s, not 32 s"):
        encode_speech(encoder, SPEECH[0], 40, 25)


def test_the_shipped_model_hears_as_it_was_trained():
    trained = load_model("tiny", torch.device("cpu"))
    encoder = trained.parts.audio_encoder
    assert (encoder.layers, encoder.combine, encoder.embed_dim) == ((4,), "concatenate", 768)
    assert (encoder.stride_frames, encoder.context_frames) == (50, 25)
    assert load_recipe("tiny").recipe.model.audio_encoder == trained.recipe.model.audio_encoder
