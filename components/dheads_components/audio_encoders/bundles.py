"""torchaudio's pretrained wav2vec 2.0 and HuBERT networks by name: their weights read safely into their architecture.

A bundle of `torchaudio.pipelines` states the architecture, the weights' file and how the waveform is scaled. Its own
get_model unpickles the file; here the file is read by `dheads_cli.model.pickled`, which makes tensors and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torchaudio import pipelines
from torchaudio.models import Wav2Vec2Model, wav2vec2_model
from torchaudio.pipelines import Wav2Vec2Bundle

from dheads_cli import downloads, registry
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_cli.model.pickled import read_state_dict

ADDRESS = "https://download.pytorch.org/torchaudio/models/"  # torchaudio's, for bundles that state a file name alone


@dataclass(frozen=True)
class Pretrained:
    """A network with its weights, and what its bundle says of it.

    Attributes:
        network: frozen, evaluating, float32.
        n_layers: transformer layers it has.
        normalize: whether its waveforms are brought to mean 0 and variance 1.
        weights: network, file, checksum and licence in one line.
    """

    network: Wav2Vec2Model
    n_layers: int
    normalize: bool
    weights: str


def bundles(prefixes: Sequence[str]) -> dict[str, Wav2Vec2Bundle]:
    """A family's bundles by the name a recipe gives them, in torchaudio's order.

    Args:
        prefixes: how their names in `torchaudio.pipelines` begin; the first is the family's own and is left out:
            WAV2VEC2_XLSR53 is "xlsr53", MMS_FA "mms_fa".
    """
    found = {name: getattr(pipelines, name) for name in pipelines.__all__ if name.startswith(tuple(prefixes))}
    return {
        name.removeprefix(prefixes[0]).lower(): bundle
        for name, bundle in found.items()
        if isinstance(bundle, Wav2Vec2Bundle)
    }


def load(encoder: str, model: str, prefixes: Sequence[str], weights: str | None) -> Pretrained:
    """A family's network of that name, with its weights.

    Args:
        encoder: the component's registered name, for errors.
        model: one of `bundles(prefixes)`.
        prefixes: the family.
        weights: path of the weights, as torchaudio publishes them or the same tensors as safetensors; None looks in
            torch.hub's cache, then downloads them into it.

    Raises:
        DheadsError: no such model; the weights can't be had, or are those of another network.
    """
    known = bundles(prefixes)
    if model not in known:
        raise DheadsError(
            f"{encoder} has no model {model!r}{registry.nearest(model, list(known))} Models: {', '.join(known)}."
        )
    what = f"audio encoder {encoder!r} (model {model}, {licence(known[model])})"
    return read_bundle(known[model], what, find_weights(known[model], what, weights))


def find_weights(bundle: Wav2Vec2Bundle, what: str, option: str | None) -> Path:
    """The bundle's weights: as given, or in torch.hub's cache, where torchaudio itself keeps them; else downloaded."""
    url = address(bundle)
    if option is not None:
        path = Path(option).expanduser()
        if not path.is_file():
            raise DheadsError(f"{path}: no such file; it should be the weights of {what}, {url}")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[-1]
    if not path.is_file():
        downloads.fetch(url, path, what, "`weights: PATH` beside `use`")
    return path


def address(bundle: Wav2Vec2Bundle) -> str:
    """Where a bundle's weights are published."""
    path: str = bundle._path
    return path if path.startswith("https:") else ADDRESS + path


def licence(bundle: Wav2Vec2Bundle) -> str:
    """The licence of a bundle's weights, as torchaudio's documentation states it, such as "MIT" or "CC BY-NC 4.0"."""
    stated = re.search(r"\bunder\s+\[?`?(MIT|CC.BY.NC[ -]4\.0)", bundle.__doc__ or "")
    return stated[1].replace("CC-BY-NC", "CC BY-NC") if stated else "licence: see torchaudio"


def read_bundle(bundle: Wav2Vec2Bundle, what: str, path: Path) -> Pretrained:
    """A bundle's architecture with the weights in a file; without the layer for letters that fine-tuned ones have.

    Args:
        bundle: the bundle.
        what: whose weights they are, for errors.
        path: a file of torch.save, or safetensors.

    Raises:
        DheadsError: the file can't be read, or does not hold exactly this network's tensors.
    """
    stored, _ = read_state_dict(path, f"the weights of {what}")
    tensors = {name: tensor.float() for name, tensor in stored.items() if not name.startswith("aux.")}
    with torch.device("meta"):  # the weights that it begins with are never made
        network = wav2vec2_model(**{**bundle._params, "aux_num_out": None})
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        first = next((line.strip() for line in str(error).splitlines()[1:] if line.strip()), str(error))
        raise DheadsError(
            f"{path}: not the weights of {what}, which are published at {address(bundle)}: {_short(first)}"
        ) from error
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise DheadsError(f"{path}: {bad[0]} is not finite: get the file again from {address(bundle)}")
    title = next((name for name in pipelines.__all__ if getattr(pipelines, name) is bundle), "another")
    return Pretrained(
        network=network.requires_grad_(False).eval(),
        n_layers=bundle._params["encoder_num_layers"],
        normalize=bundle._normalize_waveform,
        weights=f"torchaudio {title}, {path.name} sha256 {sha256_of(path)[:12]}, {licence(bundle)}",
    )


def _short(text: str, length: int = 160) -> str:
    return text if len(text) <= length else f"{text[:length]} ..."
