"""`dheads recipe`: show a recipe whole, try it without training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dheads_cli import console, registry
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import COMPONENT_PATHS, Recipe
from dheads_cli.recipe_io import Loaded, load_any_recipe, recipe_to_yaml
from dheads_cli.recipe_lips import LipsRecipe
from dheads_cli.recipe_section import Component
from dheads_cli.recipe_sync import SyncRecipe
from dheads_cli.recipe_tasks import AnyRecipe, HearingRecipe

if TYPE_CHECKING:
    from dheads_cli.run.lips_cost import LipsCost
    from dheads_cli.run.sync_cost import SyncCost
    from dheads_cli.run.words_cost import WordsCost

# Largest training steps that `check` times, FLOP: a few seconds.
LARGEST_TIMED_STEP = {"cpu": 4e11, "cuda": 2e14}


def show(ref: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Print the complete recipe, each value with its origin; under --json, {"path", "recipe", "origins"}."""
    loaded = load_any_recipe(ref, overrides)
    report = {"path": str(loaded.path), "recipe": loaded.recipe.model_dump(), "origins": loaded.origins}
    console.text(recipe_to_yaml(loaded.recipe, loaded.origins))
    console.result(report)
    return report


def check(ref: str, overrides: Sequence[str] = (), *, device: str = "auto") -> dict[str, Any]:
    """Try a recipe without training it, and print what was found.

    Returns:
        {"path", "components", "data"} and what the task's network takes: `Cost`, `WordsCost`, `SyncCost` or `LipsCost`.

    Raises:
        DheadsError: a component can't be built, or sizes or weights to begin with do not fit.
    """
    loaded = load_any_recipe(ref, overrides)
    built = build_components(loaded)
    data = describe_data(loaded.recipe, ref)
    weights = describe_weights(loaded.recipe, built)
    cost, cost_rows = cost_of(loaded.recipe, built, device)
    rows = [[path, names, "builds"] for path, names in component_names(loaded.recipe).items()]
    rows += [["data.path", loaded.recipe.data.path, data], *weights, *cost_rows]
    console.table(f"{loaded.path}: no mistakes", ["what", "value", "found"], rows)
    report = {"path": str(loaded.path), "components": component_names(loaded.recipe), "data": data, **vars(cost)}
    console.result(report)
    return report


def components_of(recipe: AnyRecipe) -> list[tuple[str, Component]]:
    """Every component that a recipe names, with its place."""
    found = []
    for path in COMPONENT_PATHS:
        section, key = path.split(".")
        value = getattr(getattr(recipe, section, None), key, None)
        found += [(path, item) for item in (value if isinstance(value, list) else [value]) if item is not None]
    return found


def component_names(recipe: AnyRecipe) -> dict[str, str]:
    """Names in place of components, by place."""
    names: dict[str, list[str]] = {}
    for path, component in components_of(recipe):
        names.setdefault(path, []).append(component.use)
    return {path: ", ".join(each) for path, each in names.items()}


def build_components(loaded: Loaded[AnyRecipe]) -> dict[str, Any]:
    """Build every component of a recipe.

    Returns:
        The components by their place.

    Raises:
        DheadsError: all that can't be built, each with where the recipe names it.
    """
    built, wrong = {}, []
    for path, component in components_of(loaded.recipe):
        try:
            built[path] = registry.build(COMPONENT_PATHS[path], component.use, component.options)
        except DheadsError as error:
            origins = [where for key, where in loaded.origins.items() if key == path or key.startswith(f"{path}.")]
            chosen = [where for where in origins if where != "default"]
            wrong.append(f"{chosen[0] if chosen else loaded.path}: {path}: {error}")
    if wrong:
        raise DheadsError("\n".join(wrong))
    return built


def describe_data(recipe: AnyRecipe, ref: str) -> str:
    """What lies in the corpus of the recipe called `ref`, or how to make it."""
    from dheads_cli.data.clip_choice import choose_clips
    from dheads_cli.data.shards import Corpus

    settings = recipe.data
    path = Path(settings.path)
    if not path.exists():
        return f"not there yet; make it with: dheads preprocess CORPUS -o {path} --recipe {ref}"
    try:
        corpus = Corpus(path)
    except DheadsError as error:  # the recipe is right, whatever has become of its corpus
        return str(error)
    chosen = {
        split: choose_clips(corpus.clips(split), settings.limits, f"{path}, split {split!r},")
        for split in (settings.train_split, settings.val_split)
    }
    if settings.keep:
        return ", ".join(f"{choice} in {split}" for split, choice in chosen.items())
    return ", ".join(f"{choice.n_clips} clips in {split}" for split, choice in chosen.items())


def describe_weights(recipe: AnyRecipe, built: dict[str, Any]) -> list[list[str]]:
    """A row for each model that training begins with the weights of, which need not be there yet.

    Whether all of a word recogniser's fit depends on the words of its corpus, and is not asked.

    Raises:
        DheadsError: it is there, and is another than the recipe's.
    """
    from dheads_cli.model.build import build_model
    from dheads_cli.model.checkpoint import find_checkpoint, load_audio_encoder, load_weights
    from dheads_cli.model.lips import build_lip_reader, take_lips

    rows = []
    for key in ("weights", "audio_encoder_weights", "lips_weights"):
        if (reference := getattr(recipe.train, key, None)) is None:
            continue
        try:
            path = find_checkpoint(reference)
        except DheadsError as error:
            rows.append([f"train.{key}", reference, str(error)])
            continue
        found = f"{path.name} fits"
        if key == "audio_encoder_weights" and isinstance(recipe, HearingRecipe):
            load_audio_encoder(path, built["model.audio_encoder"], recipe.model.audio_encoder)
        elif key == "lips_weights" and isinstance(recipe, LipsRecipe):
            take_lips(path, build_lip_reader(recipe.model))
        elif isinstance(recipe, Recipe):
            load_weights(path, build_model(recipe.model).own_modules(), recipe)
        else:
            found = f"{path.name} is there"
        rows.append([f"train.{key}", reference, found])
    return rows


