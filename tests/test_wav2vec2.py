"""wav2vec 2.0 and HuBERT: features lie on their frames, and weights are read safely and strictly.

Real weights are hundreds of MB and need the network; these are random ones, in architectures as small as can be.
"""

import importlib
import socket
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torchaudio import pipelines
from torchaudio.models import wav2vec2_model
from torchaudio.pipelines import Wav2Vec2Bundle

from dheads_cli import downloads, registry
from dheads_cli.conformance import assert_conforms
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import encode_speech
from dheads_components.audio_encoders import bundles
from dheads_components.audio_encoders.hubert import FAMILY as HUBERT
from dheads_components.audio_encoders.self_supervised import FIELD, HOP, SelfSupervised, layers_of
from dheads_components.audio_encoders.wav2vec2 import FAMILY as WAV2VEC2

CONVS = pipelines.WAV2VEC2_BASE._params["extractor_conv_layer_config"]


def small(normalize: bool = False) -> Wav2Vec2Bundle:
    """The architecture of a base or, where it normalises, a large network, with few and narrow layers."""
    like = pipelines.WAV2VEC2_XLSR53 if normalize else pipelines.HUBERT_ASR_LARGE
    params = {
        **like._params,
        "extractor_mode": "layer_norm" if normalize else "group_norm",
        "extractor_conv_layer_config": [(16, kernel, stride) for _, kernel, stride in CONVS],
        "encoder_embed_dim": 32,
        "encoder_pos_conv_groups": 2,
        "encoder_num_layers": 3,
        "encoder_num_heads": 2,
        "encoder_ff_interm_features": 64,
        "encoder_layer_norm_first": normalize,
    }
    return replace(like, _path="small.pth", _params=params, _normalize_waveform=normalize)


@pytest.fixture(scope="module", params=[False, True], ids=["base", "large"])
def stored(request, tmp_path_factory):
    """(bundle, its network with random weights, the file of torch.save that holds them)."""
    torch.manual_seed(0)
    bundle = small(request.param)
    network = wav2vec2_model(**bundle._params).eval()
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(network.state_dict(), path)
    return bundle, network, path


@pytest.fixture
def encoder(stored):
    bundle, _, path = stored
    return SelfSupervised(bundles.read_bundle(bundle, "small", path), [1, 3], 2, stride_frames=20, context_frames=10)


def test_it_conforms(encoder):
    assert_conforms("audio_encoders", encoder)
    assert encoder.embed_dim == 2 * 2 * 32


