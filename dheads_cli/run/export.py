"""`dheads export` and `dheads card`: a trained model as one small file to hand on, with what is to be known of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from dheads_cli import console
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_cli.model.checkpoint import find_checkpoint, load_tensors, recipe_in, save_tensors
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_io import overridden
from dheads_cli.run.frames import check_motion_noise

LARGEST_CARD = 1_000_000  # bytes


def export(
    model: str | Path, out: Path, *, card: Path | None = None, sets: Sequence[str] = (), overwrite: bool = False
) -> dict[str, Any]:
    """Write a model's weights as float16, half the size of a run's checkpoint, with its recipe and its card.

    The weights are the moving average, as in the checkpoint. `train.steps` becomes the steps that were taken.

    Args:
        model: run folder (its newest checkpoint), checkpoint, or the name of a shipped model.
        out: safetensors file to write.
        card: text to keep in the file, such as Markdown; None keeps the one that is there.
        sets: `sample.KEY=VALUE` each: how the model is sampled from unless one says otherwise.
        overwrite: replace a file that is there.

    Returns:
        {"model", "step", "bytes", "sha256"}.

    Raises:
        DheadsError: no such model, a weight is too large for float16, or a setting or the card is wrong.
    """
    if out.suffix != ".safetensors":
        raise DheadsError(f"{out}: a model's file ends in .safetensors")
    if out.exists() and not overwrite:
        raise DheadsError(f"{out}: is there already; choose another file with -o, or --overwrite it")
    path = find_checkpoint(model)
    tensors, info = load_tensors(path)
    recipe = recipe_in(info, path)
    if isinstance(recipe, Recipe):
        recipe = overridden(recipe, sets, "sample")
        check_motion_noise(recipe, recipe.sample.motion_noise)
    elif sets:
        raise DheadsError(f"{path}: has no section sample, so nothing to --set: it is no talking head")
    step = int(info.get("step", 0))
    if step:
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"steps": step})})
    info["recipe"] = recipe.model_dump(mode="json")
    if card is not None:
        info["card"] = card_text(card)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(out, {name: halved(name, tensor, path) for name, tensor in tensors.items()}, info)
    console.info(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {recipe.name}, step {step}")
    return {"model": str(out), "step": step, "bytes": out.stat().st_size, "sha256": sha256_of(out)}


def halved(name: str, tensor: torch.Tensor, path: Path) -> torch.Tensor:
    """A weight as float16; whole numbers stay.

    Raises:
        DheadsError: a value would overflow.
    """
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.isfinite(half).all():
        raise DheadsError(f"{path}: {name} holds values beyond float16's 65504: this model can't be exported")
    return half


def card_text(path: Path) -> str:
    """A card's text.

    Raises:
        DheadsError: it can't be read, or it is no text of a sensible length.
    """
    try:
        if path.stat().st_size > LARGEST_CARD:
            raise DheadsError(f"{path}: larger than {LARGEST_CARD / 1e6:g} MB; a card is a page of text")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DheadsError(f"{path}: can't be read as the card: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DheadsError(f"{path}: is no UTF-8 text; a card is a page of text") from error


def show_card(model: str | Path) -> dict[str, Any]:
    """What a model's file says of it: {"model", "sha256", "recipe", "step", "version", "card"}; also printed.

    Raises:
        DheadsError: no such model.
    """
    path = find_checkpoint(model)
    _, info = load_tensors(path)
    recipe = recipe_in(info, path)
    facts = {
        "model": str(path),
        "sha256": sha256_of(path),
        "recipe": recipe.name,
        "step": info.get("step"),
        "version": info.get("version"),
        "card": info.get("card"),
    }
    console.table("model", ["what", "value"], [[key, str(value)] for key, value in facts.items() if key != "card"])
    console.text(facts["card"] or "It has no card; `dheads export --card FILE` gives it one.")
    return facts
