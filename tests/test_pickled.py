"""Strangers' files of torch.save: tensors come out, nothing else happens."""

import io
import os
import pickle  # noqa: TID251  (to write what must not be read)
import zipfile
from collections import OrderedDict

import pytest
import torch
from official_files import ListConfig, save_lightning, save_torchscript_encoder

from dheads_cli.errors import DheadsError
from dheads_cli.model.pickled import is_torchscript, plain_settings, read_pickled, tensors_in


def test_tensors_of_every_form_come_out_as_they_went_in(tmp_path):
    base = torch.arange(12, dtype=torch.float32).view(3, 4)
    given = OrderedDict(
        plain=base, transposed=base.T, part=base[1:, 2:], half=base.half(), bf16=base.bfloat16(), long=base.long(),
        boolean=base > 3, scalar=torch.tensor(7.0), empty=torch.zeros(0, 3), double=base.double(),
        parameter=torch.nn.Parameter(base),
    )  # fmt: skip
    torch.save(given, tmp_path / "x.pt")
    found = tensors_in(read_pickled(tmp_path / "x.pt"), tmp_path / "x.pt")
    assert list(found) == list(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_a_lightning_checkpoint_gives_its_tensors_and_plain_settings(tmp_path):
    save_lightning(tmp_path / "x.ckpt", {"a": torch.ones(2)})
    with pytest.raises(pickle.UnpicklingError):  # torch's own reader refuses it for the classes it names
        torch.load(tmp_path / "x.ckpt", weights_only=True)  # noqa: TID251
    content = read_pickled(tmp_path / "x.ckpt")
    assert list(tensors_in(content, tmp_path)) == ["unet.a", "diffusion.nn_backbone.a"]
    assert plain_settings(content) == {"grayscale_motion": False, "num_head_channels": 16}
    assert not isinstance(content["hyper_parameters"]["channel_mult"], ListConfig)


class Calls:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(path, payload):
    """A file in torch.save's form whose pickle is `payload`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")


def global_call(module, name, argument):
    """Pickle code, by hand, that calls a function with one text."""
    text = b"X" + len(argument).to_bytes(4, "little") + argument
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + text + b"\x85R."


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "exec"), ("builtins", "__import__"),
     ("subprocess", "call"), ("torch", "load"), ("torch.jit", "load"), ("torch.hub", "load"), ("runpy", "run_path")],
)  # fmt: skip
def test_a_function_that_a_pickle_calls_is_not_called(tmp_path, monkeypatch, module, name):
    monkeypatch.chdir(tmp_path)
    argument = b"open('harm', 'w')" if name in ("eval", "exec") else b"touch harm"
    hostile(tmp_path / "x.pt", global_call(module, name, argument))
    with pytest.raises(DheadsError, match="holds no state dict"):
        tensors_in(read_pickled(tmp_path / "x.pt"), tmp_path / "x.pt")
    assert os.listdir(tmp_path) == ["x.pt"]


def test_an_object_s_state_setter_and_reducer_are_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"state_dict": {"a": torch.ones(1)}, "harm": Calls(os.mkdir, "harm"), "more": [Calls(os.mkdir, "more")]}
    torch.save(content, tmp_path / "x.pt")
    assert list(tensors_in(read_pickled(tmp_path / "x.pt"), tmp_path / "x.pt")) == ["a"]
    assert os.listdir(tmp_path) == ["x.pt"]


def test_names_are_not_even_imported(tmp_path):
    (tmp_path / "harmful_module.py").write_text("raise SystemExit('imported')\n")
    hostile(tmp_path / "x.pt", global_call("harmful_module", "thing", b"x"))
    read_pickled(tmp_path / "x.pt")  # any look-up would raise


def rebuilt(size, stride, offset=0, count=4, key="0"):
    """A pickle of a tensor whose shape is a lie, with a storage of `count` floats."""

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            return ("storage", torch.FloatStorage, key, "cpu", count) if obj == "the storage" else None

    buffer = io.BytesIO()
    arguments = ("the storage", offset, size, stride, False, OrderedDict())
    Pickler(buffer, 2).dump({"x": Calls(torch._utils._rebuild_tensor_v2, *arguments)})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("lie", "text"),
    [
        (rebuilt((5,), (1,)), "5 numbers in a storage of 4"),
        (rebuilt((2,), (1,), offset=3), "2 numbers in a storage of 4"),
        (rebuilt((10**12,), (0,)), "1000000000000 numbers in a storage of 4"),
        (rebuilt((2,), (-1,)), "whose shape makes no sense"),
        (rebuilt((2, 2), (1,)), "whose shape makes no sense"),
        (rebuilt((4,), (1,), count=5), "is not the 5 numbers"),
        (rebuilt((4,), (1,), key="../../secret"), "There is no item named"),
    ],
)
def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path, lie, text):
    hostile(tmp_path / "x.pt", lie)
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(DheadsError, match=text):
        read_pickled(tmp_path / "x.pt")


STATE = b"X\x05\x00\x00\x00state"  # a text, as a state to be given


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + STATE + b"b.", "gives a function a state"),
        (b"\x80\x02ctorch._utils\n_rebuild_parameter\n" + STATE + b"\x85R.", "something that is no storage"),
    ],
)
def test_what_makes_tensors_can_be_called_with_storages_and_nothing_else(tmp_path, payload, text):
    hostile(tmp_path / "x.pt", payload)
    with pytest.raises(DheadsError, match=text):
        read_pickled(tmp_path / "x.pt")


# Append to it, add to it as to a set, set an item of it, give it a state.
@pytest.mark.parametrize("code", [b"(K\x01e", b"(K\x01\x90", b"K\x00K\x01s", STATE + b"b"])
def test_a_tensor_s_methods_are_out_of_a_pickle_s_reach(tmp_path, code):
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    hostile(tmp_path / "x.pt", b"\x80\x04" + storage + code + b".")
    with zipfile.ZipFile(tmp_path / "x.pt", "a") as archive:
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(DheadsError):
        read_pickled(tmp_path / "x.pt")


def test_a_damaged_directory_is_told_in_a_line(tmp_path):
    torch.save({"a": torch.ones(3)}, tmp_path / "x.pt")
    content = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "x.pt").write_bytes(content.replace(b"PK\x01\x02", b"PK\x00\x02"))
    assert not is_torchscript(tmp_path / "x.pt")
    with pytest.raises(DheadsError, match=r"x\.pt: "):
        read_pickled(tmp_path / "x.pt")


def test_a_compressed_storage_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", rebuilt((4,), (1,)))
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(DheadsError, match="is not the 4 numbers"):
        read_pickled(tmp_path / "x.pt")


DAMAGED = [b"", b"\x80\x02", b"not a pickle", b"\x80\x02cos\nsystem\n", b"\x80\x02(((((.", b"\x80\x02R."]


@pytest.mark.parametrize("payload", DAMAGED)
def test_a_damaged_pickle_is_one_line(tmp_path, payload):
    hostile(tmp_path / "x.pt", payload)
    with pytest.raises(DheadsError) as error:
        read_pickled(tmp_path / "x.pt")
    assert str(error.value).startswith(f"{tmp_path / 'x.pt'}: ")
    assert "\n" not in str(error.value)


def test_what_is_no_archive_of_torch_save_is_refused(tmp_path):
    (tmp_path / "old.pt").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(DheadsError, match=r"neither a file of torch\.save"):
        read_pickled(tmp_path / "old.pt")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DheadsError, match="it holds 0 data"):
        read_pickled(tmp_path / "other.zip")
    with pytest.raises(DheadsError, match="no such file"):
        read_pickled(tmp_path / "none.pt")


def test_every_truncation_of_a_checkpoint_is_refused(tmp_path):
    torch.save({"a": torch.ones(100)}, tmp_path / "x.pt")
    whole = (tmp_path / "x.pt").read_bytes()
    for n in range(0, len(whole), 97):
        (tmp_path / "cut.pt").write_bytes(whole[:n])
        with pytest.raises(DheadsError):
            read_pickled(tmp_path / "cut.pt")


def test_torchscript_is_told_from_a_state_dict(tmp_path):
    save_torchscript_encoder(tmp_path / "script.pt")
    torch.save({"a.b": torch.ones(1)}, tmp_path / "plain.pt")
    (tmp_path / "text.pt").write_text("hello")
    assert [is_torchscript(tmp_path / f"{name}.pt") for name in ("script", "plain", "text")] == [True, False, False]


def save_stream(path, content):
    """As torch.save wrote before torch 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def test_files_from_before_torch_1_6_give_their_tensors(tmp_path):
    base = torch.arange(12, dtype=torch.float32).view(3, 4)
    given = OrderedDict(
        plain=base, transposed=base.T, part=base[1:, 2:], half=base.half(), count=torch.tensor(3),
        empty=torch.zeros(0, 3), parameter=torch.nn.Parameter(base),
    )  # fmt: skip
    path = save_stream(tmp_path / "x.model", given)
    found = tensors_in(read_pickled(path), path)
    assert list(found) == list(given)
    for name, tensor in given.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name


def test_what_a_pickle_of_theirs_calls_is_not_called_either(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = save_stream(tmp_path / "x.model", {}).read_bytes()
    empty = pickle.dumps({}, protocol=2)
    assert whole.count(empty) == 1
    harm = global_call("os", "system", b"touch harm")
    (tmp_path / "x.model").write_bytes(whole.replace(empty, harm))
    with pytest.raises(DheadsError, match="holds no state dict"):
        tensors_in(read_pickled(tmp_path / "x.model"), tmp_path / "x.model")
    assert os.listdir(tmp_path) == ["x.model"]


@pytest.mark.parametrize("keep", [16, 30, 150, -8, -1])
def test_such_a_file_cut_short_is_one_line(tmp_path, keep):
    path = save_stream(tmp_path / "x.model", {"a": torch.ones(10)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DheadsError, match=r"x\.model: .*(damaged|cut short|state dict)") as caught:
        tensors_in(read_pickled(path), path)
    assert "\n" not in str(caught.value)


def test_such_a_file_can_t_claim_more_numbers_than_it_has_bytes(tmp_path):
    path = save_stream(tmp_path / "x.model", {"a": torch.ones(10)})
    claim = b"K\x0aNt"  # the storage's count, 10, at the end of its description
    assert path.read_bytes().count(claim) == 1
    path.write_bytes(path.read_bytes().replace(claim, b"J\xff\xff\xff\x7fNt"))
    with pytest.raises(DheadsError, match="says it holds more numbers than it has bytes"):
        read_pickled(path)
