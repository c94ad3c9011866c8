"""The built-in audio encoders: a click is heard in its own frame, and windows do not change what is heard."""

import pytest
import torch

from dheads_cli import registry
from dheads_cli.model.speech import encode_speech


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
