"""`dheads import`: stand-ins for the authors' files become a model that animates; what does not add up is refused."""

import json

import pytest
import torch
from commands import FACE, dheads, write_speech
from official_files import (
    network_inputs,
    network_state_dict,
    release_names,
    save_lightning,
    save_torchscript_encoder,
    save_torchscript_network,
)
from safetensors.torch import save_file

from dheads_cli import registry
from dheads_cli.data import media
from dheads_cli.model.build import build_unet
from dheads_cli.model.checkpoint import load_model
from dheads_cli.model.official import unet_from_state_dict
from dheads_cli.model.official_fit import fit_state_dict
from dheads_cli.model.speech import encode_speech
from dheads_cli.recipe_model import Model
from dheads_components.audio_encoders.waveform_gru import WaveformGRU

TINY = ("--head-dim", "16", "--size", "32")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The authors' files: network and audio encoder as TorchScript, a Lightning checkpoint, another encoder."""
    folder = tmp_path_factory.mktemp("official")
    state_dict = network_state_dict()
    save_torchscript_network(folder / "crema_script.pt", state_dict)
    save_lightning(folder / "lightning.ckpt", state_dict)
    save_torchscript_encoder(folder / "audio_encoder.pt")
    save_torchscript_encoder(folder / "other_encoder.pt", scale=2.0)
    return folder


def imported(files, out, *words, network="crema_script.pt", encoder="audio_encoder.pt"):
    return dheads("import", files / network, "--audio-encoder", files / encoder, "-o", out, *TINY, "--json", *words)


def test_torchscript_becomes_a_model_that_animates(files, tmp_path):
    out = tmp_path / "crema"
    done = imported(files, out, "--trust")
    assert done.code == 0, done.stderr
    assert "CC BY-NC-SA" in done.stderr
    report = json.loads(done.stdout)
    assert report == json.loads((out / "import.json").read_text())
    network = network_state_dict()
    assert set(report["network"]["used"]) == set(network)
    assert report["network"]["unused"] == report["network"]["missing"] == []
    assert report["audio_encoder"]["found"] == "read into the known architecture"
    assert report["audio_encoder"]["used"]["encoder.0.weight"] == "audio_encoder.convs.0.weight"
    assert report["model"]["conditioning"] == "adagn"

    trained = load_model(out, CPU)
    fit = fit_state_dict(network, 16, audio_dim=256)
    theirs, ours = fit.tensors, trained.parts.unet.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    script = torch.jit.load(str(files / "crema_script.pt"))  # noqa: TID251  (our own stand-in)
    with torch.no_grad():
        torch.testing.assert_close(trained.parts.unet(*network_inputs()), script(*network_inputs()))
    speech = write_speech(tmp_path / "speech.flac", 0.2)
    video = tmp_path / "a.mp4"
    words = ("animate", FACE, speech, "-o", video, "--model", out, "--sampler", "{use: ddpm, steps: 2}")
    made = dheads(*words, "--set", "sample.max_stray=null")
    assert made.code == 0, made.stderr
    assert len(media.read_video(video, 25).frames) == 5


def test_a_torchscript_archive_is_opened_only_with_trust(files, tmp_path):
    for words in (["crema_script.pt", "audio_encoder.pt"], ["lightning.ckpt", "audio_encoder.pt"]):
        done = imported(files, tmp_path / "out", network=words[0], encoder=words[1])
        assert done.code == 2
        assert "can run any code on this machine" in done.stderr
        assert "--trust" in done.stderr
        assert not (tmp_path / "out").exists()


