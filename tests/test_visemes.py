"""The linear bottleneck between speech and network, and how it is fitted."""


import numpy as np
import pytest
import torch
from corpus import make_corpus
from typer.testing import CliRunner

from dheads_cli import registry
from dheads_cli.conformance import assert_conforms
from dheads_cli.errors import DheadsError
from dheads_cli.run.fit_visemes import Ridge, _solve, _sums, fit_visemes, lips_and_jaw, windows
from dheads_components.audio_encoders.visemes import Visemes, window_map
from dheads_components.audio_encoders.whisper import Whisper


def test_it_keeps_the_contract_of_audio_encoders():
    assert_conforms("audio_encoders", registry.build("audio_encoders", "visemes", {}))


def test_an_embedding_is_the_map_of_five_frames_features():
    encoder = Visemes()
    waveform = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    features = Whisper((2,), combine="concatenate", stride_frames=50, context_frames=25)(waveform, 25)
    flat = windows(features[0].numpy().astype(np.float64))
    expected = flat @ encoder.map.flatten(0, 1).double().numpy() + encoder.bias.double().numpy()
    np.testing.assert_allclose(encoder(waveform, 25)[0].numpy(), expected, atol=1e-4)


def test_windows_repeat_the_edges():
    features = torch.arange(4.0).view(1, 4, 1)
    weights = torch.zeros(5, 1, 1)
    weights[4] = 1  # two frames later
    assert window_map(features, weights).flatten().tolist() == [2, 3, 3, 3]


def test_ridge_finds_a_linear_map_of_low_rank():
    rng = np.random.default_rng(0)
    x, true = rng.normal(size=(4000, 10)), rng.normal(size=(10, 2)) @ rng.normal(size=(2, 6))
    weights, bias = _solve(_sums(x, x @ true + 5, 1.0), 2, 1e-6)
    found = x @ weights + bias
    assert found.std(axis=0)[0] == pytest.approx(1, abs=1e-3)
    again = np.linalg.lstsq(np.c_[found, np.ones(len(x))], x @ true, rcond=None)[1]
    assert again.max() < 1e-6 * len(x)


def test_sums_of_parts_are_the_sums_of_the_whole():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    whole, parts = _sums(x, y, 1.0), _sums(x[:7], y[:7], 1.0) + _sums(x[7:], y[7:], 1.0)
    assert isinstance(parts, Ridge)
    np.testing.assert_allclose(whole.xx, parts.xx)
    assert whole.n == parts.n


def test_lips_are_measured_in_distances_of_the_eyes():
    landmarks = np.random.default_rng(0).normal(size=(5, 68, 2)) + np.arange(68)[:, None]
    np.testing.assert_allclose(lips_and_jaw(landmarks), lips_and_jaw(3 * landmarks + 7))


def test_fitted_weights_are_an_encoder_s(tmp_path):
    corpus = make_corpus(tmp_path / "corpus", {"train": 4, "test": 2}, n_frames=30)
    out = tmp_path / "visemes.safetensors"
    result = fit_visemes(corpus, out, rank=3)
    assert result["clips"] == 4
    assert set(result["r"]) == {"test"}
    encoder = registry.build("audio_encoders", "visemes", {"weights": str(out)})
    assert encoder(torch.zeros(1, 16000), 25).shape == (1, 25, 3)
    before = out.read_bytes()
    fit_visemes(corpus, out, rank=3)
    assert out.read_bytes() == before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DheadsError, match=r"nothing\.safetensors"):
        registry.build("audio_encoders", "visemes", {"weights": str(tmp_path / "nothing.safetensors")})


def test_a_wrong_layer_ends_with_code_2(tmp_path):
    from dheads_cli.cli import app

    corpus = make_corpus(tmp_path / "corpus", {"train": 2})
    result = CliRunner().invoke(app, ["data", "fit-visemes", str(corpus), "-o", "x", "--layers", "7"])
    assert result.exit_code != 0
