"""The audio encoder of an imported checkpoint: read into the known architecture, or kept as the TorchScript it is."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.pickled import is_torchscript, read_state_dict
from dheads_cli.model.speech import encode_speech
from dheads_cli.recipe_section import Component

EMBED_DIM = 256  # of the release's audio encoder
SCRIPT = "audio_encoder.pt"  # in the run folder, where the encoder stays TorchScript

Layers = dict[str, dict[str, tuple[int, ...]]]  # "convs.0." -> {"weight": shape, "bias": shape}


@dataclass(frozen=True)
class Hearing:
    """The audio encoder of an imported checkpoint.

    Attributes:
        component: as a recipe names it.
        embed_dim: D.
        tensors: its weights by their name in a checkpoint; empty where it stays TorchScript, or is missing.
        keys: its names of tensors -> ours.
        unused: its tensors that are not read.
        found: what was found, for people.
        script: the TorchScript file's content where it is kept; else None.
    """

    component: Component
    embed_dim: int
    tensors: Mapping[str, Tensor]
    keys: Mapping[str, str]
    unused: Sequence[str]
    found: str
    script: bytes | None = None


def read_hearing(path: Path) -> Hearing:
    """The audio encoder: read into the known architecture where that gives what the file gives, else kept as it is.

    Raises:
        DheadsError: the file can't be read or is not trusted, or is a state dict of another architecture.
    """
    if not path.is_file():
        raise DheadsError(f"{path}: no such file; it should be the release's audio encoder")
    scripted = is_torchscript(path)
    state_dict, _ = read_state_dict(path, "the release's audio encoder")
    native: nn.Module = registry.build("audio_encoders", "official")
    keys, why_not = match_by_kind(state_dict, native.state_dict())
    unused = [name for name in state_dict if name not in keys]
    if not why_not:
        native.load_state_dict({ours: state_dict[theirs] for theirs, ours in keys.items()})
        native.eval()
    if scripted:
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        script = registry.build("audio_encoders", "official", {"script": str(path), "sha256": sha256})
        if why_not := why_not or difference(native, script):
            # The name alone: it lies in the run folder, wherever that is (model/checkpoint.py).
            component = Component.model_validate({"use": "official", "script": SCRIPT, "sha256": sha256})
            found = f"kept as TorchScript: {why_not}"
            return Hearing(component, script.embed_dim, {}, {}, list(state_dict), found, content)
    else:  # nothing to compare with: it has to be that network and no other
        why_not = why_not or (f"it holds {len(unused)} more, {unused[0]} among them" if unused else "")
        infinite = [name for name in keys if not state_dict[name].isfinite().all()]
        if why_not := why_not or (f"{infinite[0]} is not finite" if infinite else ""):
            raise DheadsError(f"{path}: not the release's audio encoder: {why_not}")
    tensors = {f"audio_encoder.{name}": tensor for name, tensor in native.state_dict().items()}
    return Hearing(Component(use="official"), EMBED_DIM, tensors, keys, unused, "read into the known architecture")


def nothing_heard() -> Hearing:
    """The place of an audio encoder that was not given."""
    return Hearing(Component(use="official"), EMBED_DIM, {}, {}, [], "not given")


def match_by_kind(state_dict: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, str], str]:
    """(its names -> ours, why they can't be matched or ""), layer by layer, each kind in its own order.

    What the layers of the release's encoder are called is not known, so only what they hold is compared: the first
    convolution with the first, the first batch norm with the first, and the GRU, by the names and shapes of their
    tensors, such as weight [16, 1, 80] and bias [16].
    """
    theirs, ours = by_kind(layers_of(state_dict)), by_kind(layers_of(expected))
    keys: dict[str, str] = {}
    for kind, wanted_layers in ours.items():
        found = theirs.get(kind, {})
        if len(found) < len(wanted_layers):
            return {}, f"it has {len(found)} of the {len(wanted_layers)} {kind} layers"
        for (their_layer, held), (our_layer, wanted) in zip(found.items(), wanted_layers.items(), strict=False):
            if held != wanted:
                return {}, f"its layer {their_layer or 'without a name'} holds {_shapes(held)}, not {_shapes(wanted)}"
            keys |= {f"{their_layer}{tensor}": f"{our_layer}{tensor}" for tensor in wanted}
    return keys, ""


def by_kind(layers: Layers) -> dict[str, Layers]:
    """Layers by what they are: "GRU", "batch norm" or, whatever else has weights, "convolution"."""
    kinds: dict[str, Layers] = {}
    for layer, held in layers.items():
        kind = "GRU" if "weight_ih_l0" in held else "batch norm" if "running_mean" in held else "convolution"
        kinds.setdefault(kind, {})[layer] = held
    return kinds


def layers_of(state_dict: Mapping[str, Tensor]) -> Layers:
    """What each layer holds: "convs.0." -> {"weight": shape, "bias": shape}."""
    layers: Layers = {}
    for name, tensor in state_dict.items():
        layer, tensor_name = re.fullmatch(r"((?:.*\.)?)([^.]*)", name).groups()  # type: ignore[union-attr]
        layers.setdefault(layer, {})[tensor_name] = tuple(tensor.shape)
    return layers


def _shapes(held: Mapping[str, tuple[int, ...]]) -> str:
    return ", ".join(f"{name} {list(shape)}" for name, shape in held.items())


def difference(native: Any, script: Any) -> str:
    """How two encoders differ on half a second of noise and silence; "" where they do not."""
    waveform = 0.1 * torch.randn(12 * 640, generator=torch.Generator().manual_seed(0))
    waveform[4000:6000] = 0
    ours, theirs = (encode_speech(encoder, waveform, 12, 25.0) for encoder in (native, script))
    if ours.shape != theirs.shape:
        return f"it gives embeddings of {theirs.shape[-1]}, the known architecture {ours.shape[-1]}"
    apart = ((ours - theirs).norm() / theirs.norm().clamp(min=1e-12)).item()
    return "" if apart < 1e-4 else f"with its weights the known architecture gives other embeddings ({apart:.2g} apart)"