def test_lightning_and_safetensors_are_read_without_trust(files, tmp_path):
    state = torch.jit.load(str(files / "audio_encoder.pt")).state_dict()  # noqa: TID251  (our own stand-in)
    torch.save(dict(state), tmp_path / "encoder.pt")
    save_file(network_state_dict(), tmp_path / "network.safetensors")
    models = []
    for network in (files / "lightning.ckpt", tmp_path / "network.safetensors"):
        out = tmp_path / network.stem
        done = dheads("import", network, "--audio-encoder", tmp_path / "encoder.pt", "-o", out, *TINY)
        assert done.code == 0, done.stderr
        models.append(load_model(out, CPU))
    for part in ("unet", "audio_encoder"):
        first, second = (getattr(model.parts, part).state_dict() for model in models)
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_lightning_file_s_hyper_parameters_say_what_weights_do_not(files, tmp_path):
    done = dheads(
        "import", files / "lightning.ckpt", "--audio-encoder", files / "audio_encoder.pt", "--trust", "-o",
        tmp_path / "out", "--size", "32", "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["model"]["head_dim"] == 16


def test_an_encoder_of_another_arithmetic_stays_torchscript_behind_the_same_flag(files, tmp_path):
    out = tmp_path / "light"
    done = imported(files, out, "--trust", network="lightning.ckpt", encoder="other_encoder.pt")
    assert done.code == 0, done.stderr
    found = json.loads(done.stdout)["audio_encoder"]["found"]
    assert found.startswith("kept as TorchScript: with its weights the known architecture gives other embeddings")
    assert (out / "audio_encoder.pt").read_bytes() == (files / "other_encoder.pt").read_bytes()
    speech, video = write_speech(tmp_path / "speech.flac", 0.2), tmp_path / "a.mp4"
    words = ("animate", FACE, speech, "-o", video, "--model", out, "--sampler", "{use: ddpm, steps: 1}")
    words += ("--set", "sample.max_stray=null")
    refused = dheads(*words)
    assert (refused.code, video.exists()) == (2, False)
    assert "--trust" in refused.stderr
    assert dheads(*words, "--trust").code == 0
    assert dheads(*words, "--overwrite").code == 2  # trust does not outlast its command
    moved = out.rename(tmp_path / "moved")
    words = (*words[:6], moved, *words[7:], "--overwrite", "--trust")
    assert dheads(*words).code == 0  # its script lies beside its checkpoint, wherever that is
    (moved / "audio_encoder.pt").write_bytes((files / "audio_encoder.pt").read_bytes())
    swapped = dheads(*words)
    assert swapped.code == 2
    assert "sha256" in swapped.stderr


def test_the_native_encoder_hears_what_the_torchscript_hears(files, tmp_path):
    assert imported(files, tmp_path / "out", "--trust").code == 0
    native = load_model(tmp_path / "out", CPU).parts.audio_encoder
    script = torch.jit.load(str(files / "audio_encoder.pt"))  # noqa: TID251  (our own stand-in)
    waveform = 0.1 * torch.randn(30 * 640, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(waveform, (1280, 1280))
    hidden, expected = torch.zeros(2, 1, 256), []
    for k in range(30):
        embedding, _, hidden = script(padded[None, None, k * 640 : k * 640 + 3200], lengths=[3200], init_state=hidden)
        expected.append(embedding)
    torch.testing.assert_close(encode_speech(native, waveform, 30, 25.0), torch.cat(expected), rtol=1e-4, atol=1e-6)


def test_without_its_audio_encoder_a_model_is_imported_but_can_not_hear(tmp_path):
    settings = Model(size=32, channels=256, channel_mult=[1], n_res_blocks=1, identity_last=True)
    network = release_names(build_unet(settings, registry.build("conditioning", "adagn"), 256))
    save_file(network, tmp_path / "network.safetensors")
    done = dheads("import", tmp_path / "network.safetensors", "-o", tmp_path / "out", "--size", "32")
    assert done.code == 0, done.stderr
    assert "without --audio-encoder the model can't hear" in done.stderr
    speech = write_speech(tmp_path / "speech.flac", 0.2)
    made = dheads("animate", FACE, speech, "-o", tmp_path / "a.mp4", "--model", tmp_path / "out")
    assert made.code == 2
    assert "was imported without its audio encoder: import it again with it" in made.stderr


def test_embeddings_of_another_width_than_the_release_s_need_their_encoder(tmp_path):
    save_file(network_state_dict(embed_dim=32), tmp_path / "network.safetensors")
    done = dheads("import", tmp_path / "network.safetensors", "-o", tmp_path / "out", *TINY)
    assert done.code == 2
    assert "hears embeddings of 32, but the release's audio encoder gives 256" in done.stderr


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"out.2.weight": torch.zeros(4, 32, 3, 3)}, "4 output channels"),
        ({"x_embed.weight": torch.zeros(4)}, "1 tensors have no place in it (x_embed.weight)"),
        ({"middle_block.0.in_layers.2.bias": torch.zeros(5)}, "middle_block.0.in_layers.2.bias is [5], not [96]"),
    ],
)
def test_what_does_not_add_up_is_refused_and_nothing_written(files, tmp_path, change, text):
    save_file({**network_state_dict(), **change}, tmp_path / "bad.safetensors")
    done = dheads(
        "import", tmp_path / "bad.safetensors", "--audio-encoder", files / "audio_encoder.pt", "--trust", "-o",
        tmp_path / "out", *TINY,
    )  # fmt: skip
    assert done.code == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'bad.safetensors'}: ")
    assert text in done.stderr
    assert not (tmp_path / "out").exists()


def test_two_copies_that_differ_are_refused(files, tmp_path):
    network = network_state_dict()
    other = {**network, "out.2.bias": network["out.2.bias"] + 1}
    both = {f"unet.{name}": tensor for name, tensor in network.items()}
    both |= {f"diffusion.nn_backbone.{name}": tensor for name, tensor in other.items()}
    torch.save({"state_dict": both}, tmp_path / "x.ckpt")
    done = dheads("import", tmp_path / "x.ckpt", "-o", tmp_path / "out")
    assert done.code == 2
    assert "differ in 1 tensors (out.2.bias)" in done.stderr


