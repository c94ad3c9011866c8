"""Training: a resumed run equals an unbroken one byte for byte, and mistakes are told before time is lost."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from corpus import SIZE, make_corpus

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import Parts, build_unet
from dheads_cli.model.checkpoint import find_checkpoint, load_model, load_tensors, save_tensors
from dheads_cli.model.diffusion import cosine_schedule
from dheads_cli.model.timesteps import MIN_SEEN
from dheads_cli.recipe import Recipe
from dheads_cli.run.sample import sample
from dheads_cli.run.train import train
from dheads_cli.run.training_files import save
from dheads_cli.run.training_loop import learning_rate
from dheads_cli.run.training_state import begin_or_resume, fresh_state

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


LOGMEL = {"use": "logmel", "embed_dim": 8}
RECURRENT = {"use": "waveform_gru", "embed_dim": 8, "history_frames": 1}  # has batch norm


def recipe(folder: Path | list[dict], steps: int = 6, *, audio_encoder: dict = LOGMEL, **changes) -> Recipe:
    settings = {
        "steps": steps, "batch_size": 2, "checkpoint_every": 3, "log_every": 2, "sample_every": 0, "threads": 1,
        "motion_noise_max": 0.5, "flip": 0.5, "vlb_weight": 0.01, "precision": "float32", "lr": 1e-3, "lr_final": 0.1,
    }  # fmt: skip
    return Recipe.model_validate({
        "name": "small",
        "data": {"path": folder if isinstance(folder, list) else str(folder)},
        "model": {
            "size": SIZE, "channels": 32, "channel_mult": [1, 1], "n_res_blocks": 1, "head_dim": 32,
            "noised_motion": True, "audio_encoder": audio_encoder,
        },
        "train": {**settings, **changes},
        "sample": {"sampler": {"use": "ddim", "steps": 2}, "motion_noise": 0.2},
    })  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus") / "c", {"train": 4, "val": 2, "test": 3}, n_frames=12)


@pytest.fixture(scope="module")
def unbroken(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    train(recipe(folder), run, device="cpu")
    return run


def bytes_of(run: Path) -> dict[str, bytes]:
    names = ["checkpoints/step-000006.safetensors", "resume.safetensors"]
    return {name: (run / name).read_bytes() for name in names}


def test_a_resumed_run_equals_an_unbroken_one_byte_for_byte(folder, unbroken, tmp_path):
    run = tmp_path / "resumed"
    # Stopped by Ctrl-C after a few steps, in a process of its own; then resumed here.
    config = tmp_path / "recipe.json"
    config.write_text(recipe(folder).model_dump_json())
    program = (
        "import sys; from pathlib import Path; from dheads_cli.recipe import Recipe;"
        "from dheads_cli.run.train import train;"
        "train(Recipe.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), device='cpu')"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(config), str(run)], stderr=subprocess.DEVNULL)
    log = run / "log.jsonl"
    while process.poll() is None and not (log.exists() and log.stat().st_size):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0
    stopped_at = load_tensors(run / "resume.safetensors")[1]["step"]
    assert 2 <= stopped_at <= 6
    train(recipe(folder), run, device="cpu")
    assert bytes_of(run) == bytes_of(unbroken)


def test_a_killed_run_goes_on_from_its_checkpoint_byte_for_byte(folder, unbroken, tmp_path):
    # What SIGKILL in the middle of a write leaves: the state of step 3 and half a temporary file.
    again = tmp_path / "again"
    stop_at_3(folder, again)
    (again / ".resume.safetensors.1.part").write_bytes(b"half a fi")
    train(recipe(folder), again, device="cpu")
    assert bytes_of(again) == bytes_of(unbroken)


@pytest.fixture(scope="module")
def unbroken_recurrent(folder, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "recurrent"
    train(recipe(folder, audio_encoder=RECURRENT), run, device="cpu")
    return run


def test_running_statistics_survive_a_resume_byte_for_byte(folder, unbroken_recurrent, tmp_path):
    run = tmp_path / "resumed"
    stop_at_3(folder, run, audio_encoder=RECURRENT)
    train(recipe(folder, audio_encoder=RECURRENT), run, device="cpu")
    assert bytes_of(run) == bytes_of(unbroken_recurrent)


def test_running_statistics_are_those_of_training_alone(folder, unbroken_recurrent):
    state, _ = load_tensors(unbroken_recurrent / "resume.safetensors")
    counts = [int(tensor) for name, tensor in state.items() if name.endswith("num_batches_tracked")]
    assert counts == [6] * 5  # one a step; validation leaves them alone
    trained = load_model(unbroken_recurrent, torch.device("cpu")).parts.audio_encoder
    mean = "audio_encoder.norms.0.running_mean"
    assert not trained.training
    assert torch.equal(trained.norms[0].running_mean, state[f"ema.{mean}"])  # averaged, as the weights are
    assert not torch.equal(state[f"ema.{mean}"], state[f"buffer.{mean}"])


def test_a_resume_state_without_buffers_is_refused_where_there_are_some(folder, tmp_path):
    run = tmp_path / "old"
    train(recipe(folder, steps=1, audio_encoder=RECURRENT), run, device="cpu")
    tensors, info = load_tensors(run / "resume.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("buffer.")}
    save_tensors(run / "resume.safetensors", kept, info)
    with pytest.raises(DheadsError, match=r"resume\.safetensors: lacks audio_encoder\.norms\.0\.running_mean"):
        train(recipe(folder, steps=2, audio_encoder=RECURRENT), run, device="cpu")


def test_how_steps_were_drawn_survives_a_resume_byte_for_byte(folder, tmp_path):
    runs = tmp_path / "whole", tmp_path / "resumed"
    # 50 bins have 10 losses each after five steps: the last step is drawn by them.
    settings = {"timesteps": "loss_aware", "batch_size": 100}
    stop_at_3(folder, runs[1], **settings)
    for run in runs:
        train(recipe(folder, **settings), run, device="cpu")
    assert bytes_of(runs[0]) == bytes_of(runs[1])
    seen = load_tensors(runs[0] / "resume.safetensors")[0]["timesteps.n_seen"]
    assert seen.sum() == 6 * 100
    assert seen.min() >= MIN_SEEN


def test_a_run_may_go_on_with_steps_drawn_in_another_way(folder, tmp_path):
    run = tmp_path / "run"
    train(recipe(folder, steps=2), run, device="cpu")
    train(recipe(folder, steps=4, timesteps="loss_aware"), run, device="cpu")
    assert load_tensors(run / "resume.safetensors")[0]["timesteps.n_seen"].sum() == 2 * 2  # of steps 3 and 4


NOISY = {"variants": 2, "noise": {"probability": 1.0}, "formants": {}}


def test_augmented_sound_is_the_same_after_a_resume_and_another_than_clean(folder, unbroken, tmp_path):
    runs = tmp_path / "whole", tmp_path / "resumed"
    stop_at_3(folder, runs[1], augment=NOISY)
    for run in runs:
        train(recipe(folder, augment=NOISY), run, device="cpu")
    assert bytes_of(runs[0]) == bytes_of(runs[1])
    augmented, clean = (load_tensors(run / "resume.safetensors")[0] for run in (runs[0], unbroken))
    assert augmented.keys() == clean.keys()
    assert not all(torch.equal(augmented[name], clean[name]) for name in clean)


def test_a_checkpoint_does_not_depend_on_kept_embeddings(folder, tmp_path, capsys):
    settings = recipe(folder, steps=3, batch_size=4, audio_encoder={"use": "whisper"}, augment=NOISY)
    kept = folder / "embeddings"
    kept.write_text("")  # a file stands where the folder would be: as a disk that may not be written
    train(settings, tmp_path / "without", device="cpu")
    assert "embeddings can't be kept there" in capsys.readouterr().err
    kept.unlink()
    for name in ("fills", "reads"):
        train(settings, tmp_path / name, device="cpu")
    assert len(list(kept.rglob("train-000000.safetensors"))) == 3  # clean and two augmented versions
    runs = [(tmp_path / name / "resume.safetensors").read_bytes() for name in ("without", "fills", "reads")]
    assert runs[0] == runs[1] == runs[2]


class Frozen:
    sample_rate, embed_dim, stride_frames, context_frames = 16000, 2, 10, 0


def test_a_resume_state_without_buffers_is_whole_where_there_are_none(folder, tmp_path):
    settings = recipe(folder)

    def parts() -> Parts:
        unet = build_unet(settings.model, registry.build("conditioning", "adagn"), 2)
        return Parts(unet, Frozen(), cosine_schedule(10))

    state = fresh_state(parts(), settings)
    for parameter in state.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    state.step = 1
    save(tmp_path, settings, state, val_loss=1.0)
    assert {name.split(".")[0] for name in load_tensors(tmp_path / "resume.safetensors")[0]} == {
        "raw", "ema", "exp_avg", "exp_avg_sq",
    }  # fmt: skip
    resumed = begin_or_resume(tmp_path, settings, parts(), restart=False)
    assert resumed.step == 1
    assert all(torch.equal(resumed.parameters[name], parameter) for name, parameter in state.parameters.items())


def test_a_run_whose_component_has_changed_does_not_go_on(folder, tmp_path):
    settings = recipe(folder)

    def state_of(audio_dim: int):
        unet = build_unet(settings.model, registry.build("conditioning", "adagn"), audio_dim)
        return fresh_state(Parts(unet, Frozen(), cosine_schedule(10)), settings)

    state = state_of(2)
    for parameter in state.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    save(tmp_path, settings, state, val_loss=1.0)
    with pytest.raises(DheadsError, match=r"of its tensors do not fit its recipe, raw\.unet\."):
        begin_or_resume(tmp_path, settings, state_of(3).parts, restart=False)


def test_the_newest_checkpoints_stay_beyond_a_million_steps(folder, tmp_path):
    settings = recipe(folder, keep_checkpoints=2)
    unet = build_unet(settings.model, registry.build("conditioning", "adagn"), 2)
    state = fresh_state(Parts(unet, Frozen(), cosine_schedule(10)), settings)
    for parameter in state.parameters.values():
        parameter.grad = torch.ones_like(parameter)
    state.optimizer.step()
    for state.step in (999_998, 999_999, 1_000_000):
        save(tmp_path, settings, state, val_loss=1.0)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert kept == ["step-1000000.safetensors", "step-999999.safetensors"]
    assert find_checkpoint(tmp_path).name == "step-1000000.safetensors"


def test_a_recurrent_encoder_is_sampled_with(folder, unbroken_recurrent, tmp_path):
    from dheads_cli.data.samples import read_samples

    out = sample(unbroken_recurrent, split="test", out=tmp_path / "samples", device="cpu")
    assert len(read_samples(out)) == 3


def stop_at_3(folder: Path | list[dict], run: Path, **changes) -> None:
    """Leave what a run killed after its checkpoint at step 3 leaves behind."""
    config = run.parent / "kill.json"
    config.write_text(recipe(folder, **changes).model_dump_json())
    program = (
        "import os, sys, signal; from pathlib import Path; from dheads_cli.recipe import Recipe;"
        "from dheads_cli.run import train as t, training_loop as loop; save = loop.save\n"
        "def save_and_die(*args):\n    save(*args)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "loop.save = save_and_die\n"
        "t.train(Recipe.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]), device='cpu')"
    )
    command = [sys.executable, "-c", program, str(config), str(run)]
    done = subprocess.run(command, stderr=subprocess.DEVNULL, check=False)
    assert done.returncode == -signal.SIGKILL
    assert load_tensors(run / "resume.safetensors")[1]["step"] == 3


def test_the_log_has_losses_speed_and_validation(unbroken):
    lines = [json.loads(line) for line in (unbroken / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 3, 4, 6, 6]
    assert {"loss", "simple", "lip_sync", "vlb", "grad_norm", "samples_per_s", "wait_share"} <= lines[0].keys()
    levels = {name.partition("/")[2] for name in lines[-1] if "/" in name}
    assert levels == {"t_000-249", "t_250-499", "t_500-749", "t_750-999"}  # 128 frames: some in every quarter
    assert lines[-1]["val_loss"] > 0
    assert list((unbroken / "tensorboard").glob("events*"))


def test_the_checkpoint_holds_the_averaged_weights_and_the_recipe(folder, unbroken):
    trained = load_model(unbroken, torch.device("cpu"))
    assert trained.recipe == recipe(folder)
    state, _ = load_tensors(unbroken / "resume.safetensors")
    for name, tensor in trained.parts.unet.named_parameters():
        assert torch.equal(tensor, state[f"ema.unet.{name}"])
    assert any(not torch.equal(state[n], state[f"ema.{n[4:]}"]) for n in state if n.startswith("raw."))


def test_another_recipe_does_not_overwrite_a_run(folder, unbroken):
    with pytest.raises(DheadsError, match=r"another recipe \(train\.lr differ"):
        train(recipe(folder, lr=5e-3), unbroken, device="cpu")


def test_a_run_may_be_made_longer(folder, unbroken, tmp_path):
    run = tmp_path / "longer"
    train(recipe(folder, steps=2), run, device="cpu")
    assert train(recipe(folder, steps=4), run, device="cpu")["step"] == 4


def test_a_sample_grid_is_drawn(folder, tmp_path):
    train(recipe(folder, steps=1, sample_every=1), tmp_path / "run", device="cpu")
    assert (tmp_path / "run" / "grid-000001.png").stat().st_size > 100


def test_a_loss_that_is_not_finite_stops_the_run(folder, tmp_path):
    with pytest.raises(DheadsError, match=r"not finite at step \d+ \(loss nan"):
        train(recipe(folder, steps=50, lr=1e30), tmp_path / "run", device="cpu")


def test_the_learning_rate_warms_up_and_decays(folder):
    settings = recipe(folder, steps=100, lr=1.0, lr_final=0.1, warmup_steps=10)
    rates = [learning_rate(settings, step) for step in (1, 10, 50, 100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert rates[1] == pytest.approx(0.978, rel=0.01)
    assert rates[2] == pytest.approx(0.55)
    assert rates[3] == pytest.approx(0.1)


def test_sampling_writes_clips_that_point_at_their_references(folder, unbroken, tmp_path):
    from dheads_cli.data.media import read_video
    from dheads_cli.data.provenance import read_provenance
    from dheads_cli.data.samples import read_samples

    out = sample(unbroken, split="test", out=tmp_path / "samples", device="cpu")
    rows = read_samples(out)
    assert len(rows) == 3
    for row in rows:
        assert row.clip_id == row.audio_clip_id
        assert read_video(out / row.file, 25).frames.shape == (12, SIZE, SIZE, 3)
        made = read_provenance(out / row.file)
        assert made is not None
        assert made.seed == row.seed
    again = sample(unbroken, split="test", out=tmp_path / "again", device="cpu")
    for row in rows:
        assert (out / row.file).read_bytes() == (again / row.file).read_bytes()
    with pytest.raises(DheadsError, match="holds samples already"):
        sample(unbroken, split="test", out=out, device="cpu")


def test_sampling_goes_on_after_the_last_whole_batch_to_the_same_bytes(folder, unbroken, tmp_path):
    from dheads_cli.data.samples import read_samples

    sets = ["sample.batch_size=1"]
    whole = sample(unbroken, split="test", out=tmp_path / "whole", device="cpu", sets=sets)
    rows = read_samples(whole)
    broken = tmp_path / "broken"
    (broken / rows[-1].file).mkdir(parents=True)  # no video can be written there
    (broken / f".{rows[0].file}.1.part").touch()
    with pytest.raises(DheadsError, match=r"can't be written|is a folder"):
        sample(unbroken, split="test", out=broken, device="cpu", sets=sets)
    assert not list(broken.glob(".*.part"))
    (broken / rows[-1].file).rmdir()
    (broken / rows[1].file).unlink()
    first = (broken / rows[0].file).stat().st_mtime_ns
    sample(unbroken, split="test", out=broken, device="cpu", sets=sets)
    assert (broken / rows[0].file).stat().st_mtime_ns == first
    assert sorted(path.name for path in broken.iterdir()) == sorted(path.name for path in whole.iterdir())
    for name in ("samples.jsonl", *(row.file for row in rows)):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()


def test_sampling_with_other_settings_begins_anew(folder, unbroken, tmp_path):
    from dheads_cli.data.samples import read_samples

    plain = sample(unbroken, split="test", out=tmp_path / "plain", device="cpu")
    rows = read_samples(plain)
    (tmp_path / "broken" / rows[-1].file).mkdir(parents=True)
    with pytest.raises(DheadsError):
        sample(unbroken, split="test", out=tmp_path / "broken", device="cpu", seed=5, sets=["sample.batch_size=1"])
    (tmp_path / "broken" / rows[-1].file).rmdir()
    sample(unbroken, split="test", out=tmp_path / "broken", device="cpu")
    for row in rows:
        assert (tmp_path / "broken" / row.file).read_bytes() == (plain / row.file).read_bytes()


def test_a_model_trained_with_dropped_conditions_is_guided_and_repeats_itself(folder, tmp_path):
    dropping = recipe(folder, steps=2, audio_drop=0.5, identity_drop=0.5, motion_drop=0.5)
    train(dropping, tmp_path / "run", device="cpu")
    scales = [f"sample.guidance.{condition}=2" for condition in ("audio", "identity", "motion")]
    made = [
        sample(tmp_path / "run", split="val", limit=1, out=tmp_path / name, device="cpu", sets=sets)
        for name, sets in (("guided", scales), ("again", scales), ("plain", []))
    ]
    guided, again, plain = (next(folder.glob("*.mp4")).read_bytes() for folder in made)
    assert guided == again != plain
    assert "audio: 2.0" in (made[0] / "sample.yaml").read_text()


def test_shuffled_clips_have_another_clips_sound(folder, unbroken, tmp_path):
    from dheads_cli.data.samples import read_samples

    with pytest.raises(DheadsError, match="at least two clips of each speaker"):
        sample(unbroken, split="test", shuffled=True, out=tmp_path / "none", device="cpu")
    out = sample(unbroken, split="train", shuffled=True, out=tmp_path / "samples", device="cpu")
    rows = [row for row in read_samples(out) if row.kind == "shuffled"]
    assert len(rows) == 4
    assert all(row.audio_clip_id != row.clip_id for row in rows)
