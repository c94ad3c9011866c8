"""What a training run keeps: weights, their moving average, the optimiser's moments; begun and resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dheads_cli import console
from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import load_audio_encoder, load_tensors, load_weights, recipe_in
from dheads_cli.protocols import AudioEncoder
from dheads_cli.recipe_tasks import AnyRecipe, HearingRecipe
from dheads_cli.run.training_changes import differences, is_free
from dheads_cli.run.training_health import Health


class Learner(Protocol):
    """What is trained: a task's parts."""

    def own_modules(self) -> dict[str, nn.Module]:
        """The modules whose weights a checkpoint holds, by their prefix in it."""
        ...

    def trained_modules(self) -> dict[str, nn.Module]:
        """Those of them that are learned; the others stay as they are."""
        ...


@runtime_checkable
class Hearer(Learner, Protocol):
    """One that has an audio encoder."""

    @property
    def audio_encoder(self) -> AudioEncoder: ...


@dataclass
class State:
    """Everything that changes while training, and so everything a resumed run needs.

    Attributes:
        parts: what is trained.
        parameters: those of the trained modules, by their name in a checkpoint.
        ema: moving average of all that `averaged` gives.
        optimizer: with the moments.
        step: steps done.
        health: the steps that were left out, and how the loss went.
        val_loss: the validation loss when it was last saved.
        facts: what else a checkpoint has to say of the model, by name, such as the words that its outputs stand for.
        timesteps: what was learned of how to draw the diffusion's steps, by name.
    """

    parts: Learner
    parameters: dict[str, nn.Parameter]
    ema: dict[str, Tensor]
    optimizer: torch.optim.AdamW
    step: int = 0
    health: Health = field(default_factory=Health)
    val_loss: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    timesteps: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(iter(self.parameters.values())).device

    def buffers(self) -> dict[str, Tensor]:
        """What no gradient changes but training may, as batch norm's running statistics; not copies."""
        return {
            f"{prefix}.{name}": tensor
            for prefix, module in self.parts.trained_modules().items()
            for name, tensor in module.state_dict().items()
            if f"{prefix}.{name}" not in self.parameters
        }

    def frozen(self) -> dict[str, Tensor]:
        """Weights that a checkpoint holds although nothing changes them; not copies."""
        trained = self.parts.trained_modules()
        return {
            f"{prefix}.{name}": tensor
            for prefix, module in self.parts.own_modules().items()
            if prefix not in trained
            for name, tensor in module.state_dict().items()
        }

    def averaged(self) -> dict[str, Tensor]:
        """Parameters and real-valued buffers: averaged weights need the statistics of averaged weights. Not copies."""
        buffers = {name: buffer for name, buffer in self.buffers().items() if buffer.is_floating_point()}
        return {**self.parameters, **buffers}


def fresh_state(
    parts: Learner,
    recipe: AnyRecipe,
    facts: Mapping[str, Any] | None = None,
    timesteps: Mapping[str, Tensor] | None = None,
) -> State:
    """The state before the first step."""
    parameters = {
        f"{prefix}.{name}": parameter
        for prefix, module in parts.trained_modules().items()
        for name, parameter in module.named_parameters()
    }
    optimizer = torch.optim.AdamW(
        parameters.values(), lr=recipe.train.lr, weight_decay=recipe.train.weight_decay, fused=True
    )
    state = State(parts, parameters, {}, optimizer, facts=facts or {}, timesteps=timesteps or {})
    state.ema = {name: tensor.detach().clone() for name, tensor in state.averaged().items()}
    return state


