"""`dheads import`: the authors' checkpoints as ours. Read from `import_official` downwards."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

import dheads_cli
from dheads_cli import console
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of, write_atomically
from dheads_cli.model.checkpoint import save_tensors
from dheads_cli.model.official_fit import Fit, fit_state_dict, misfit, split_networks
from dheads_cli.model.pickled import read_state_dict
from dheads_cli.recipe import Recipe, Sample
from dheads_cli.recipe_io import recipe_to_yaml
from dheads_cli.run.import_hearing import EMBED_DIM, SCRIPT, Hearing, nothing_heard, read_hearing
from dheads_cli.run.training_files import checkpoint_path

HEAD_DIM = 64  # the release's; it is not in the weights
SIZE = 128  # px, the release's frames
REPORT = "import.json"  # every key used, unused and missing
LICENCE = "The authors' weights are CC BY-NC-SA 4.0: not for commercial use, and what is made of them is shared alike."


def import_official(
    checkpoint: Path,
    out: Path,
    *,
    audio_encoder: Path | None = None,
    name: str | None = None,
    head_dim: int | None = None,
    grayscale_motion: bool | None = None,
    size: int | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a run folder from a checkpoint of the release: recipe, checkpoint, and import.json, which is the report.

    Args:
        checkpoint: TorchScript of the network (opened only with --trust), a Lightning checkpoint or a state dict of
            torch.save (read without running anything), or safetensors with the release's names.
        out: folder to write.
        audio_encoder: TorchScript or state dict of the release's audio encoder; None leaves it out.
        name: of the model; None is the folder's.
        head_dim: channels of an attention head; None is what the file's hyper-parameters say, or 64.
        grayscale_motion: None likewise, or RGB where the number of input channels allows both.
        size: width and height of the frames, px; None is what cross-attention's shapes tell, or 128.
        overwrite: replace an import that is there.

    Returns:
        The report: every key used, unused and missing.

    Raises:
        DheadsError: a file can't be read or is not trusted, or shapes do not add up; nothing is written then.
    """
    check_target(out, overwrite)
    name = valid_name(name or model_name(out))
    state_dict, hints = read_state_dict(checkpoint, "the release's network")
    told = told_by_file(hints, head_dim, grayscale_motion, size)
    hearing = read_hearing(audio_encoder) if audio_encoder else nothing_heard()
    try:
        network, others = split_networks(state_dict)
        fit = fit_state_dict(
            network,
            head_dim or told.get("num_head_channels", HEAD_DIM),
            grayscale_motion=told.get("grayscale_motion", grayscale_motion),
            audio_dim=hearing.embed_dim if audio_encoder else None,
            size=size or told.get("image_size", SIZE),
        )
    except DheadsError as error:
        raise DheadsError(f"{checkpoint}: {error}") from error
    if fit.unused or fit.missing:
        raise DheadsError(f"{checkpoint}: not a network of the release: {misfit(fit)}")
    if fit.audio_dim != hearing.embed_dim:
        raise DheadsError(
            f"{checkpoint}: hears embeddings of {fit.audio_dim}, but the release's audio encoder gives {EMBED_DIM}: "
            "name the encoder it was trained with by --audio-encoder"
        )
    recipe = recipe_of(name, fit, hearing)
    report = make_report(checkpoint, audio_encoder, fit, hearing, others, told)
    write(out, recipe, fit, hearing, report)
    show(out, recipe, fit, hearing, report)
    console.result(report)
    return report


def told_by_file(
    hints: Mapping[str, Any], head_dim: int | None, grayscale_motion: bool | None, size: int | None
) -> dict[str, Any]:
    """Those of a Lightning file's hyper-parameters that are taken: what weights do not tell and was not given."""
    told: dict[str, Any] = {}
    if head_dim is None and hints.get("num_head_channels", -1) > 0:  # the release writes -1 where heads are counted
        told["num_head_channels"] = hints["num_head_channels"]
    if grayscale_motion is None and isinstance(hints.get("grayscale_motion"), bool):
        told["grayscale_motion"] = hints["grayscale_motion"]
    if size is None and hints.get("image_size", -1) > 0:
        told["image_size"] = hints["image_size"]
    return told


