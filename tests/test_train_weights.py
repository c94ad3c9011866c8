"""Fine-tuning: training begins with another model's weights, and says which of them does not fit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from commands import dheads
from corpus import SIZE, make_corpus

from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import find_checkpoint, load_tensors
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_io import recipe_to_yaml
from dheads_cli.run.train import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

RECURRENT = {"use": "waveform_gru", "embed_dim": 8, "history_frames": 1}  # has batch norm


def recipe(
    folder: Path, *, channels: int = 32, encoder: Any = RECURRENT, dropout: float = 0.1, **changes: Any
) -> Recipe:
    settings = {
        "steps": 2, "batch_size": 2, "log_every": 1, "sample_every": 0, "threads": 1, "precision": "float32",
        "lr": 1e-3, "vlb_weight": 0.01, "ema_decay": 0.5,
    }  # fmt: skip
    model = {"size": SIZE, "patch_size": 4, "channel_mult": [1], "n_res_blocks": 1, "head_dim": 32, "dropout": dropout}
    return Recipe.model_validate({
        "name": "small", "data": {"path": str(folder)},
        "model": {**model, "channels": channels, "audio_encoder": encoder},
        "train": {**settings, **changes},
    })  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "c", {"train": 2, "val": 1}, n_frames=8)


@pytest.fixture(scope="module")
def learned(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "learned"
    train(recipe(folder), run, device="cpu")
    return run


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_tensors(find_checkpoint(run))[0]


def test_training_begins_with_the_averaged_weights_of_another_run(folder: Path, learned: Path, tmp_path: Path) -> None:
    train(recipe(folder, weights=str(learned), lr=1e-30, steps=1), tmp_path / "run", device="cpu")
    tensors, _ = load_tensors(tmp_path / "run/resume.safetensors")
    raw, before = {name[4:]: each for name, each in tensors.items() if name.startswith("raw.")}, weights_of(learned)
    assert {name.split(".")[0] for name in raw} == {"unet", "audio_encoder"}
    assert max((each - before[name]).abs().max().item() for name, each in raw.items()) < 1e-20
    trained, _ = load_tensors(learned / "resume.safetensors")
    assert not all(torch.equal(each, trained[f"raw.{name}"]) for name, each in raw.items())


def test_a_fine_tuned_run_goes_on_without_the_weights_it_began_with(
    folder: Path, learned: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(find_checkpoint(learned).read_bytes())
    for name, steps in (("unbroken", 3), ("resumed", 2)):
        train(recipe(folder, weights=str(weights), steps=steps), tmp_path / name, device="cpu")
    weights.unlink()
    train(recipe(folder, weights=str(weights), steps=3), tmp_path / "resumed", device="cpu")
    runs = [(tmp_path / name / "resume.safetensors").read_bytes() for name in ("unbroken", "resumed")]
    assert runs[0] == runs[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 64}, r"unet\.audio_embed\.\S+ does not fit: \[\d+.*\] there and \[\d+.*\] in the recipe's model"),
        ({"encoder": {"use": "logmel", "embed_dim": 8}}, r"audio_encoder\.\S+ does not fit: .*absent"),
        ({"encoder": "whisper"}, r"audio_encoder\.\S+ does not fit: .* there and absent in the recipe's model"),
    ],
)
def test_the_first_tensor_that_does_not_fit_is_named(
    folder: Path, learned: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(DheadsError, match=message):
        train(recipe(folder, weights=str(learned), **changes), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_what_the_other_model_was_made_for_is_told(
    folder: Path, learned: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(recipe(folder, weights=str(learned), dropout=0.3, steps=1), tmp_path / "run", device="cpu")
    assert "step-000002.safetensors, whose recipe has another model.dropout" in capsys.readouterr().err


def test_a_frozen_encoder_may_come_with_the_weights(folder: Path, learned: Path, tmp_path: Path) -> None:
    train(recipe(folder, weights=str(learned), freeze_audio_encoder=True), tmp_path / "run", device="cpu")
    now, before = weights_of(tmp_path / "run"), weights_of(learned)
    assert all(torch.equal(now[name], before[name]) for name in before if name.startswith("audio_encoder."))
    assert not all(torch.equal(now[name], before[name]) for name in before)


def test_recipe_check_tries_the_weights(folder: Path, learned: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe_to_yaml(recipe(folder, weights=str(learned))))
    assert "step-000002.safetensors fits" in dheads("recipe", "check", path, "--device", "cpu").stdout
    wrong = dheads("recipe", "check", path, "--device", "cpu", "--set", "model.channels=64")
    assert (wrong.code, "does not fit" in wrong.stderr) == (2, True)


def test_the_shipped_model_is_fine_tuned(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "c", {"train": 1, "val": 1}, n_frames=6, size=64)
    sets = ["train.weights=tiny", f"data.path={folder}", "train.steps=1", "train.batch_size=2", "train.threads=1"]
    words = [word for each in sets for word in ("--set", each)]
    ended = dheads("train", "tiny", "--run", tmp_path / "run", "--device", "cpu", *words)
    assert ended.code == 0, ended.stderr
    # The first step is one of warm-up, at 1/200 of the learning rate.
    now, before = weights_of(tmp_path / "run"), load_tensors(find_checkpoint("tiny"))[0]
    assert now.keys() == before.keys()
    assert max((now[name] - before[name].float()).abs().max().item() for name in now) < 1e-5
