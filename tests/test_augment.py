"""Waveform augmentation: what is asked for is done, and every sound stays where it was."""

import math
from pathlib import Path

import numpy as np
import pytest

from dheads_cli.data import augment, effects
from dheads_cli.data.augment import AUGMENTATIONS
from dheads_cli.data.codecs import CODECS, codec
from dheads_cli.data.media import read_audio
from dheads_cli.recipe_train import Augment

RATE = 16000
CLICK = RATE  # sample
# How far the click may move, ms: half a frame for speed, the pitch's window; a sample or two otherwise.
SYNC_MS = dict.fromkeys(AUGMENTATIONS, 0.2) | {"speed": 20.0, "pitch": 5.0, "codec": 1.0}
GRID = Path(__file__).parent / "data" / "grid" / "s1" / "bbaf2n.mp4"


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return read_audio(GRID, RATE)


def click() -> np.ndarray:
    """1 ms of noise after one second, in the middle of two seconds of faint noise."""
    rng = np.random.default_rng(0)
    wave = (1e-4 * rng.standard_normal(2 * RATE)).astype(np.float32)
    wave[CLICK : CLICK + 16] = 0.7 * np.hanning(16) * rng.choice([-1, 1], 16)
    return wave


def place_ms(wave: np.ndarray) -> float:
    """Where the loudest 4 ms are, their middle, ms after where the click is."""
    energy = np.convolve(np.square(wave, dtype=np.float64), np.hanning(64), "same")
    return (int(energy.argmax()) - (CLICK + 7.5)) * 1000 / RATE


def level_db(wave: np.ndarray) -> float:
    return 10 * math.log10(np.mean(np.square(wave, dtype=np.float64)))


def peak_hz(wave: np.ndarray) -> float:
    n = 1 << 18
    middle = wave[len(wave) // 4 : -len(wave) // 4]
    return float(np.abs(np.fft.rfft(middle * np.hanning(len(middle)), n)).argmax() * RATE / n)


def tone(hz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(2 * RATE) / RATE)).astype(np.float32)


def test_a_recipe_knows_every_kind():
    kinds = set(Augment.model_fields) - {"variants"}
    assert kinds == set(AUGMENTATIONS) == set(augment.ORDER)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_length_and_range_hold_and_the_sound_changes(name, strength, speech):
    changed = AUGMENTATIONS[name](speech, RATE, strength, np.random.default_rng(1))
    assert changed.shape == speech.shape
    assert changed.dtype == np.float32
    assert np.isfinite(changed).all()
    assert np.abs(changed).max() <= 1
    assert np.abs(changed - speech).max() > 1e-3


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_strength_0_changes_nothing_and_a_generator_decides_all(name, speech):
    kind = AUGMENTATIONS[name]
    assert np.array_equal(kind(speech, RATE, 0.0, np.random.default_rng(1)), speech)
    a, b = (kind(speech, RATE, 0.7, np.random.default_rng(3)) for _ in range(2))
    assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize("seed", range(3))
def test_a_click_stays_in_its_place(name, seed):
    changed = AUGMENTATIONS[name](click(), RATE, 0.9, np.random.default_rng(seed))
    assert abs(place_ms(changed)) <= SYNC_MS[name]


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_silence_and_a_short_piece_are_safe(name):
    for wave in (np.zeros(RATE, np.float32), tone(300)[:400], np.zeros(0, np.float32)):
        for strength in (1e-9, 1.0):
            changed = AUGMENTATIONS[name](wave, RATE, strength, np.random.default_rng(0))
            assert changed.shape == wave.shape
            assert np.isfinite(changed).all()


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("kbps", [8, 24])
def test_a_codec_s_delay_is_taken_out(name, kbps, speech):
    assert abs(place_ms(codec(click(), RATE, name, kbps))) <= 1
    coded = codec(speech, RATE, name, kbps)
    envelopes = [np.convolve(np.abs(wave), np.hanning(160), "same") for wave in (speech, coded)]
    a, b = (np.fft.rfft(envelope - envelope.mean(), 1 << 17) for envelope in envelopes)
    correlation = np.fft.irfft(b * np.conj(a))
    lag = (int(correlation.argmax()) + (1 << 16)) % (1 << 17) - (1 << 16)
    assert abs(lag) <= 16  # 1 ms
    assert np.corrcoef(*envelopes)[0, 1] > 0.9