def check_target(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds a model, unless it is an import that may be replaced.

    Raises:
        DheadsError: it does; a run that was trained is never replaced.
    """
    checkpoints = list((out / "checkpoints").glob("step-*.safetensors"))
    if not checkpoints and not (out / "recipe.yaml").exists():
        return
    trained = (out / "resume.safetensors").exists() or any(path != checkpoint_path(out, 0) for path in checkpoints)
    if trained or not (out / REPORT).exists():
        raise DheadsError(f"{out}: holds a model that was not imported; choose another folder with -o")
    if not overwrite:
        raise DheadsError(f"{out}: holds a model already; choose another folder with -o, or --overwrite it")


def valid_name(name: str) -> str:
    """The name of a recipe.

    Raises:
        DheadsError: a recipe can't be called so.
    """
    try:
        return Recipe(name=name).name
    except ValidationError as error:
        raise DheadsError(f"--name {name}: letters, digits, '.', '_' and '-' make a name, such as crema-2") from error


def model_name(out: Path) -> str:
    """A folder's name as a recipe can have it."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", out.absolute().name).lstrip("._-") or "imported"


def recipe_of(name: str, fit: Fit, hearing: Hearing) -> Recipe:
    """The recipe that the shapes tell; what they do not tell has the paper's values, which are the defaults."""
    model = fit.settings.model_copy(update={"audio_encoder": hearing.component})
    # How loud the speech was that it learned from is not told: it hears recordings as they are, as the release does.
    sample = Sample(speech_dbfs=None)
    description = "Imported from the authors' release of Diffused Heads."
    return Recipe(name=name, description=description, model=model, sample=sample)


def make_report(
    checkpoint: Path,
    audio_encoder: Path | None,
    fit: Fit,
    hearing: Hearing,
    others: Sequence[str],
    told: Mapping[str, Any],
) -> dict[str, Any]:
    """Every key used, unused and missing, and where the files came from."""
    sources = {"network": checkpoint} | ({"audio_encoder": audio_encoder} if audio_encoder else {})
    return {
        "sources": {part: {"file": path.name, "sha256": sha256_of(path)} for part, path in sources.items()},
        "network": {"used": fit.renamed, "unused": [*fit.unused, *others], "missing": fit.missing},
        "audio_encoder": {
            "found": hearing.found,
            "used": {key: f"audio_encoder.{name}" for key, name in hearing.keys.items()},
            "unused": list(hearing.unused),
            "missing": [] if hearing.tensors or hearing.component.options else ["audio_encoder.*"],
        },
        "told_by_file": dict(told),
        "n_parameters": sum(tensor.numel() for tensor in fit.tensors.values()),
        "model": fit.settings.model_dump(mode="json") | {"audio_encoder": hearing.component.model_dump()},
        "licence": LICENCE,
        "version": dheads_cli.__version__,
    }


def write(out: Path, recipe: Recipe, fit: Fit, hearing: Hearing, report: Mapping[str, Any]) -> None:
    """The run folder: TorchScript first where it stays, the recipe last, so that a folder with a recipe is whole."""
    path = checkpoint_path(out, 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        (out / SCRIPT).unlink(missing_ok=True)  # of an import that is replaced
    except OSError as error:
        raise DheadsError(f"{out}: can't be written: {error.strerror}") from error
    if hearing.script is not None:
        write_atomically(out / SCRIPT, hearing.script)
    tensors = {f"unet.{name}": tensor for name, tensor in fit.tensors.items()} | dict(hearing.tensors)
    info = {
        "recipe": recipe.model_dump(mode="json"), "step": 0, "imported": report["sources"], "licence": LICENCE,
        "version": dheads_cli.__version__,
    }  # fmt: skip
    save_tensors(path, tensors, info)
    write_atomically(out / REPORT, json.dumps(report, indent=1) + "\n")
    write_atomically(out / "recipe.yaml", recipe_to_yaml(recipe))


def show(out: Path, recipe: Recipe, fit: Fit, hearing: Hearing, report: Mapping[str, Any]) -> None:
    """What was found, for people."""
    model, network = recipe.model, report["network"]
    motion = f"{model.n_motion_frames} {'gray' if model.grayscale_motion else 'RGB'}"
    attention = "middle" if not model.attention_levels else f"middle and levels {model.attention_levels}"
    rows = [
        ["network", f"{report['n_parameters']:,} parameters, {model.channels} x {model.channel_mult}, {model.size} px"],
        ["conditioning", f"{model.conditioning.use}, audio window of {2 * model.audio_context + 1} x {fit.audio_dim}"],
        ["attention", f"{attention}, heads of {model.head_dim}"],
        ["motion frames", f"{motion}, before the identity frame"],
        ["network's keys", _counts(network)],
        ["audio encoder", hearing.found],
        ["audio encoder's keys", _counts(report["audio_encoder"])],
    ]  # fmt: skip
    listed = f"{out / REPORT} lists every key."
    console.table(f"{out}: imported as {recipe.name}", ["what", "found"], rows, listed)
    n_motion = 3 * model.n_motion_frames
    if not model.grayscale_motion and n_motion:
        console.info(f"{n_motion} motion channels are read as RGB; --gray-motion reads them as {n_motion} gray frames")
    if told := report["told_by_file"]:
        console.info(f"read off the file's hyper-parameters: {', '.join(f'{key} {told[key]}' for key in told)}")
    if not hearing.tensors and not hearing.component.options:
        console.warn("without --audio-encoder the model can't hear: import again with it before `dheads animate`")
    console.info(LICENCE)


def _counts(keys: Mapping[str, Any]) -> str:
    return ", ".join(f"{len(keys[what])} {what}" for what in ("used", "unused", "missing"))
