"""The audio encoder of an imported checkpoint: read into the known architecture, or kept as the TorchScript it is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import sha256_of
from dheads_cli.model.pickled import is_torchscript, read_state_dict
from dheads_cli.model.speech import encode_speech
from dheads_cli.recipe import Component

EMBED_DIM = 256  # of the release's audio encoder


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
    """

    component: Component
    embed_dim: int
    tensors: Mapping[str, Tensor]
    keys: Mapping[str, str]
    unused: Sequence[str]
    found: str


def read_hearing(path: Path, out: Path) -> Hearing:
    """The audio encoder: read into the known architecture where that gives what the file gives, else kept as it is."""
    if not path.is_file():
        raise DheadsError(f"{path}: no such file; it should be the release's audio encoder")
    scripted = is_torchscript(path)
    state_dict, _ = read_state_dict(path, "the release's audio encoder")
    native: nn.Module = registry.build("audio_encoders", "official")
    keys, why_not = match_by_order(state_dict, native.state_dict())
    if not why_not:
        native.load_state_dict({keys[name]: tensor for name, tensor in state_dict.items() if name in keys})
        native.eval()
    if scripted:
        script = registry.build("audio_encoders", "official", {"script": str(path), "sha256": sha256_of(path)})
        why_not = why_not or difference(native, script)
        if why_not:
            options = {"script": str((out / "audio_encoder.pt").absolute()), "sha256": sha256_of(path)}
            component = Component(use="official", **options)
            return Hearing(component, script.embed_dim, {}, {}, list(state_dict), f"kept as TorchScript: {why_not}")
    elif why_not:
        raise DheadsError(f"{path}: not the release's audio encoder: {why_not}")
    unused = [name for name in state_dict if name not in keys]
    tensors = {f"audio_encoder.{name}": tensor for name, tensor in native.state_dict().items()}
    return Hearing(Component(use="official"), EMBED_DIM, tensors, keys, unused, "read into the known architecture")


def nothing_heard() -> Hearing:
    """The place of an audio encoder that was not given."""
    return Hearing(Component(use="official"), EMBED_DIM, {}, {}, [], "not given")


def match_by_order(state_dict: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> tuple[dict[str, str], str]:
    """(its names -> ours, why they can't be matched or ""), layer by layer in the order in which both have them.

    What the layers of the release's encoder are called is not known, so only what they hold is compared: the names and
    shapes of a layer's tensors, such as weight [16, 1, 80] and bias [16].
    """
    theirs, ours = layers_of(state_dict), layers_of(in_order_of_use(expected))
    if len(theirs) < len(ours):
        return {}, f"it has {len(theirs)} layers, not {len(ours)}"
    keys: dict[str, str] = {}
    for (their_layer, held), (our_layer, wanted) in zip(theirs.items(), ours.items(), strict=False):
        if held != wanted:
            return {}, f"its layer {their_layer or 'without a name'} holds {_shapes(held)}, not {_shapes(wanted)}"
        keys |= {f"{their_layer}{tensor}": f"{our_layer}{tensor}" for tensor in wanted}
    return keys, ""


def in_order_of_use(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The known architecture's tensors as the sound passes them: convs.0, norms.0, convs.1 ... gru."""

    def position(name: str) -> tuple[int, int]:
        match = re.match(r"(convs|norms)\.(\d+)\.", name)
        return (int(match[2]), int(match[1] == "norms")) if match else (len(state_dict), 0)

    return dict(sorted(state_dict.items(), key=lambda item: position(item[0])))


def layers_of(state_dict: Mapping[str, Tensor]) -> dict[str, dict[str, tuple[int, ...]]]:
    """What each layer holds: "convs.0." -> {"weight": shape, "bias": shape}."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
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
