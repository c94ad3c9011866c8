"""Steps that are not finite are left out; a run that can't go on ends with its last good weights named."""

from pathlib import Path
from typing import Any

import pytest
import torch
from toy_training import Loss, Toy, learn, make_loss, recipe

from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import load_tensors
from dheads_cli.run.training_health import YOUNG, Health, check_health, check_validation

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def bad_at(toy: Toy, steps: set[int], what: str = "loss") -> Loss:
    """A loss that is NaN, or whose gradient is, in some steps; batch norm has then heard NaN as well."""
    loss_of = make_loss(toy)

    def bad(batch: Any, noise_seed: int, part: Any = None) -> dict[str, torch.Tensor]:
        if noise_seed not in steps:
            return loss_of(batch, noise_seed, part)
        if what == "loss":
            batch.x[0] = torch.nan
            return loss_of(batch, noise_seed, part)
        weight = toy.net[0].weight
        return {"loss": loss_of(batch, noise_seed, part)["loss"] + (weight - weight.detach()).abs().sum().sqrt()}

    return bad


def run_with(tmp_path: Path, bad: set[int], what: str = "loss", **changes: Any) -> Path:
    toy = Toy(norm=True)
    learn(recipe(tmp_path / "c", **changes), tmp_path / "run", toy, bad_at(toy, bad, what))
    return tmp_path / "run"


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_step_that_is_not_finite_leaves_all_as_it_was(
    tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_with(tmp_path, set(), steps=2)
    before, _ = load_tensors(tmp_path / "run/resume.safetensors")
    toy = Toy(norm=True)
    with pytest.raises(DheadsError, match="not finite at step 3"):  # the last step: there is nothing to go on with
        learn(recipe(tmp_path / "c", steps=3), tmp_path / "run", toy, bad_at(toy, {3}, what))
    tensors = {f"raw.net.{name}": each for name, each in toy.net.state_dict().items()}
    tensors |= {f"buffer.net.{name}": each for name, each in toy.net.state_dict().items()}
    assert all(torch.equal(tensors[name], each) for name, each in before.items() if name in tensors)
    run_with(tmp_path, {3}, what, steps=4)
    assert "step 3 is left out" in capsys.readouterr().err
    after, info = load_tensors(tmp_path / "run/resume.safetensors")
    assert (info["step"], info["health"]["n_skipped"]) == (4, 1)
    assert all(each.isfinite().all() for each in after.values())
    assert int(after["buffer.net.1.num_batches_tracked"]) == 3


def test_a_run_with_steps_left_out_is_resumed_byte_for_byte(tmp_path: Path) -> None:
    for name, parts in (("whole", [8]), ("broken", [5, 8])):
        for steps in parts:
            toy = Toy(norm=True)
            learn(recipe(tmp_path / "c", steps=steps), tmp_path / name, toy, bad_at(toy, {2, 3, 7}))
    assert load_tensors(tmp_path / "whole/resume.safetensors")[1]["health"]["n_skipped"] == 3
    assert (tmp_path / "whole/resume.safetensors").read_bytes() == (tmp_path / "broken/resume.safetensors").read_bytes()


def test_too_many_in_a_row_end_the_run_with_the_last_good_checkpoint(tmp_path: Path) -> None:
    message = r"the last 3 steps were left out\. Last good checkpoint: \S*step-000004\.safetensors; go on from it with "
    message += r"--set train\.lr=0\.005 --set train\.weights=\S*step-000004\.safetensors --run OTHER"
    with pytest.raises(DheadsError, match=message):
        run_with(tmp_path, {5, 6, 7}, max_bad_steps=3, steps=9)
    names = [path.name for path in (tmp_path / "run/checkpoints").iterdir()]
    assert sorted(names) == ["step-000002.safetensors", "step-000004.safetensors"]  # none of step 6, a bad one
    tensors, info = load_tensors(tmp_path / "run/resume.safetensors")
    assert info["step"] == 4
    assert all(each.isfinite().all() for each in tensors.values())


def test_without_a_checkpoint_one_is_told_to_begin_anew(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match=r"no good checkpoint yet: begin anew with --set train\.lr=0\.005 --restart"):
        run_with(tmp_path, {1, 2}, max_bad_steps=2)


def test_a_validation_loss_that_is_not_finite_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="the validation loss is nan at step 4, which is not kept"):
        check_validation(recipe(tmp_path / "c"), tmp_path, 4, float("nan"))


def test_a_loss_far_above_its_best_ends_the_run(tmp_path: Path) -> None:
    run = run_with(tmp_path, set(), steps=4)
    health, settings = Health(), recipe(tmp_path / "c", divergence=1.5)

    def note(loss: float, steps: range) -> None:
        for step in steps:
            health.note(step, loss, applied=True)
            check_health(settings, run, step, health, {"loss": loss, "grad_norm": 1.0})

    note(1.0, range(1, YOUNG + 1))
    note(2.0, range(YOUNG + 1, YOUNG + 35))  # smoothed: 2 - 0.98^n, past 1.5 at n = 35
    message = rf"at step {YOUNG + 35}, more than train\.divergence=1\.5 times the 1 of step {YOUNG}\. Last good"
    with pytest.raises(DheadsError, match=message):
        note(2.0, range(YOUNG + 35, YOUNG + 36))
