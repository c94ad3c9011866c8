"""The release's audio encoder as TorchScript: opened only when trusted, called as the release calls it."""

import hashlib
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dheads_cli import registry, trust
from dheads_cli.conformance import assert_conforms
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import encode_speech

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch\.jit:DeprecationWarning")


class StandIn(nn.Module):
    """The release's call, with a small network behind it: mean loudness of pieces of the window, and two GRU cells."""

    def __init__(self, width: int = 24, state: int = 256) -> None:
        super().__init__()
        self.first, self.second, self.out = nn.GRUCell(50, state), nn.GRUCell(state, state), nn.Linear(state, width)

    def forward(
        self, window: torch.Tensor, lengths: list[int], init_state: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        assert window.dim() == 3
        assert lengths[0] == window.shape[2]
        loudness = F.avg_pool1d(window.abs(), 64)[:, 0]
        a = self.first(loudness, init_state[0])
        b = self.second(a, init_state[1])
        return self.out(b), loudness, torch.stack([a, b])


class OtherCall(nn.Module):
    def forward(self, window: torch.Tensor) -> torch.Tensor:
        return window


def archive(path: Path, module: nn.Module) -> tuple[str, str]:
    """Path and checksum of a module as TorchScript."""
    torch.jit.script(module).save(str(path))
    return str(path), hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    torch.manual_seed(0)
    module = StandIn().eval()
    path, checksum = archive(tmp_path_factory.mktemp("official") / "audio_encoder.pt", module)
    return module, path, checksum


@pytest.fixture
def trusted():
    trust.allow()
    yield
    trust.allow(False)


def official(script: str, **options):
    return registry.build("audio_encoders", "official", {"script": script, **options})


def test_a_script_is_not_opened_without_trust(stand_in):
    with pytest.raises(DheadsError, match="can run any code on this machine once it is opened: add --trust"):
        official(stand_in[1])


@pytest.mark.usefixtures("trusted")
def test_another_file_than_the_imported_one_is_refused(stand_in, tmp_path):
    other, other_sum = archive(tmp_path / "other.pt", StandIn(8))
    with pytest.raises(DheadsError, match=rf"its sha256 is {other_sum}, not {stand_in[2]}"):
        official(other, sha256=stand_in[2])


@pytest.mark.usefixtures("trusted")
def test_a_stream_gives_what_one_call_after_another_gives(stand_in, monkeypatch):
    module, path, checksum = stand_in
    encoder = official(path, sha256=checksum.upper())
    assert encoder.embed_dim == 24
    wave = torch.randn(640 * 40, generator=torch.Generator().manual_seed(1)) / 5
    padded, hidden, expected = F.pad(wave, (1280, 1280)), torch.zeros(2, 1, 256), []
    with torch.no_grad():
        for k in range(40):
            embedding, _, hidden = module(padded[None, None, 640 * k : 640 * k + 3200], [3200], hidden)
            expected.append(embedding[0])
    torch.testing.assert_close(encode_speech(encoder, wave, 40, 25), torch.stack(expected), atol=1e-6, rtol=1e-5)
    monkeypatch.setattr(encoder, "stride_frames", 7, raising=False)
    torch.testing.assert_close(encode_speech(encoder, wave, 40, 25), torch.stack(expected), atol=1e-6, rtol=1e-5)


@pytest.mark.usefixtures("trusted")
def test_a_script_conforms_and_is_frozen(stand_in):
    encoder = official(stand_in[1])
    assert_conforms("audio_encoders", encoder)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("module", "words"),
    [(OtherCall(), "a window of silence gives: "), (StandIn(state=16), "a window of silence gives: ")],
    ids=["other-call", "other-state"],
)
def test_a_script_that_is_no_such_encoder_is_refused(module, words, tmp_path):
    path, _ = archive(tmp_path / "wrong.pt", module)
    with pytest.raises(DheadsError, match=rf"wrong\.pt: not the release's audio encoder: {words}\w"):
        official(path)


@pytest.mark.usefixtures("trusted")
def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"no archive")
    with pytest.raises(DheadsError, match=r"weights\.pt: not a TorchScript archive"):
        official(str(tmp_path / "weights.pt"))
    with pytest.raises(DheadsError, match=r"none\.pt: no such file; it should be the release's audio encoder"):
        official(str(tmp_path / "none.pt"))


def test_without_a_script_it_is_the_known_architecture_and_its_weights_are_the_checkpoint_s():
    encoder = registry.build("audio_encoders", "official")
    own = registry.build("audio_encoders", "waveform_gru")
    assert encoder.state_dict().keys() == own.state_dict().keys()
    assert sum(parameter.numel() for parameter in encoder.parameters() if parameter.requires_grad) == 1_490_896
    with pytest.raises(DheadsError, match="no script is given"):
        registry.build("audio_encoders", "official", {"sha256": "ab"})
