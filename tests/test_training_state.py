"""What a run keeps: killed before any operation on its files, it goes on to the same bytes."""

import itertools
import json
import shutil
from functools import partial
from pathlib import Path

import pytest
from killed import killed_at
from toy_training import Toy, learn, recipe

from dheads_cli.model.checkpoint import checkpoints_of, load_tensors, save_tensors
from dheads_cli.recipe import Recipe
from dheads_cli.run.training_files import prepare_run_dir, save
from dheads_cli.run.training_log import open_log
from dheads_cli.run.training_state import begin_or_resume

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

STEPS = 6  # with a checkpoint every 2 and room for 2


def go_on(settings: Recipe, run: Path) -> None:
    """What a run does with its files, with gradients that need no backward pass, which no forked process can run."""
    toy = Toy(norm=True)
    state = begin_or_resume(run, settings, toy, restart=False)
    prepare_run_dir(run, settings, state)
    with open_log(run, state.step) as log:
        for step in range(state.step + 1, STEPS + 1):
            state.step = step
            for parameter in state.parameters.values():
                parameter.grad = step * parameter.detach()
            state.optimizer.step()
            log({"step": step, "loss": 1 / step})
            if step % 2 == 0:
                save(run, settings, state, val_loss=1 / step)


def killed(settings: Recipe, run: Path, n_operations: int) -> bool:
    """Train and be killed after so many operations on files, TensorBoard's apart; whether there were as many."""
    return killed_at(run, n_operations, partial(go_on, settings, run), but_not="tensorb")


def contents(run: Path) -> dict[str, bytes]:
    kept = [path for path in run.rglob("*") if path.is_file() and "tensorboard" not in path.parts]
    return {str(path.relative_to(run)): path.read_bytes() for path in kept}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return recipe(tmp_path_factory.mktemp("corpus") / "c", STEPS, keep_checkpoints=2)


@pytest.fixture(scope="module")
def done(settings: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("done") / "run"
    go_on(settings, run)
    assert sorted(contents(run)) == [
        "checkpoints/step-000004.safetensors", "checkpoints/step-000006.safetensors",
        "log.jsonl", "recipe.yaml", "resume.safetensors",
    ]  # fmt: skip
    return run


def test_killed_before_any_operation_on_its_files_a_run_goes_on_to_the_same_bytes(
    settings: Recipe, done: Path, tmp_path: Path
) -> None:
    n_operations, resumed_from = 0, set()
    while killed(settings, run := tmp_path / str(n_operations), n_operations):
        left = sorted(contents(run)) if run.exists() else []
        resume = run / "resume.safetensors"
        resumed_from.add(load_tensors(resume)[1]["step"] if resume.exists() else 0)
        for checkpoint in checkpoints_of(run):
            load_tensors(checkpoint)  # whole, and can be sampled from
        go_on(settings, run)
        assert contents(run) == contents(done), f"killed at operation {n_operations}, which left {left}"
        n_operations += 1
    assert contents(run) == contents(done)
    assert resumed_from == {0, 2, 4, 6}
    assert n_operations > 15


@pytest.fixture(scope="module")
def stopped(settings: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after its save at step 4."""
    folder = tmp_path_factory.mktemp("stopped")
    for n_operations in itertools.count():
        run = folder / str(n_operations)
        assert killed(settings, run, n_operations)
        resume = run / "resume.safetensors"
        if resume.exists() and load_tensors(resume)[1]["step"] == 4:
            break
    return run


@pytest.mark.parametrize(
    "lost", ["checkpoints/step-000004.safetensors", "checkpoints/step-000002.safetensors", "log.jsonl", "recipe.yaml"]
)
def test_a_resume_state_alone_is_enough(settings: Recipe, done: Path, stopped: Path, tmp_path: Path, lost: str) -> None:
    run = shutil.copytree(stopped, tmp_path / "run")
    (run / lost).unlink()
    go_on(settings, run)
    now, whole = contents(run), contents(done)
    if lost == "log.jsonl":
        assert now.pop(lost).splitlines() == whole.pop(lost).splitlines()[4:]
    assert now == whole


def test_a_resume_state_older_than_the_newest_checkpoint_comes_to_it_again(
    settings: Recipe, done: Path, stopped: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(stopped, tmp_path / "run")
    newer = done / "checkpoints/step-000006.safetensors"
    shutil.copy(newer, run / "checkpoints")
    go_on(settings, run)
    assert contents(run) == contents(done)


def test_the_checkpoint_of_a_run_at_its_end_is_written_again_where_it_is_lost(
    settings: Recipe, done: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(done, tmp_path / "run")
    (run / "checkpoints/step-000006.safetensors").unlink()
    go_on(settings, run)
    assert contents(run) == contents(done)


def test_half_a_line_of_the_log_is_dropped(settings: Recipe, done: Path, stopped: Path, tmp_path: Path) -> None:
    run = shutil.copytree(stopped, tmp_path / "run")
    with open(run / "log.jsonl", "a") as log:
        log.write('{"step": 5, "lo')
    go_on(settings, run)
    assert contents(run) == contents(done)


def test_a_run_of_an_older_dheads_without_its_health_goes_on(settings: Recipe, done: Path, tmp_path: Path) -> None:
    run = shutil.copytree(done, tmp_path / "run")
    tensors, info = load_tensors(run / "resume.safetensors")
    del info["health"]
    save_tensors(run / "resume.safetensors", tensors, info)
    state = learn(settings.model_copy(update={"train": settings.train.model_copy(update={"steps": 7})}), run, Toy(True))
    assert state.step == 7
    assert json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"] == 7
