"""Components of other packages, as a user meets them: installed, named in a recipe, in a process of their own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from distributions import install

PLUGIN = Path(__file__).parent / "data" / "plugin"

MODEL = "model: {size: 32, channels: 32, channel_mult: [1], n_res_blocks: 1, head_dim: 32"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the README's plugin is installed from source, and two that do not behave."""
    folder = tmp_path_factory.mktemp("plugins")
    source, site = folder / "source", folder / "site"
    shutil.copytree(PLUGIN, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(source)], check=True)
    install(site, "dheads-broken", "0.3", {"samplers/broken": "broken_module:Sampler"}, {"broken_module": "1 / 0\n"})
    install(site, "dheads-loud-too", "2.0", {"metrics/mouth": "loud_too:Mouth"}, {})
    return site


def run(site: Path, folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with the plugins installed."""
    env = {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], cwd=folder, env=env, capture_output=True, text=True, timeout=120)


def dheads(site: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return run(site, folder, "-m", "dheads_cli", *words)


def test_a_recipe_uses_another_package_s_components(site: Path, tmp_path: Path) -> None:
    (tmp_path / "loud.yaml").write_text(
        f"name: loud\n{MODEL}, audio_encoder: loudness}}\nsample: {{sampler: {{use: one-step, clip: 0.5}}}}\n"
        "evaluate: {metrics: [lmd]}\ntrain: {batch_size: 1}\n"
    )
    checked = dheads(site, tmp_path, "recipe", "check", "loud.yaml", "--json")
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["components"]["model.audio_encoder"] == "loudness"


def test_another_package_s_components_make_frames_from_sound(site: Path, tmp_path: Path) -> None:
    (tmp_path / "loud.yaml").write_text(
        f"name: loud\n{MODEL}, audio_encoder: loudness}}\nsample: {{sampler: {{use: one-step, clip: 0.5}}}}\n"
    )
    script = """
import torch
from dheads_cli import registry
from dheads_cli.conformance import assert_conforms
from dheads_cli.model.build import build_model
from dheads_cli.model.generate import Continuity, NoiseStreams, generate
from dheads_cli.model.speech import audio_windows, encode_speech
from dheads_cli.recipe_io import load_recipe

recipe = load_recipe("loud.yaml").recipe
parts = build_model(recipe.model)
sampler = registry.build("samplers", recipe.sample.sampler.use, recipe.sample.sampler.options)
assert_conforms("audio_encoders", parts.audio_encoder)
assert_conforms("samplers", registry.build("samplers", "one-step"))
speech = encode_speech(parts.audio_encoder, torch.rand(3 * 640) - 0.5, 3, 25.0)
noise = NoiseStreams([0], torch.device("cpu"))
windows = audio_windows(speech[None], recipe.model.audio_context)
frames = list(
    generate(
        parts.unet.eval(), parts.schedule, sampler, recipe.model.prediction, torch.zeros(1, 3, 32, 32), windows,
        continuity=Continuity(), noise=noise,
    )
)
print([tuple(frame.shape) for frame in frames], max(float(frame.abs().max()) for frame in frames) <= 0.5)
"""
    made = run(site, tmp_path, "-c", script)
    assert made.stdout == "[(1, 3, 32, 32), (1, 3, 32, 32), (1, 3, 32, 32)] True\n", made.stderr


def test_only_the_recipe_that_names_a_broken_plugin_fails(site: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: x\nsample: {sampler: {use: broken, steps: 3}}\n")
    (tmp_path / "y.yaml").write_text("name: y\nsample: {sampler: one-step}\n")
    failed = dheads(site, tmp_path, "recipe", "show", "x.yaml")
    assert failed.returncode == 2
    assert failed.stderr == (
        "error: x.yaml:2:25: sample.sampler: sampler 'broken' of dheads-broken 0.3 (broken_module:Sampler) "
        "can't be imported: ZeroDivisionError: division by zero\n"
    )
    assert dheads(site, tmp_path, "recipe", "show", "y.yaml").returncode == 0


def test_a_name_that_two_packages_claim_is_refused_where_it_is_used(site: Path, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("name: x\nevaluate: {metrics: [lmd, mouth]}\n")
    failed = dheads(site, tmp_path, "recipe", "show", "x.yaml")
    assert failed.returncode == 2
    assert "x.yaml:2:27: evaluate.metrics[1]: metric 'mouth' is registered by " in failed.stderr
    assert "dheads-loud-too 2.0 (loud_too:Mouth)" in failed.stderr
    assert "dheads_components.metrics.mouth:Mouth" in failed.stderr


def test_the_list_shows_everything_and_what_is_broken(site: Path, tmp_path: Path) -> None:
    listed = dheads(site, tmp_path, "components", "--json")
    assert listed.returncode == 0, listed.stderr
    rows = json.loads(listed.stdout)
    by_name = {(row["kind"], row["name"], row["package"]): row for row in rows}
    assert by_name["samplers", "one-step", "dheads-loud"]["options"] == {"clip": 1.0}
    assert by_name["samplers", "ddim", "dheads"]["error"] is None
    assert by_name["samplers", "broken", "dheads-broken"]["error"].endswith("ZeroDivisionError: division by zero")
    assert "is registered by" in by_name["metrics", "mouth", "dheads-loud-too"]["error"]


def test_checking_runs_the_conformance_kit_and_fails_for_the_broken(site: Path, tmp_path: Path) -> None:
    checked = dheads(site, tmp_path, "components", "--kind", "samplers", "--check", "--quiet")
    assert checked.returncode == 2
    assert checked.stderr == "error: 1 of 7 components fail: broken; the table says why\n"
    rows = [line.split() for line in checked.stdout.splitlines()]
    assert ["samplers", "one-step", "dheads-loud", "1.0", "clip=1.0", "passes"] in rows
