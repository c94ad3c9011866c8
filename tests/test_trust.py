"""Trust: files that can run code are opened only after --trust, and what is checked is what is opened."""

from pathlib import Path

import pytest
import torch
from torch import nn

from dheads_cli import trust
from dheads_cli.errors import DheadsError

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch\.jit:DeprecationWarning")


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "double.pt"
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))
    return path


@pytest.fixture(autouse=True)
def _untrusted_again():
    yield
    trust.allow(False)


def test_nothing_is_allowed_until_it_is_said():
    with pytest.raises(DheadsError, match=r"^x\.pt: a TorchScript archive, which can run any code.*add --trust if"):
        trust.require(Path("x.pt"), "a TorchScript archive")
    trust.allow()
    trust.require(Path("x.pt"), "a TorchScript archive")
    trust.allow(False)
    with pytest.raises(DheadsError):
        trust.require(Path("x.pt"), "a TorchScript archive")


def test_an_archive_is_opened_when_allowed(script):
    with pytest.raises(DheadsError, match=r"double\.pt: a TorchScript archive \(the network\), which can run any code"):
        trust.open_torchscript(script, "the network")
    trust.allow()
    assert set(trust.open_torchscript(script, "the network").state_dict()) == {"weight", "bias"}


def test_only_a_regular_file_is_read():
    trust.allow()
    with pytest.raises(DheadsError, match="/dev/zero: no such file; it should be the network"):
        trust.open_torchscript(Path("/dev/zero"), "the network")


def test_a_wrong_checksum_is_refused_also_when_allowed(script):
    trust.allow()
    with pytest.raises(DheadsError, match="not the file that is wanted as the network: its sha256 is"):
        trust.open_torchscript(script, "the network", sha256="0" * 64)
