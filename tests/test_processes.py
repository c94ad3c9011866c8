"""Several processes that train one model: the losses of one process, its files, and one end for all."""

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from corpus import SIZE, make_corpus
from toy_training import Loss, learn, learn_as, recipe

from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import load_tensors
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_io import recipe_to_yaml
from dheads_cli.run.processes import Processes
from dheads_cli.run.train import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TIMES = ("samples_per_s", "wait_share", "share_of_peak", "watch_s")

# A process that has run a backward pass can't be forked: these come from one that has only imported things.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["toy_training", "torch.utils.tensorboard", "test_processes"])


def ended(settings: Recipe, runs: list[Path], change: Callable[[Loss], Loss] | None = None) -> list[int]:
    """How as many processes end as there are run folders, commonly one and the same."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = [(rank, len(runs), port, settings, run, change) for rank, run in enumerate(runs)]
    started = [CONTEXT.Process(target=speak, args=each) for each in arguments]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
        assert process.exitcode is not None, "hangs"
    return [process.exitcode for process in started]


def speak(rank: int, n: int, port: int, settings: Recipe, run: Path, change: Any) -> None:
    """One process, ended as the command ends it; what it says on stderr goes into a file."""
    # Tests before may have started the server that processes are forked from with Ctrl-C blocked (run/clip_pool.py).
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with open(run.parent / f"{run.name}-{rank}.txt", "w") as file, contextlib.redirect_stderr(file):
        try:
            learn_as(rank, n, port, settings, run, change)
        except DheadsError as error:
            print(f"error: {error}", file=file)
            sys.exit(2)


def said(run: Path, n: int = 2) -> list[str]:
    return [(run.parent / f"{run.name}-{rank}.txt").read_text() for rank in range(n)]


def logged(run: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]


def same_losses(one: Path, other: Path) -> None:
    """The logs agree to what the rounding of float32 sums comes to in a few steps."""
    assert [line.keys() for line in logged(one)] == [line.keys() for line in logged(other)]
    for a, b in zip(logged(one), logged(other), strict=True):
        assert a == pytest.approx(b, rel=1e-5)


def same_run(one: Path, other: Path) -> None:
    """So do the weights and moments."""
    same_losses(one, other)
    tensors = [load_tensors(run / "resume.safetensors")[0] for run in (one, other)]
    for name, tensor in tensors[0].items():
        torch.testing.assert_close(tensor, tensors[1][name], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("one") / "run"
    learn(recipe(run.parent / "c"), run)
    return run


def settings_of(one: Path, **changes: Any) -> Recipe:
    return recipe(one.parent / "c", **changes)


def test_two_processes_give_the_losses_of_one(one: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ended(settings_of(one), [run, run]) == [0, 0]
    same_run(run, one)
    assert [line["step"] for line in logged(run)] == [1, 2, 2, 3, 4, 4, 5, 6, 6]
    assert len(list((run / "tensorboard").iterdir())) == 1  # the first process alone writes
    assert "6/6 steps" in said(run)[0]
    assert said(run)[1] == ""


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_a_run_goes_on_with_another_number_of_processes(one: Path, tmp_path: Path, before: int, after: int) -> None:
    run = tmp_path / "run"
    for n, steps in ((before, 3), (after, 6)):
        if n == 1:
            learn(settings_of(one, steps=steps), run)
        else:
            assert ended(settings_of(one, steps=steps), [run] * n) == [0] * n
    assert load_tensors(run / "resume.safetensors")[1]["step"] == 6
    (run / "log.jsonl").write_text(  # the break at step 3 was one more checkpoint, with its validation
        "".join(line + "\n" for line in (run / "log.jsonl").read_text().splitlines() if '"step": 3, "val' not in line)
    )
    same_run(run, one)


def test_accumulated_parts_give_the_same_over_processes(one: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ended(settings_of(one, accumulate=2), [run, run]) == [0, 0]
    same_run(run, one)


def stop_first_at_2(loss_of: Loss) -> Loss:
    """Ctrl-C in the first process alone, in its second step."""

    def stopping(batch: Any, noise_seed: int, part: Any = None) -> dict[str, torch.Tensor]:
        if noise_seed == 2 and part.first == 0:
            os.kill(os.getpid(), signal.SIGINT)
        return loss_of(batch, noise_seed, part)

    return stopping


def sigterm_all(loss_of: Loss) -> Loss:
    """SIGTERM in every process, in the second in a later step than in the first."""

    def stopping(batch: Any, noise_seed: int, part: Any = None) -> dict[str, torch.Tensor]:
        if noise_seed == (3 if part.first == 0 else 4):
            os.kill(os.getpid(), signal.SIGTERM)
        return loss_of(batch, noise_seed, part)

    return stopping


@pytest.mark.parametrize(("change", "step"), [(stop_first_at_2, 2), (sigterm_all, 3)])
def test_a_signal_to_some_stops_all_after_the_same_step_and_saves(
    one: Path, tmp_path: Path, change: Any, step: int
) -> None:
    run = tmp_path / "run"
    assert ended(settings_of(one), [run, run], change) == [0, 0]
    assert load_tensors(run / "resume.safetensors")[1]["step"] == step
    assert f"stopped at step {step}" in said(run)[0]
    learn(settings_of(one), run)
    assert logged(run)[-1]["step"] == 6


def fail_second_at_3(loss_of: Loss) -> Loss:
    def failing(batch: Any, noise_seed: int, part: Any = None) -> dict[str, torch.Tensor]:
        if noise_seed == 3 and part.first:
            raise DheadsError("the second process's disk is gone")
        return loss_of(batch, noise_seed, part)

    return failing


def kill_second_at_3(loss_of: Loss) -> Loss:
    def dying(batch: Any, noise_seed: int, part: Any = None) -> dict[str, torch.Tensor]:
        if noise_seed == 3 and part.first:
            os.kill(os.getpid(), signal.SIGKILL)
        return loss_of(batch, noise_seed, part)

    return dying


def test_an_error_in_one_process_ends_all_and_is_told_once(one: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ended(settings_of(one), [run, run], fail_second_at_3) == [1, 2]
    first, second = said(run)
    assert "error" not in first
    assert second == "error: the second process's disk is gone\n"
    learn(settings_of(one), run)  # from the checkpoint of step 2
    same_run(run, one)


def test_the_loss_of_a_process_ends_the_others_with_a_line(one: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ended(settings_of(one), [run, run], kill_second_at_3) == [2, -signal.SIGKILL]
    assert "error: process 0 of 2 lost the others" in said(run)[0]
    learn(settings_of(one), run)
    same_run(run, one)


def bad_in_second_at_3(loss_of: Loss) -> Loss:
    def bad(batch: Any, noise_seed: int, part: Any = None) -> dict[str, torch.Tensor]:
        losses = loss_of(batch, noise_seed, part)
        return {**losses, "loss": losses["loss"] * torch.nan} if noise_seed == 3 and part.first else losses

    return bad


def test_a_bad_loss_in_one_process_leaves_the_step_out_in_all(one: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert ended(settings_of(one), [run, run], bad_in_second_at_3) == [0, 0]
    tensors, info = load_tensors(run / "resume.safetensors")
    assert info["health"]["n_skipped"] == 1
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert "step 3 is left out" in said(run)[0]


def test_processes_that_begin_with_something_else_are_refused(one: Path, tmp_path: Path) -> None:
    runs = [tmp_path / "run", tmp_path / "elsewhere/run"]  # the second machine does not see the first one's
    runs[1].parent.mkdir()
    learn(settings_of(one, steps=2), runs[0])
    codes = ended(settings_of(one), runs)
    assert set(codes) <= {1, 2}
    assert 2 in codes  # one of them says why; both do where they end at the same moment
    told = "".join((run.parent / f"run-{rank}.txt").read_text() for rank, run in enumerate(runs))
    assert "step: process 1 has 0, but process 0 has 2: all machines must have" in told


def test_a_batch_that_can_not_be_shared_evenly_is_refused() -> None:
    with pytest.raises(DheadsError, match=r"train\.batch_size=8, .* by 3 processes: make it a multiple of 3"):
        Processes(1, 3).share(8, 1)
    with pytest.raises(DheadsError, match=r"by 2 processes and train\.accumulate=3: make it a multiple of 6"):
        Processes(1, 2).share(8, 3)
    shares = [part for rank in range(2) for part in Processes(rank, 2).share(8, 2).split(2)]
    assert [(part.first, part.n) for part in shares] == [(0, 2), (2, 2), (4, 2), (6, 2)]


def test_torchrun_trains_a_talking_head_as_one_process_does(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "c", {"train": 2, "val": 1}, n_frames=6)
    settings = Recipe.model_validate({
        "name": "small", "data": {"path": str(folder)},
        "model": {
            "size": SIZE, "patch_size": 4, "channels": 32, "channel_mult": [1], "n_res_blocks": 1, "head_dim": 32,
            "dropout": 0.0, "noised_motion": True, "audio_encoder": {"use": "logmel", "embed_dim": 8},
        },
        "train": {
            "steps": 2, "batch_size": 4, "log_every": 1, "sample_every": 2, "threads": 1, "precision": "float32",
            "motion_noise_max": 0.5, "vlb_weight": 0.01, "lr": 1e-3,
        },
        "sample": {"sampler": {"use": "ddim", "steps": 1}},
    })  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(settings))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--"]
    command += ["dheads_cli", "train", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "two"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == 2  # told once
    train(settings, tmp_path / "one", device="cpu")
    # Not the weights: where a gradient is as good as zero, AdamW makes a step of its rounding.
    same_losses(tmp_path / "two", tmp_path / "one")
    assert (tmp_path / "two/grid-000002.png").exists()
