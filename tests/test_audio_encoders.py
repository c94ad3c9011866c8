"""The built-in audio encoders: which frame hears what, at which input rate, and what `dheads components` says of them.

The conformance kit (tests/test_conformance.py) asks all of them what every encoder must do.
"""

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
import torchaudio

from dheads_cli import registry
from dheads_cli.conformance.audio_alignment import click_response
from dheads_cli.data.media import read_audio
from dheads_cli.model.speech import encode_speech, frames_of
from dheads_cli.run import encoder_facts
from dheads_cli.run.components import components

SPEECH = Path(__file__).parent / "data" / "grid" / "s1" / "bbaf2n.mp4"
RATES = (8000, 22050, 44100, 48000)


@pytest.fixture(scope="module", params=["whisper", "logmel", "waveform_gru"])
def encoder(request):
    torch.manual_seed(0)
    return registry.build("audio_encoders", request.param).eval()


@pytest.mark.parametrize("fps", [25, 30])
def test_whisper_answers_a_click_most_in_its_very_frame(fps):
    response = click_response(registry.build("audio_encoders", "whisper"), fps)
    assert response.peak == 0
    assert response.strength[response.lags.abs() > 1].max() < 0.75


def test_log_mel_answers_a_click_in_the_frames_whose_columns_hold_it():
    torch.manual_seed(0)
    response = click_response(registry.build("audio_encoders", "logmel"), 25)
    # 112.5 ms before a frame's middle to 102.5 ms after it: five frames, and a sixth for a click near a frame's end.
    assert response.lags[response.strength > 0].tolist() == [-2, -1, 0, 1, 2, 3]
    assert (response.strength[response.lags.abs() <= 2] > 0.85).all()


def test_log_mel_columns_lie_around_the_frame_s_middle():
    encoder = registry.build("audio_encoders", "logmel", {"embed_dim": 4})
    wave_ = 0.1 * torch.randn(1, 640 * 20, generator=torch.Generator().manual_seed(0))
    spectrogram = torchaudio.transforms.MelSpectrogram(16000, n_fft=400, hop_length=160, n_mels=80, pad_mode="constant")
    columns = (spectrogram(wave_) + 1e-5).log10() / 2 + 1  # column c is centred on sample 160 c
    expected = torch.stack([columns[0, :, 4 * k + 2 - 10 : 4 * k + 2 + 10].flatten() for k in range(4, 16)])
    with torch.no_grad():
        torch.testing.assert_close(encoder(wave_, 20)[0, 4:16], encoder.mlp(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("fps", [25, 30, 60])
@torch.no_grad()
def test_a_trained_encoder_hears_the_same_in_a_piece(fps):
    encoder = registry.build("audio_encoders", "logmel")
    sound = 0.1 * torch.randn(16000 * 60 // fps, generator=torch.Generator().manual_seed(0))
    whole = encoder(sound[None], 60)
    context = encoder.context_frames
    begin, end = (round(frame / fps * 16000) for frame in (20 - context, 25 + context))
    piece = encoder(sound[None, begin:end], 5 + 2 * context)
    # A piece begins at a whole sample, so its frames may lie one sample off at 30 and 60 fps.
    close = (piece[:, context : context + 5] - whole[:, 20:25]).norm() / whole[:, 20:25].norm()
    assert close < (1e-5 if fps == 25 else 0.02)


def write_wav(path: Path, sound: np.ndarray, rate: int) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((sound * 32767).round().astype("<i2").tobytes())
    return path


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """One sentence without what 8 kHz can't hold, as files of several rates, among them the encoders' own."""
    folder = tmp_path_factory.mktemp("rates")
    sound = torch.from_numpy(read_audio(SPEECH, 48000))
    spectrum = torch.fft.rfft(sound)
    spectrum[torch.fft.rfftfreq(len(sound), 1 / 48000) > 3400] = 0
    sound = torch.fft.irfft(spectrum, len(sound))
    return {
        rate: write_wav(folder / f"{rate}.wav", torchaudio.functional.resample(sound, 48000, rate).numpy(), rate)
        for rate in (16000, *RATES)
    }


def test_speech_of_any_rate_gets_nearly_the_same_embeddings(encoder, recordings):
    def heard(rate):
        sound = torch.from_numpy(read_audio(recordings[rate], encoder.sample_rate))
        embeddings = encode_speech(encoder, sound, frames_of(len(sound), 25, encoder.sample_rate), 25)
        return embeddings[20:]  # a recurrent one takes some frames to leave its first state

    own = heard(16000)
    spread = (own - own.mean(dim=0)).norm()
    for rate in RATES:
        assert (heard(rate) - own).norm() < 0.1 * spread, rate


def test_whisper_is_frozen_and_logmel_is_trained():
    whisper = registry.build("audio_encoders", "whisper")
    assert not any(parameter.requires_grad for parameter in whisper.parameters())
    assert all(parameter.requires_grad for parameter in registry.build("audio_encoders", "logmel").parameters())


def test_whispers_log_mel_spans_its_range():
    whisper = registry.build("audio_encoders", "whisper")
    log_mel = whisper.log_mel(torch.randn(1, 16000, generator=torch.Generator().manual_seed(0)))
    assert log_mel.shape == (1, 80, 100)
    assert (log_mel.max() - log_mel.min()).item() <= 2.0001  # clamped to 8 decades of power, divided by 4


def test_the_facts_follow_from_the_contract():
    trained, stateful = (encoder_facts.facts_of(name) for name in ("logmel", "waveform_gru"))
    assert trained["trained"]
    assert (trained["before_frames"], trained["after_frames"], trained["latency_frames"]) == (7, 7, 107)
    assert stateful["stateful"]
    assert (stateful["before_frames"], stateful["after_frames"], stateful["latency_frames"]) == (None, 12, 72)


def test_a_frozen_encoder_s_facts_name_its_weights():
    whisper = registry.build("audio_encoders", "whisper")
    found = encoder_facts.facts(whisper)
    assert not found["trained"]
    assert found["window_frames"] == whisper.stride_frames + 2 * whisper.context_frames
    assert found["before_frames"] == found["after_frames"] == whisper.stride_frames + whisper.context_frames - 1
    assert found["weights"] == (
        "Whisper tiny.en encoder, whisper-tiny.en-encoder.safetensors sha256 de8ec05a5839, MIT"
    )


def test_listing_shows_facts_and_why_some_have_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    found = {each["name"]: each["facts"] for each in components("audio_encoders")}
    assert found["logmel"] == encoder_facts.facts_of("logmel")
    shown = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    logmel = "logmel 256 16000 7 frames either side (0.60 s) 107 frames (4.28 s) learned with the model"
    assert logmel in shown
    assert "hubert - - - - not built, see below" in shown
    assert f"hubert: {found['hubert']['error']}" in shown
    assert list(tmp_path.iterdir()) == []
