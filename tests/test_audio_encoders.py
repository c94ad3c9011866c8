"""The built-in audio encoders: a click is heard in its own frame, and windows do not change what is heard."""

import pytest
import torch

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import load_model
from dheads_cli.model.speech import encode_speech
from dheads_cli.recipe_io import load_recipe


@pytest.fixture(scope="module", params=["whisper", "logmel"])
def encoder(request):
    torch.manual_seed(0)
    return registry.build("audio_encoders", request.param)


@torch.no_grad()
def test_a_click_is_heard_in_its_own_frame(encoder):
    # The beginning is louder than the click, so that the click does not change the scale of the spectrogram.
    noise = 0.02 * torch.randn(640 * 60, generator=torch.Generator().manual_seed(0))
    noise[: 640 * 5] *= 40
    quiet = encode_speech(encoder, noise, 60, 25)
    for frame in (20, 31, 40):
        clicked = noise.clone()
        clicked[frame * 640 + 280 : frame * 640 + 360] = 0.9
        change = (encode_speech(encoder, clicked, 60, 25) - quiet).norm(dim=-1)
        # The log-mel encoder hears 0.2 s around a frame: those frames respond alike, and the click is in their middle.
        loud = (change > 0.8 * change.max()).nonzero().flatten().float()
        assert abs(loud.mean().item() - frame) <= 1
        assert len(loud) <= 6


@torch.no_grad()
def test_silence_and_clipping_give_finite_embeddings(encoder):
    for wave in (torch.zeros(640 * 30), torch.ones(640 * 30), torch.sign(torch.randn(640 * 30))):
        assert torch.isfinite(encode_speech(encoder, wave, 30, 25)).all()


@torch.no_grad()
def test_a_trained_encoder_hears_the_same_in_a_piece():
    encoder = registry.build("audio_encoders", "logmel")
    wave = torch.randn(640 * 60, generator=torch.Generator().manual_seed(0))
    whole = encoder(wave[None], 60)
    context = encoder.context_frames
    piece = encoder(wave[None, 640 * (20 - context) : 640 * (25 + context)], 5 + 2 * context)
    torch.testing.assert_close(piece[:, context : context + 5], whole[:, 20:25], atol=1e-5, rtol=1e-4)


def test_whisper_is_frozen_and_logmel_is_trained():
    whisper = registry.build("audio_encoders", "whisper")
    assert not any(parameter.requires_grad for parameter in whisper.parameters())
    assert all(parameter.requires_grad for parameter in registry.build("audio_encoders", "logmel").parameters())


def test_whispers_log_mel_spans_its_range():
    whisper = registry.build("audio_encoders", "whisper")
    log_mel = whisper.log_mel(torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)))
    assert log_mel.shape == (1, 80, 100)
    assert (log_mel.max() - log_mel.min()).item() <= 2.0001  # clamped to 8 decades of power, divided by 4


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