@contextmanager
def ema_weights(state: State) -> Iterator[None]:
    """The modules hold the averaged weights inside this block, in evaluation mode."""
    raw = {name: tensor.detach().clone() for name, tensor in state.averaged().items()}
    modules = state.parts.trained_modules().values()

    def put(values: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in state.averaged().items():
                tensor.copy_(values[name])

    put(state.ema)
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        put(raw)
        for module in modules:
            module.train()


@torch.no_grad()
def brief_scores(
    state: State, loss_of: Callable[..., Mapping[str, Tensor]], batches: Iterable[Any]
) -> dict[str, float]:
    """Mean loss and accuracy of the EMA weights over batches: val_loss and val_accuracy."""
    with ema_weights(state):
        scores = [loss_of(batch, noise_seed=0) for batch in batches]
    loss, accuracy = (torch.cat([score[name] for score in scores]).mean().item() for name in ("loss", "accuracy"))
    return {"val_loss": loss, "val_accuracy": accuracy}


def brief_scores_of_all(
    state: State,
    loss_of: Callable[..., Mapping[str, Tensor]],
    batches: Mapping[str, Iterable[Any]],
    shares: Iterable[float],
) -> dict[str, float]:
    """The means of several corpora's brief scores by their shares, and the loss of each: val_loss/CORPUS.

    Args:
        state: the model.
        loss_of: of a batch.
        batches: by the corpora's names.
        shares: of the corpora; together 1.
    """
    scores = {name: brief_scores(state, loss_of, each) for name, each in batches.items()}
    pairs = list(zip(scores.values(), shares, strict=True))
    means = {name: sum(score[name] * share for score, share in pairs) for name in ("val_loss", "val_accuracy")}
    return means | ({f"val_loss/{name}": score["val_loss"] for name, score in scores.items()} if len(pairs) > 1 else {})


def kept(state: State) -> dict[str, Tensor]:
    """What a resume state holds of a model, by its name there; the optimiser's moments come beside it. Not copies."""
    parts: dict[str, Mapping[str, Tensor]] = {
        "raw": state.parameters, "ema": state.ema, "buffer": state.buffers(), "frozen": state.frozen(),
        "timesteps": state.timesteps,
    }  # fmt: skip
    return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def begin_or_resume(
    run_dir: Path,
    recipe: AnyRecipe,
    parts: Learner,
    restart: bool,
    facts: Mapping[str, Any] | None = None,
    timesteps: Mapping[str, Tensor] | None = None,
) -> State:
    """The state that run_dir holds, or the one before the first step, with the weights that the recipe names.

    What was learned of the steps begins anew where they were drawn in another way so far.

    Raises:
        DheadsError: what is there was trained with another recipe or other facts, or is not complete; or the audio
            encoder or the weights to begin with are not there or do not fit.
    """
    facts = facts or {}
    resume = run_dir / "resume.safetensors"
    if restart or not resume.exists():
        take_weights(recipe, parts, facts)
        return fresh_state(parts, recipe, facts, timesteps)
    tensors, info = load_tensors(resume)
    before = recipe_in(info, resume)
    unlike = list(differences(before.model_dump(mode="json"), recipe.model_dump(mode="json")))
    if changed := [key for key in unlike if not is_free(key)]:
        raise DheadsError(
            f"{run_dir}: holds a run of another recipe ({', '.join(changed[:3])} differ): "
            "choose another folder with --run, or begin anew with --restart"
        )
    if other := [name for name, value in facts.items() if info.get(name) != value]:
        raise DheadsError(
            f"{run_dir}: holds a run of another {other[0]} than {', '.join(map(str, recipe.data.paths))} gives now: "
            "choose another folder with --run, or begin anew with --restart"
        )
    state = fresh_state(parts, recipe, facts, timesteps)
    if "train.timesteps" in unlike:
        tensors |= {f"timesteps.{name}": tensor for name, tensor in state.timesteps.items()}
    if missing := [name for name in state.buffers() if f"buffer.{name}" not in tensors]:
        raise DheadsError(
            f"{resume}: lacks {missing[0]}, which changes while training: it was written by an older dheads, "
            "and the run can't go on exactly; begin anew with --restart"
        )
    needed = kept(state)
    if wrong := [name for name, each in needed.items() if name not in tensors or tensors[name].shape != each.shape]:
        raise DheadsError(
            f"{resume}: {len(wrong)} of its tensors do not fit its recipe, {wrong[0]} first: it was written by another "
            "version of dheads or of a component; begin anew with --restart"
        )
    restore(state, tensors, info["step"], Health(**info.get("health", {})))
    state.val_loss = info["val_loss"]
    return state


def take_weights(recipe: AnyRecipe, parts: Learner, facts: Mapping[str, Any]) -> None:
    """Begin with the weights of another model where the recipe names one: all, the audio encoder's, or both.

    Raises:
        DheadsError: they are not there or do not fit, or their model has learned another task or other facts.
    """
    settings = recipe.train
    if settings.weights is not None:
        path, info, before = load_weights(settings.weights, parts.own_modules(), recipe)
        if other := [name for name, value in facts.items() if info.get(name) != value]:
            raise DheadsError(f"train.weights: {path}: was trained with another {other[0]} than this recipe's")
        theirs, ours = (each.model.model_dump(mode="json") for each in (before, recipe))
        unlike = ", ".join(differences(theirs, ours, "model."))
        console.info(f"begins with the weights of {path}" + (f", whose recipe has another {unlike}" if unlike else ""))
    if isinstance(recipe, HearingRecipe) and recipe.train.audio_encoder_weights is not None:
        assert isinstance(parts, Hearer)
        load_audio_encoder(recipe.train.audio_encoder_weights, parts.audio_encoder, recipe.model.audio_encoder)


def restore(state: State, tensors: dict[str, Tensor], step: int, health: Health) -> None:
    """Put a resume state back."""
    with torch.no_grad():
        for name, buffer in state.buffers().items():
            buffer.copy_(tensors[f"buffer.{name}"])
        for name, tensor in state.frozen().items():
            tensor.copy_(tensors[f"frozen.{name}"])
        for name, average in state.ema.items():
            average.copy_(tensors[f"ema.{name}"])
        for name, tensor in state.timesteps.items():
            tensor.copy_(tensors[f"timesteps.{name}"])
        for name, parameter in state.parameters.items():
            parameter.copy_(tensors[f"raw.{name}"])
            state.optimizer.state[parameter] = {
                "step": torch.tensor(float(step - health.n_skipped), device=parameter.device),
                "exp_avg": torch.empty_like(parameter).copy_(tensors[f"exp_avg.{name}"]),
                "exp_avg_sq": torch.empty_like(parameter).copy_(tensors[f"exp_avg_sq.{name}"]),
            }
    state.step, state.health = step, health