def cost_of(
    recipe: AnyRecipe, built: dict[str, Any], device: str
) -> tuple[Cost | SyncCost | LipsCost | WordsCost, list[list[str]]]:
    """What a recipe's network takes, on its task's terms, and rows of it for people."""
    if isinstance(recipe, Recipe):
        cost = Cost.of(recipe, built, device)
        return cost, cost.rows(recipe)
    if isinstance(recipe, SyncRecipe):
        from dheads_cli.run.sync_cost import SyncCost

        sync = SyncCost.of(recipe, device)
        return sync, sync.rows(recipe)
    if isinstance(recipe, LipsRecipe):
        from dheads_cli.run.lips_cost import LipsCost

        lips = LipsCost.of(recipe, device)
        return lips, lips.rows(recipe)
    from dheads_cli.run.words_cost import WordsCost

    words = WordsCost.of(recipe, device)
    return words, words.rows(recipe)


@dataclass(frozen=True)
class Cost:
    """What a recipe's network takes."""

    n_parameters: int
    n_audio_parameters: int
    forward_gflop: float  # one frame
    train_memory_gib: float  # weights, gradients, AdamW, EMA and kept activations, float32; buffers add about a fifth
    device: str
    precision: str
    step_seconds: float | None
    hours: float | None

    @classmethod
    def of(cls, recipe: Recipe, built: dict[str, Any], device_name: str) -> Cost:
        """Count on torch's meta device, which computes shapes only; then time steps of a network that is not large."""
        import torch
        from torch.utils.flop_counter import FlopCounterMode

        from dheads_cli.model.build import build_model, build_unet, choose_device, choose_precision, random_inputs

        device = choose_device(device_name)
        encoder, conditioning = built["model.audio_encoder"], built["model.conditioning"]
        with torch.device("meta"):
            unet = build_unet(recipe.model, conditioning, encoder.embed_dim)
            n_parameters = sum(parameter.numel() for parameter in unet.parameters())
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                unet(*random_inputs(recipe.model, encoder.embed_dim, 1, torch.device("meta")))
            own = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
            kept: dict[int, torch.Tensor] = {}  # what the backward pass needs, once for each storage

            def keep(tensor: torch.Tensor) -> torch.Tensor:
                kept[tensor.untyped_storage()._cdata] = tensor
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
                inputs = random_inputs(recipe.model, encoder.embed_dim, recipe.train.batch_size, torch.device("meta"))
                output = unet(*inputs)
        activations = sum(each.untyped_storage().nbytes() for key, each in kept.items() if key not in own)
        del output
        step_flop = 3 * counter.get_total_flops() * recipe.train.batch_size
        precision = choose_precision(recipe.train.precision, device)
        seconds = None
        if step_flop <= LARGEST_TIMED_STEP.get(device.type, 0):
            seconds = _time_step(recipe, build_model(recipe.model, device).unet, encoder.embed_dim, device, precision)
        audio = encoder.parameters() if isinstance(encoder, torch.nn.Module) else ()
        return cls(
            n_parameters=n_parameters,
            n_audio_parameters=sum(parameter.numel() for parameter in audio),
            forward_gflop=counter.get_total_flops() / 1e9,
            train_memory_gib=(20 * n_parameters + activations) / 2**30,
            device=str(device),
            precision=str(precision).removeprefix("torch."),
            step_seconds=seconds,
            hours=None if seconds is None else seconds * recipe.train.steps / 3600,
        )

    def rows(self, recipe: Recipe) -> list[list[str]]:
        """Rows for people."""
        audio = f"and {self.n_audio_parameters / 1e6:.2f} M of the audio encoder"
        rows = [
            ["parameters", f"{self.n_parameters / 1e6:.2f} M", audio],
            ["forward pass", f"{self.forward_gflop:.3g} GFLOP", "one frame"],
            [
                "memory to train",
                f"about {self.train_memory_gib:.2g} GiB",
                f"at batch {recipe.train.batch_size}, float32",
            ],
        ]
        if self.step_seconds is None or self.hours is None:
            step = 3 * self.forward_gflop * recipe.train.batch_size / 1e3
            return [*rows, ["time to train", "not known", f"{step:.3g} TFLOP a step, too much to try on {self.device}"]]
        what = (
            f"{recipe.train.steps} steps of {self.step_seconds:.3g} s, {self.device}, {self.precision}, network alone"
        )
        return [*rows, ["time to train", f"about {console.duration(self.hours * 3600)}", what]]


def _time_step(recipe: Recipe, unet: Any, audio_dim: int, device: Any, precision: Any) -> float:
    """Seconds of the faster of two forward and backward passes, after one that warms up."""
    import torch

    from dheads_cli.model.build import random_inputs

    inputs = random_inputs(recipe.model, audio_dim, recipe.train.batch_size, device)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            output = unet(*inputs)
        output.float().square().mean().backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])