def test_fewer_bits_and_the_telephone_take_more_away(speech):
    def error(name, kbps):
        return level_db(codec(speech, RATE, name, kbps) - speech)

    assert error("opus", 8) > error("opus", 32) + 3
    high = np.fft.rfftfreq(len(speech), 1 / RATE) > 4200
    for name in ("mulaw", "amr"):
        assert np.abs(np.fft.rfft(codec(speech, RATE, name, 8)))[high].max() < 0.02 * np.abs(np.fft.rfft(speech)).max()


def test_gain_is_in_db_and_a_boost_stops_at_the_peak(speech):
    assert level_db(effects.gain(speech, -12)) - level_db(speech) == pytest.approx(-12, abs=0.01)
    assert np.abs(effects.gain(speech, 40)).max() == pytest.approx(1)
    changed = [AUGMENTATIONS["gain"](0.1 * speech, RATE, 0.5, np.random.default_rng(seed)) for seed in range(9)]
    levels = {round(level_db(wave)) for wave in changed}
    assert len(levels) == 2  # 10 dB down, 10 dB up
    assert max(levels) - min(levels) == 20


@pytest.mark.parametrize("colour", effects.NOISES)
@pytest.mark.parametrize("snr_db", [0, 20])
def test_noise_has_the_ratio_asked_for(colour, snr_db, speech):
    quiet = 0.1 * speech  # so that nothing is scaled to fit
    added = effects.noise(quiet, snr_db, colour, np.random.default_rng(0)) - quiet
    assert level_db(quiet) - level_db(added) == pytest.approx(snr_db, abs=0.05)


def test_noise_colours_fall_by_3_and_6_db_an_octave():
    wave = 0.01 * np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    for colour, slope in (("white", 0), ("pink", -3.01), ("brown", -6.02)):
        added = effects.noise(wave, 0, colour, np.random.default_rng(1)) - wave
        power = np.abs(np.fft.rfft(added)) ** 2
        octaves = [10 * np.log10(power[n : 2 * n].mean()) for n in 500 * 2 ** np.arange(6)]
        assert np.diff(octaves).mean() == pytest.approx(slope, abs=0.5)


def test_reverberation_decays_as_asked_behind_the_direct_sound():
    for rt60_s, drr_db in ((0.3, 10), (0.8, 0)):
        response = effects.impulse_response(RATE, rt60_s, drr_db, np.random.default_rng(0))
        assert response[0] == 1
        assert -10 * np.log10(np.square(response[1:]).sum()) == pytest.approx(drr_db)
        left = 10 * np.log10(np.cumsum(np.square(response[1:])[::-1])[::-1])  # Schroeder's integral
        left -= left[0]
        a, b = (int((left < level).argmax()) for level in (-5, -25))
        assert 3 * (b - a) / RATE == pytest.approx(rt60_s, rel=0.1)
    assert level_db(effects.reverb(tone(300), RATE, 0.4, 5, np.random.default_rng(0))) == pytest.approx(
        level_db(tone(300)), abs=0.1
    )


@pytest.mark.parametrize("semitones", [-4, -1, 3, 4])
def test_pitch_moves_a_tone_by_the_ratio(semitones):
    for hz in (110, 440):
        assert peak_hz(effects.pitch(tone(hz), RATE, semitones)) == pytest.approx(hz * 2 ** (semitones / 12), rel=0.005)


@pytest.mark.parametrize("hz", [90, 150, 220])
def test_stretching_keeps_a_voice_s_pitch_and_pitch_shifts_it(hz):
    pulses = np.zeros(2 * RATE)
    pulses[np.arange(0, 2 * RATE, RATE / hz).astype(int)] = 1
    decay = np.exp(-np.arange(400) / 32)
    ring = decay * sum(np.sin(2 * np.pi * formant * np.arange(400) / RATE) for formant in (600, 1400, 2600))
    voice = (0.1 * np.convolve(pulses, ring)[: 2 * RATE]).astype(np.float32)

    def pitch_hz(wave):
        piece = wave[8000:24000]
        correlation = np.fft.irfft(np.abs(np.fft.rfft(piece, 1 << 15)) ** 2)
        first = round(0.8 * RATE / (hz * 1.26))
        return RATE / (first + int(correlation[first : round(1.3 * RATE / (hz / 1.26))].argmax()))

    assert pitch_hz(effects.stretched(voice, RATE, 1.5)) == pytest.approx(hz, rel=0.02)
    assert len(effects.stretched(voice, RATE, 1.5)) == 3 * RATE
    for semitones in (-4, 4):
        shifted = effects.pitch(voice, RATE, semitones)
        assert pitch_hz(shifted) == pytest.approx(hz * 2 ** (semitones / 12), rel=0.02)