def test_other_tensors_of_the_file_are_reported_as_unused(files, tmp_path):
    content = {f"unet.{name}": tensor for name, tensor in network_state_dict().items()} | {"ema.decay": torch.ones(1)}
    torch.save({"state_dict": content}, tmp_path / "x.ckpt")
    done = dheads(
        "import", tmp_path / "x.ckpt", "--audio-encoder", files / "audio_encoder.pt", "-o", tmp_path / "out", *TINY,
        "--trust", "--json",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    report = json.loads(done.stdout)["network"]
    assert report["unused"] == ["ema.decay"]
    assert report["used"]["unet.out.2.bias"] == "out.2.bias"


def test_an_import_that_is_there_is_not_overwritten_unasked(files, tmp_path):
    out = tmp_path / "out"
    assert imported(files, out, "--trust", encoder="other_encoder.pt").code == 0
    assert (out / "audio_encoder.pt").exists()
    again = imported(files, out, "--trust")
    assert again.code == 2
    assert "--overwrite" in again.stderr
    assert imported(files, out, "--trust", "--overwrite").code == 0
    assert not (out / "audio_encoder.pt").exists()  # this encoder is read into the known architecture


def test_an_import_can_be_made_again_from_its_own_script(files, tmp_path):
    out = tmp_path / "out"
    assert imported(files, out, "--trust", encoder="other_encoder.pt").code == 0
    done = dheads(
        "import", files / "lightning.ckpt", "--audio-encoder", out / "audio_encoder.pt", "-o", out, *TINY, "--trust",
        "--overwrite",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert (out / "audio_encoder.pt").read_bytes() == (files / "other_encoder.pt").read_bytes()


@pytest.mark.parametrize("kept", ["checkpoints/step-000100.safetensors", "resume.safetensors"])
def test_a_run_that_was_trained_is_never_replaced(files, tmp_path, kept):
    assert imported(files, tmp_path / "out", "--trust").code == 0
    (tmp_path / "out" / kept).write_bytes(b"learned")
    done = imported(files, tmp_path / "out", "--trust", "--overwrite")
    assert done.code == 2
    assert "holds a model that was not imported" in done.stderr


def test_a_name_that_no_recipe_can_have_is_told_before_anything_is_read(tmp_path):
    done = dheads("import", tmp_path / "none.pt", "-o", tmp_path / "out", "--name", "a b/c")
    assert done.code == 2
    assert done.stderr.startswith("error: --name a b/c: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_head_width_that_does_not_divide_the_channels_is_refused(files, tmp_path):
    save_file(network_state_dict(), tmp_path / "network.safetensors")
    done = dheads(
        "import", tmp_path / "network.safetensors", "--audio-encoder", files / "audio_encoder.pt", "--trust", "-o",
        tmp_path / "out", "--size", "32",
    )  # fmt: skip
    assert done.code == 2  # 64 is the release's, 96 channels are this network's
    assert "64 does not divide the 96 channels" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def encoder_state_dict(**changes):
    torch.manual_seed(0)
    state_dict = {**WaveformGRU().state_dict(), **changes}
    return {name: tensor for name, tensor in state_dict.items() if tensor is not None}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, ""),
        ({"fc.weight": torch.zeros(500, 256), "fc.bias": torch.zeros(500)}, "it holds 2 more, fc.weight among them"),
        ({"gru.weight_hh_l0": torch.full((768, 256), torch.nan)}, "gru.weight_hh_l0 is not finite"),
        ({"convs.2.weight": torch.zeros(64, 32, 5)}, "its layer convs.2. holds weight [64, 32, 5], bias [64], not"),
        ({"norms.4.weight": None, "norms.4.bias": None, "norms.4.running_mean": None, "norms.4.running_var": None,
          "norms.4.num_batches_tracked": None}, "it has 4 of the 5 batch norm layers"),
    ],
)  # fmt: skip
def test_a_state_dict_of_the_encoder_has_to_be_that_architecture_s(tmp_path, changes, text):
    save_file(network_state_dict(), tmp_path / "network.safetensors")
    torch.save(encoder_state_dict(**changes), tmp_path / "encoder.pt")
    done = dheads(
        "import", tmp_path / "network.safetensors", "--audio-encoder", tmp_path / "encoder.pt", "-o", tmp_path / "out",
        *TINY,
    )  # fmt: skip
    assert done.code == (2 if text else 0), done.stderr
    assert text in done.stderr
    if not text:
        loaded = load_model(tmp_path / "out", CPU).parts.audio_encoder.state_dict()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in encoder_state_dict().items())


def test_files_that_are_not_there_or_not_checkpoints_are_told_in_a_line(files, tmp_path):
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10")
    for network, text in (("none.pt", "no such file"), ("text.pt", "neither"), ("cut.safetensors", "not a whole")):
        done = dheads("import", tmp_path / network, "-o", tmp_path / "out")
        assert done.code == 2
        assert text in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_fit_s_network_is_what_unet_from_state_dict_gives():
    state_dict = network_state_dict(embed_dim=32)
    unet = unet_from_state_dict(state_dict, head_dim=16)
    assert not unet.training
    assert unet.n_window == 5
