"""Checkpoints: safetensors that carry their recipe. Nothing here executes anything a file says."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.files import write_atomically
from dheads_cli.model.build import Parts, build_component, build_model, own_encoder
from dheads_cli.model.growth import grown
from dheads_cli.protocols import AudioEncoder
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_io import any_recipe_from_json, recipe_from_json
from dheads_cli.recipe_lips import LipsRecipe
from dheads_cli.recipe_model import Model
from dheads_cli.recipe_section import Component
from dheads_cli.recipe_sync import SyncRecipe
from dheads_cli.recipe_tasks import AnyRecipe

FORMAT = "dheads-checkpoint-1"
ADDED_PARTS = ("unet.detail.",)  # begin as nothing: weights without them can begin a model that has them


class Network(Protocol):
    """What has weights of its own."""

    def own_modules(self) -> dict[str, nn.Module]:
        """Its modules, by the prefix of their tensors in a checkpoint."""


R = TypeVar("R", SyncRecipe, LipsRecipe)
N = TypeVar("N", bound=Network)


@dataclass(frozen=True)
class Trained:
    """A trained model, ready to sample from (EMA weights, evaluation mode).

    Attributes:
        recipe: the recipe it was trained with.
        parts: network, audio encoder, schedule.
        info: the checkpoint's other metadata: step, tool version, and what the trainer wrote of its state.
        path: its file.
    """

    recipe: Recipe
    parts: Parts
    info: dict[str, Any]
    path: Path


def save_tensors(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write tensors and JSON-able metadata as safetensors, atomically; equal input gives equal bytes."""
    payload = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    # One metadata entry: safetensors writes several in no fixed order.
    write_atomically(path, save(payload, {"dheads": json.dumps({"format": FORMAT, **info})}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what save_tensors wrote.

    Raises:
        DheadsError: no such file, not safetensors, cut short, or not written by dheads.
    """
    if not path.is_file():
        raise DheadsError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            info = json.loads((file.metadata() or {}).get("dheads", "{}"))
            if info.pop("format", None) != FORMAT:
                raise DheadsError(f"{path}: safetensors, but not a dheads checkpoint (its metadata names no format)")
            return {name: file.get_tensor(name) for name in file.keys()}, info  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise DheadsError(f"{path}: not a whole safetensors file ({error}); fetch or train it again") from error
    except (json.JSONDecodeError, OSError) as error:
        raise DheadsError(f"{path}: can't be read as a dheads checkpoint: {error}") from error


def recipe_in(info: Mapping[str, Any], path: Path) -> AnyRecipe:
    """The recipe in a checkpoint's metadata, of any task; values that had no name yet have their default.

    Raises:
        DheadsError: it is none that this version knows.
    """
    return any_recipe_from_json(json.dumps(info["recipe"]), str(path))


def load_model(reference: str | Path, device: torch.device) -> Trained:
    """A model from a checkpoint file, a run folder (its newest checkpoint), or the name of a shipped one.

    Raises:
        DheadsError: there is none, or its weights do not fit its recipe.
    """
    path = find_checkpoint(reference)
    tensors, info = load_tensors(path)
    recipe = recipe_from_json(json.dumps(info.pop("recipe")), str(path))
    parts = build_model(with_script_beside(recipe.model, path), device)
    for prefix, module in parts.own_modules().items():
        if info.get("imported") and not any(name.startswith(f"{prefix}.") for name in tensors):
            raise DheadsError(f"{path}: was imported without its {prefix.replace('_', ' ')}: import it again with it")
        if wrong := load_module(module, prefix, tensors):
            raise DheadsError(
                f"{path}: {len(wrong)} of its weights do not fit its recipe, {wrong[0]} first; "
                "it was made by another version of dheads or of a component"
            )
        module.eval()
    return Trained(recipe, parts, info, path)


def load_weights(
    reference: str | Path, modules: Mapping[str, nn.Module], recipe: AnyRecipe
) -> tuple[Path, dict[str, Any], AnyRecipe]:
    """Put a checkpoint's weights, the moving average, in those of a model of the same task that is to be trained.

    Those of a model for smaller frames, or with fewer controls, grow where they can (growth.py), and parts that begin
    as nothing may be absent.

    Args:
        reference: checkpoint file, run folder, or a shipped model's name.
        modules: what to put them in, by their prefix in a checkpoint, on their devices.
        recipe: of the model that is to be trained.

    Returns:
        Its file, metadata and recipe.

    Raises:
        DheadsError: no such checkpoint, or a tensor of it or of the model has not its like in the other.
    """
    path = find_checkpoint(reference)
    tensors, info = load_tensors(path)
    before = recipe_in(info, path)
    expected = {
        f"{prefix}.{name}": each for prefix, module in modules.items() for name, each in module.state_dict().items()
    }
    tensors |= {
        name: each for name, each in expected.items() if name.startswith(ADDED_PARTS) and name not in tensors
    }
    if isinstance(before, Recipe) and isinstance(recipe, Recipe):
        if before.model.audio_encoder != recipe.model.audio_encoder:  # layers of another input width start anew
            tensors |= {
                name: each
                for name, each in expected.items()
                if name.startswith("unet.audio_embed.") and name in tensors and tensors[name].shape != each.shape
            }
        tensors = grown(tensors, before.model, recipe.model, expected)
    for name in sorted(expected.keys() | tensors.keys()):
        there, here = tensors.get(name), expected.get(name)
        if there is None or here is None or there.shape != here.shape:
            differs = " and ".join(
                f"{list(each.shape)} {where}" if each is not None else f"absent {where}"
                for each, where in ((there, "there"), (here, "in the recipe's model"))
            )
            raise DheadsError(
                f"train.weights: {path}: {name} does not fit: {differs}. "
                "Give the recipe the `model` section of that one (`dheads recipe show`), or leave train.weights out"
            )
    for prefix, module in modules.items():
        load_module(module, prefix, tensors)
    return path, info, before


def load_audio_encoder(reference: str | Path, encoder: AudioEncoder, component: Component) -> None:
    """Put the audio encoder's weights of a checkpoint, of any task, in those of a model that is to be trained.

    Args:
        reference: checkpoint file, run folder, or a shipped model's name.
        encoder: what to put them in, on its device.
        component: as the recipe names it.

    Raises:
        DheadsError: no such checkpoint, it holds no audio encoder, or another one.
    """
    path = find_checkpoint(reference)
    tensors, _ = load_tensors(path)
    where = f"train.audio_encoder_weights: {path}"
    if not (own := own_encoder(encoder)):
        raise DheadsError(f"{where}: the audio encoder {component.use!r} brings its own weights: leave it out")
    if not any(name.startswith("audio_encoder.") for name in tensors):
        raise DheadsError(f"{where}: holds no audio encoder: its model has one that brings its own weights")
    for prefix, module in own.items():
        if wrong := load_module(module, prefix, tensors):
            raise DheadsError(
                f"{where}: {len(wrong)} of its audio encoder's weights do not fit model.audio_encoder "
                f"{component.use!r}, {wrong[0]} first: give it the use and options of that model's recipe"
            )


def load_hearing(reference: str | Path, device: torch.device) -> tuple[AudioEncoder, Component]:
    """The audio encoder of a trained model of any task, evaluating, and how its recipe names it.

    Args:
        reference: checkpoint file, run folder, or a shipped model's name.
        device: where to put it.

    Raises:
        DheadsError: no such checkpoint, or it does not hold what its recipe asks for.
    """
    path = find_checkpoint(reference)
    tensors, info = load_tensors(path)
    recipe = recipe_in(info, path)
    if isinstance(recipe, Recipe):
        trained = load_model(path, device)
        return trained.parts.audio_encoder, recipe.model.audio_encoder
    if isinstance(recipe, SyncRecipe | LipsRecipe):
        raise DheadsError(f"{path}: holds no audio encoder: its task is {recipe.task!r}")
    encoder: AudioEncoder = build_component("audio_encoders", recipe.model.audio_encoder)
    for prefix, module in own_encoder(encoder).items():
        if wrong := load_module(module, prefix, tensors):
            raise DheadsError(f"{path}: {len(wrong)} of its weights do not fit its recipe, {wrong[0]} first")
        module.to(device).eval()
    return encoder, recipe.model.audio_encoder


def load_module(module: nn.Module, prefix: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """Load the tensors called PREFIX.NAME; where names or shapes differ, load nothing and name those that do."""
    own = {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}.")}
    expected = module.state_dict()
    wrong = sorted(
        f"{prefix}.{name}"
        for name in expected.keys() | own.keys()
        if name not in own or name not in expected or own[name].shape != expected[name].shape
    )
    if not wrong:
        module.load_state_dict({name: tensor.float() for name, tensor in own.items()})
    return wrong


def load_of_task(
    reference: str | Path, task: str, schema: type[R], build: Callable[[R], N]
) -> tuple[N, R, Path]:
    """The network of a run or a checkpoint of a task, to evaluate and not to learn, on the CPU; its recipe; the file.

    Args:
        reference: file, run folder, or shipped model's name.
        task: the task.
        schema: of its recipes.
        build: makes a network with fresh weights of a recipe.

    Raises:
        DheadsError: no such checkpoint, of another task, or its weights do not fit its recipe.
    """
    path = find_checkpoint(reference)
    tensors, info = load_tensors(path)
    recipe = recipe_in(info, path)
    if not isinstance(recipe, schema):
        raise DheadsError(f"{path}: is of the task {recipe.task!r}, not {task!r}")
    network = build(recipe)
    for prefix, module in network.own_modules().items():
        if wrong := load_module(module, prefix, tensors):
            raise DheadsError(f"{path}: {len(wrong)} of its weights do not fit its recipe, {wrong[0]} first")
        module.requires_grad_(False).eval()
    return network, recipe, path


def with_script_beside(settings: Model, checkpoint: Path) -> Model:
    """The settings with the whole path of an audio encoder's script, which lies in the run folder."""
    script = settings.audio_encoder.options.get("script")
    if not isinstance(script, str):
        return settings
    folder = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
    return settings.model_copy(update={
        "audio_encoder": settings.audio_encoder.model_copy(update={"script": str(folder / script)})
    })  # fmt: skip


def find_checkpoint(reference: str | Path) -> Path:
    """The checkpoint file that a path, a run folder or a shipped model's name means."""
    path = Path(reference)
    if path.is_dir():
        found = checkpoints_of(path)
        if not found:
            raise DheadsError(
                f"{path}: no checkpoints/step-*.safetensors here; is it a run of `dheads train`?"
            )
        return found[-1]
    if path.exists():
        return path
    shipped = registry.entries("models")
    if str(reference) in shipped:
        return Path(registry.load("models", str(reference))())
    raise DheadsError(
        f"model {str(reference)!r}: no such file or run folder, and no shipped model of that name"
        f"{registry.nearest(str(reference), shipped)} Shipped: {', '.join(shipped) or 'none'}."
    )


def checkpoints_of(run_dir: Path) -> list[Path]:
    """A run's checkpoints, oldest first; from a million steps on a step has more digits."""
    return sorted((run_dir / "checkpoints").glob("step-*.safetensors"), key=lambda path: (len(path.name), path.name))
