"""The compiled network: eager training's losses, the same files, and an early word where nothing can be compiled."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from corpus import SIZE, make_corpus

from dheads_cli.model.checkpoint import load_tensors
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_io import recipe_to_yaml
from dheads_cli.run.train import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

MODEL = {
    "size": SIZE, "patch_size": 4, "channels": 32, "channel_mult": [1], "n_res_blocks": 1, "head_dim": 32,
    "dropout": 0.2, "noised_motion": True, "audio_encoder": {"use": "logmel", "embed_dim": 8},
}  # fmt: skip


def recipe(folder: Path, **changes: object) -> Recipe:
    settings = {
        "steps": 4, "batch_size": 2, "checkpoint_every": 2, "log_every": 1, "sample_every": 4, "watch_clips": 0,
        "threads": 1, "motion_noise_max": 0.5, "vlb_weight": 0.01, "precision": "float32", "lr": 1e-3,
    }  # fmt: skip
    return Recipe.model_validate({
        "name": "small", "data": {"path": str(folder)}, "model": MODEL, "train": {**settings, **changes},
        "sample": {"sampler": {"use": "ddim", "steps": 1}},
    })  # fmt: skip


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.slow  # a compilation takes a core half a minute
def test_compiled_training_has_the_losses_and_the_files_of_eager_training(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "c", {"train": 2, "val": 1}, n_frames=6)
    eager, compiled = tmp_path / "eager", tmp_path / "compiled"
    train(recipe(folder), eager, device="cpu")
    train(recipe(folder, compile=True, steps=2), compiled, device="cpu")
    train(recipe(folder, compile=True), compiled, device="cpu")  # goes on
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (eager, compiled)]
    losses = [[{k: v for k, v in line.items() if "loss" in k or k == "grad_norm"} for line in log] for log in logs]
    assert len(losses[0]) == len(losses[1]) == 7  # four steps, two validations, a grid
    for ours, theirs in zip(*losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    for name in ("resume.safetensors", "checkpoints/step-000004.safetensors"):
        tensors = [load_tensors(run / name)[0] for run in (eager, compiled)]
        assert tensors[0].keys() == tensors[1].keys()
        assert all(torch.allclose(tensors[0][key], tensors[1][key], rtol=1e-2, atol=1e-3) for key in tensors[0])
    assert (compiled / "grid-000004.png").exists()


def test_without_a_compiler_it_is_said_before_training_begins(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "c", {"train": 2, "val": 1}, n_frames=6)
    (tmp_path / "recipe.yaml").write_text(recipe_to_yaml(recipe(folder, compile=True)))
    command = [sys.executable, "-m", "dheads_cli", "train", str(tmp_path / "recipe.yaml"), "--device", "cpu"]
    command += ["--run", str(tmp_path / "run")]
    nowhere = {"PATH": str(tmp_path), "CXX": "", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | nowhere, check=False)
    assert done.returncode == 2, done.stderr
    assert "train.compile: torch.compile fails on cpu" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