@pytest.mark.parametrize("percent", [-20, 20])
def test_formants_move_the_spectrum_and_leave_the_pitch(percent):
    # A voice of harmonics of 100 Hz with one formant at 1500 Hz.
    harmonics = np.arange(100, 7000, 100)
    levels = np.exp(-0.5 * ((harmonics - 1500) / 300) ** 2) + 1e-3
    times = np.arange(2 * RATE) / RATE
    voice = sum(level * np.sin(2 * np.pi * hz * times) for hz, level in zip(harmonics, levels, strict=True))
    voice = (0.1 * voice).astype(np.float32)
    changed = effects.formants(voice, RATE, percent)

    def formant_hz(wave):
        spectrum = np.abs(np.fft.rfft(wave)) ** 2
        return float((spectrum * np.fft.rfftfreq(len(wave), 1 / RATE)).sum() / spectrum.sum())

    ratio = formant_hz(changed) / formant_hz(voice)
    assert ratio == pytest.approx(1 + percent / 100, abs=0.06)  # smoothing makes the formant broader
    assert peak_hz(changed) % 100 == pytest.approx(0, abs=1.5) or peak_hz(changed) % 100 == pytest.approx(100, abs=1.5)


def test_speed_wanders_within_its_range_and_half_a_frame():
    clicks = np.zeros(4 * RATE, np.float32)
    places = np.arange(1600, 4 * RATE - 1600, 1600)
    clicks[places] = 0.9
    changed = effects.speed(clicks, RATE, 15, 0.3)
    found = np.array([np.abs(changed[p - 480 : p + 480]).argmax() - 480 for p in places]) / RATE
    assert np.abs(found).max() <= 0.02
    assert np.abs(found).max() > 0.018
    hz = [peak_hz(effects.speed(tone(1000), RATE, 15, 0.3)[b : b + 3200]) for b in range(0, 28000, 800)]
    assert 1080 < max(hz) < 1155
    assert 845 < min(hz) < 920


def test_band_sets_each_octave_s_level(speech):
    levels = np.array([-12.0, 0, 0, 0, 0, 0, 0])  # 4 to 8 kHz is softer
    shaped = [peak_to_peak(effects.band(tone(440) + tone(5657), RATE, levels), hz) for hz in (440, 5657)]
    assert 20 * np.log10(shaped[1] / shaped[0]) == pytest.approx(-12, abs=0.2)


def peak_to_peak(wave: np.ndarray, hz: float) -> float:
    times = np.arange(len(wave)) / RATE
    return float(np.abs(np.mean(wave * np.exp(-2j * np.pi * hz * times))))


def test_clipping_flattens_what_is_within_its_depth():
    changed = effects.clipping(tone(300), 6.02)
    assert np.abs(changed).max() == pytest.approx(np.abs(tone(300)).max(), rel=1e-3)
    assert np.mean(np.abs(changed) > 0.999 * np.abs(changed).max()) == pytest.approx(2 / 3, abs=0.01)  # |sin| > 1/2


def test_kinds_happen_with_their_probability_and_up_to_their_strength(speech):
    def changed(settings, n=60):
        waves = [augment.augmented(speech[:8000], RATE, settings, np.random.default_rng(seed)) for seed in range(n)]
        return [level_db(wave) - level_db(speech[:8000]) for wave in waves]

    assert changed({"gain": (0.0, 1.0)}, 5) == changed({}, 5) == [0] * 5
    drops = np.array(changed({"gain": (0.5, 0.5)}))
    assert 0.3 < np.mean(np.abs(drops) > 0) < 0.7
    assert -10 < drops.min() < -7
