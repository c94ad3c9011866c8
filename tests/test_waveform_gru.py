"""The paper's audio encoder: its size, its windows, and that a stream gives what one step after another gives."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import encode_speech, encode_stream
from dheads_cli.protocols import StatefulAudioEncoder


def build(**options):
    """With running statistics and scales that are no ones and zeros, as after training."""
    torch.manual_seed(0)
    encoder = registry.build("audio_encoders", "waveform_gru", options).eval()
    with torch.no_grad():
        for norm in encoder.norms:
            norm.running_mean.normal_(0, 0.05)
            norm.running_var.uniform_(0.01, 0.1)
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_(0, 0.1)
    return encoder


@pytest.fixture(scope="module")
def encoder():
    return build(embed_dim=16)


def speech(n_samples: int) -> torch.Tensor:
    return (0.1 * torch.randn(n_samples, generator=torch.Generator().manual_seed(1))).clamp(-1, 1)


@torch.no_grad()
def one_after_another(encoder, waveform: torch.Tensor, begins: list[int]) -> torch.Tensor:
    """METHOD: 1280 zeros before and after, one 3200-sample window at a time, the GRU's equations written out."""
    padded = F.pad(waveform, (1280, 3200))
    hidden = [torch.zeros(encoder.embed_dim)] * 2
    weights = encoder.state_dict()
    embeddings = []
    for begin in begins:
        h = padded[None, None, begin : begin + 3200]
        for i, (stride, padding) in enumerate([(16, 32), (2, 1), (2, 1), (2, 1), (5, 3), (5, 0)]):
            h = F.conv1d(h, weights[f"convs.{i}.weight"], weights[f"convs.{i}.bias"], stride, padding)
            if i < 5:
                norm = {name: weights[f"norms.{i}.{name}"][:, None] for name in
                        ("weight", "bias", "running_mean", "running_var")}  # fmt: skip
                h = (h - norm["running_mean"]) / (norm["running_var"] + 1e-5).sqrt() * norm["weight"] + norm["bias"]
                h = h.clamp(min=0)
        x = h.flatten()
        for layer in range(2):
            own = {name: weights[f"gru.{name}_l{layer}"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
            r_x, z_x, n_x = (own["weight_ih"] @ x + own["bias_ih"]).chunk(3)
            r_h, z_h, n_h = (own["weight_hh"] @ hidden[layer] + own["bias_hh"]).chunk(3)
            r, z = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
            x = hidden[layer] = (1 - z) * torch.tanh(n_x + r * n_h) + z * hidden[layer]
        embeddings.append(x)
    return torch.stack(embeddings)


def test_it_has_the_parameters_of_the_known_architecture():
    assert sum(parameter.numel() for parameter in build().parameters()) == 1_490_896


def test_its_keys_are_plain():
    names = {name for name, _ in build().named_parameters()}
    convs = {f"convs.{i}.{what}" for i in range(6) for what in ("weight", "bias")}
    norms = {f"norms.{i}.{what}" for i in range(5) for what in ("weight", "bias")}
    gru = {f"gru.{what}_{which}_l{i}" for what in ("weight", "bias") for which in ("ih", "hh") for i in range(2)}
    assert names == convs | norms | gru


def test_a_window_becomes_one_vector(encoder):
    h, lengths = torch.zeros(1, 1, 3200), []
    for conv in encoder.convs:
        h = conv(h)
        lengths.append(h.shape[-1])
    assert lengths == [200, 100, 50, 25, 5, 1]


@pytest.mark.parametrize("stride", [1, 7, 60, 1000])
def test_a_stream_gives_what_one_window_after_another_gives(encoder, stride, monkeypatch):
    monkeypatch.setattr(encoder, "stride_frames", stride, raising=False)
    wave = speech(640 * 150 + 300)
    expected = one_after_another(encoder, wave, [640 * k for k in range(150)])
    torch.testing.assert_close(encode_speech(encoder, wave, 150, 25), expected, atol=2e-6, rtol=1e-5)
    pieces = list(encode_stream(encoder, wave, 150, 25))
    assert [len(piece) for piece in pieces[:-1]] == [stride] * (len(pieces) - 1)
    assert not pieces[0].requires_grad  # else a long recording would keep all that it was made of


@pytest.mark.parametrize("fps", [24, 25, 30, 50, 60])
def test_windows_begin_with_their_frames_at_any_rate(encoder, fps):
    wave = speech(16000 * 5)
    begins = [round(k / fps * 16000) for k in range(fps * 5)]
    expected = one_after_another(encoder, wave, begins)
    torch.testing.assert_close(encode_speech(encoder, wave, fps * 5, fps), expected, atol=2e-6, rtol=1e-5)


def test_an_embedding_hears_two_frames_ahead_and_all_before(encoder):
    wave = speech(640 * 130)
    before = encode_speech(encoder, wave, 130, 25)
    later, earlier = wave.clone(), wave.clone()
    later[640 * 93 :] = speech(640 * 37)
    after = encode_speech(encoder, later, 130, 25)
    assert torch.equal(after[:91], before[:91])  # frame 90's window ends where frame 93 begins
    assert not torch.allclose(after[91], before[91])
    earlier[:6400] *= 5
    assert (encode_speech(encoder, earlier, 130, 25)[30] - before[30]).norm() > 1e-4


def test_a_plain_call_begins_fresh(encoder):
    wave = speech(640 * 40)
    with torch.no_grad():
        plain = encoder(wave[None], 40)[0]
    torch.testing.assert_close(plain, encode_speech(encoder, wave, 40, 25), atol=2e-6, rtol=1e-5)


def test_training_pieces_hold_the_history_and_the_windows_reach():
    assert build(embed_dim=8, history_frames=20).context_frames == 23
    assert isinstance(build(embed_dim=8), StatefulAudioEncoder)


def test_gradients_reach_every_parameter_through_a_carried_state():
    encoder = build(embed_dim=8)
    n_window = 2 * encoder.context_frames + 5
    sound = speech(640 * n_window)[None]
    _, state = encoder.continue_from(sound, n_window, None)
    embeddings, _ = encoder.continue_from(sound, n_window, state)
    torch.autograd.backward(embeddings.square().sum())
    assert all(parameter.grad.abs().max() > 0 for parameter in encoder.parameters())


def test_it_computes_in_float32_under_autocast(encoder):
    wave = speech(640 * 20)[None]
    with torch.no_grad():
        plain = encoder(wave, 20)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(encoder(wave, 20), plain)


@pytest.mark.parametrize("wave", [torch.zeros(32000), torch.ones(32000), torch.sign(speech(32000)), torch.zeros(10)])
def test_silence_clipping_and_next_to_nothing_give_finite_embeddings(encoder, wave):
    embeddings = encode_speech(encoder, wave, 50, 25)
    assert embeddings.shape == (50, 16)
    assert np.isfinite(embeddings.numpy()).all()


def test_options_that_make_no_encoder_are_refused():
    for options in ({"embed_dim": 0}, {"history_frames": -1}):
        with pytest.raises(DheadsError, match="embed_dim must be from 1 and history_frames from 0"):
            registry.build("audio_encoders", "waveform_gru", options)


def test_frames_too_short_for_the_context_are_refused_with_what_to_do():
    encoder = build(embed_dim=8, history_frames=0)
    assert encode_speech(encoder, speech(16000), 30, 30).shape == (30, 8)
    with pytest.raises(DheadsError, match=r"at 50 fps .* reach 5 frames .* add 2 to its history_frames"):
        encode_speech(encoder, speech(16000), 50, 50)