def test_the_weights_in_the_file_are_those_of_the_network(stored, encoder):
    bundle, network, _ = stored
    wave = 0.1 * torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    scaled = (wave - wave.mean()) / (wave.var(correction=0) + 1e-5).sqrt() if bundle._normalize_waveform else wave
    padded = torch.nn.functional.pad(scaled, (40, 40))
    with torch.no_grad():
        outputs = network.extract_features(padded)[0]
    outputs = [(o - o.mean(-1, True)) / (o.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() for o in outputs]
    expected = torch.cat([outputs[0], outputs[2]], -1).view(1, 25, 2 * 64)
    torch.testing.assert_close(encoder(wave, 25), expected, atol=1e-5, rtol=1e-4)


def test_features_are_as_far_apart_and_reach_as_far_as_stated():
    hop, field = 1, 1
    for _, kernel, stride in CONVS:
        field, hop = field + (kernel - 1) * hop, hop * stride
    assert (hop, field) == (HOP, FIELD)


@pytest.mark.parametrize("fps", [24, 25, 29.97, 30, 50, 60])
def test_each_part_of_a_frame_takes_the_feature_nearest_to_it(encoder, fps, monkeypatch):
    monkeypatch.setattr(encoder, "embed_dim", 2)
    # In place of the network's features, the place of their middle in the window, in samples.
    monkeypatch.setattr(
        encoder, "features", lambda wave: (torch.arange(-(-wave.shape[1] // 320)) + 0.5)[None, :, None] * 320
    )
    n_frames = 40
    wave = torch.zeros(1, round(n_frames / fps * 16000))
    places = encoder(wave, n_frames)[0]  # [F, 2]
    wanted = (torch.arange(n_frames)[:, None] + torch.tensor([0.25, 0.75])) / fps * 16000
    assert (places - wanted).abs().max() <= 161
    if fps == 25:
        torch.testing.assert_close(places, wanted)


def test_a_window_s_sound_is_scaled_by_itself_and_not_by_its_batch(encoder):
    wave = 0.05 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(0))
    louder = torch.stack([wave[0], 9 * wave[1] + 0.3])
    torch.testing.assert_close(encoder(wave, 25)[0], encoder(louder, 25)[0], atol=1e-4, rtol=1e-3)


def test_it_stays_frozen_when_the_model_trains(encoder):
    wave = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    before = encoder(wave, 25)
    assert torch.equal(encoder.train()(wave, 25), before)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_safetensors_of_the_same_tensors_will_do(stored, encoder, tmp_path):
    bundle, network, _ = stored
    path = tmp_path / "small.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    other = SelfSupervised(bundles.read_bundle(bundle, "small", path), [1, 3], 2, 20, 10)
    wave = torch.randn(8000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encode_speech(other, wave, 12, 25), encode_speech(encoder, wave, 12, 25))


def test_the_weights_say_what_they_are(encoder):
    assert encoder.weights.startswith("torchaudio another, small.pth sha256 ")
    assert bundles.licence(pipelines.HUBERT_LARGE) == "MIT"
    assert bundles.licence(pipelines.VOXPOPULI_ASR_BASE_10K_DE) == "CC BY-NC 4.0"


def test_every_offered_bundle_states_a_licence_and_is_of_the_known_architecture():
    offered = [*bundles.bundles(WAV2VEC2).values(), *bundles.bundles(HUBERT).values()]
    assert len(offered) == 27
    for bundle in offered:
        assert bundles.licence(bundle) in ("MIT", "CC BY-NC 4.0")
        assert [conv[1:] for conv in bundle._params["extractor_conv_layer_config"]] == [conv[1:] for conv in CONVS]
        assert (bundle._model_type, bundle.sample_rate) == ("Wav2Vec2", 16000)
    assert {"base", "large", "xlsr53", "xlsr_300m", "asr_base_960h", "mms_fa"} <= set(bundles.bundles(WAV2VEC2))
    assert list(bundles.bundles(HUBERT)) == ["base", "large", "xlarge", "asr_large", "asr_xlarge"]


def test_the_address_is_torchaudio_s_own():
    theirs = importlib.import_module("torchaudio.pipelines._wav2vec2.utils")._get_state_dict
    assert bundles.ADDRESS in theirs.__code__.co_consts
    assert bundles.address(pipelines.WAV2VEC2_BASE) == f"{bundles.ADDRESS}wav2vec2_fairseq_base_ls960.pth"
    assert bundles.address(pipelines.MMS_FA).startswith("https://dl.fbaipublicfiles.com/")


def test_default_layers_are_where_the_literature_says():
    assert [layers_of(None, 7 / 12, n) for n in (12, 24, 48)] == [[7], [14], [28]]
    assert [layers_of(None, 9 / 12, n) for n in (12, 24)] == [[9], [18]]
    assert (layers_of(3, 0.5, 12), layers_of([2, 4], 0.5, 12)) == ([3], [2, 4])


def test_options_that_make_no_encoder_are_refused(stored):
    bundle, _, path = stored
    pretrained = bundles.read_bundle(bundle, "small", path)
    for layers in ([], [0], [1, 4]):
        with pytest.raises(ValueError, match=r"layer must be one or more of 1 \.\.\. 3"):
            SelfSupervised(pretrained, layers, 2, 50, 25)
    for numbers in ((0, 50, 25), (2, 0, 25), (2, 50, -1)):
        with pytest.raises(ValueError, match="must be from 1 and context_frames from 0"):
            SelfSupervised(pretrained, [1], *numbers)


@pytest.mark.parametrize("name", ["wav2vec2", "hubert"])
def test_a_wrong_model_gets_the_list(name):
    with pytest.raises(DheadsError, match=rf"{name} has no model 'bse'; did you mean 'base'\? Models: base, large, "):
        registry.build("audio_encoders", name, {"model": "bse"})


def test_without_a_network_all_that_is_needed_is_said_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", offline)
    with pytest.raises(DheadsError) as caught:
        registry.build("audio_encoders", "hubert")
    said = str(caught.value)
    assert said == (
        "audio encoder 'hubert' (model base, MIT) needs hubert_fairseq_base_ls960.pth, and it can't be fetched from "
        f"{bundles.ADDRESS}hubert_fairseq_base_ls960.pth (no network): put the file into {tmp_path}/hub/checkpoints, "
        "or name your copy in the recipe (`weights: PATH` beside `use`)"
    )
    assert list((tmp_path / "hub/checkpoints").iterdir()) == []


def offline(*_: object, **__: object) -> object:
    raise OSError("no network")


def test_nothing_is_fetched_to_list_components(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("it asks the network"))
    with downloads.none(), pytest.raises(DheadsError, match="not here yet; the first recipe that uses it fetches it"):
        registry.build("audio_encoders", "wav2vec2")


def test_weights_in_torch_hub_s_cache_are_used(stored, tmp_path, monkeypatch):
    bundle, _, path = stored
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub/checkpoints/small.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(path.read_bytes())
    assert bundles.find_weights(bundle, "small", None) == cached


def test_other_weights_are_refused(stored, tmp_path):
    bundle, network, path = stored
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    name = "encoder.transformer.layers.1.attention.k_proj.weight"
    for wrong, words in (
        ({key: tensor for key, tensor in tensors.items() if key != name}, f'Missing key.*"{name}"'),
        ({**tensors, "model.mask_emb": torch.zeros(2)}, 'Unexpected key.*"model.mask_emb"'),
        ({**tensors, name: torch.zeros(4, 4)}, f"size mismatch for {name}"),
        ({**tensors, name: torch.full((32, 32), torch.nan)}, f"{name} is not finite"),
    ):
        save_file(wrong, tmp_path / "wrong.safetensors")
        with pytest.raises(DheadsError, match=words) as caught:
            bundles.read_bundle(bundle, "small", tmp_path / "wrong.safetensors")
        assert "small.pth" in str(caught.value)
        assert "\n" not in str(caught.value)
    (tmp_path / "cut.pth").write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DheadsError, match=r"cut\.pth: "):
        bundles.read_bundle(bundle, "small", tmp_path / "cut.pth")
    with pytest.raises(DheadsError, match=r"none\.pth: no such file; it should be the weights of .*hubert"):
        registry.build("audio_encoders", "hubert", {"weights": str(tmp_path / "none.pth")})
