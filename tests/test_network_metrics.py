"""FID, FVD and LPIPS, as far as they go without the published weights; and what is said where these are missing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import FakeClip
from commands import dheads
from network_weights import alexnet_file, i3d_file, inception_file
from safetensors.torch import save_file
from sample_folder import write_film

from dheads_cli import downloads, trust
from dheads_cli.conformance import assert_conforms
from dheads_cli.conformance.metrics import talking_clip
from dheads_cli.errors import DheadsError
from dheads_cli.files import sha256_of
from dheads_cli.protocols import MetricInParts
from dheads_cli.recipe_section import Component
from dheads_cli.run.doctor_metrics import metric_networks
from dheads_cli.run.eval_paper import paper_metrics, with_weights
from dheads_components.metrics.fid import FID, INCEPTION
from dheads_components.metrics.fvd import FVD, I3D
from dheads_components.metrics.lpips import ALEXNET, LPIPS
from dheads_components.metrics.network_files import find, read_tensors

pytestmark = pytest.mark.filterwarnings(r"ignore:`torch\.jit:DeprecationWarning")


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """dheads' cache in a home of its own, and nothing to be fetched; no trust is left over."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "home" / ".cache" / "dheads"
    folder.mkdir(parents=True)
    with downloads.none():
        yield folder
    trust.allow(False)


# Files


@pytest.mark.parametrize("file", [INCEPTION, I3D, ALEXNET], ids=lambda file: file.metric)
def test_a_missing_file_is_told_with_all_it_takes_to_get_it(file) -> None:
    with pytest.raises(DheadsError) as caught:
        find(file, None)
    told = str(caught.value)
    for part in (file.names[0], file.url, f"{file.size_mb} MB", "~/.cache/dheads", f"--weights {file.metric}=FILE"):
        assert part in told
    assert ("--trust" in told) == (file.metric == "fvd")
    assert "\n" not in told


def test_a_file_that_may_not_be_opened_is_not_fetched() -> None:
    downloads.settings.allowed = True  # until the fixture ends
    with pytest.raises(DheadsError, match="which is not here"):  # not "can't be fetched": nothing was tried
        find(I3D, None)


@pytest.mark.parametrize("place", ["dheads", "torch/hub/checkpoints"])
def test_a_cache_must_hold_the_published_file(caches: Path, place: str) -> None:
    cached = caches.parent / place / INCEPTION.names[0]
    cached.parent.mkdir(parents=True, exist_ok=True)
    cached.write_bytes(b"another")
    with pytest.raises(DheadsError, match=f"{INCEPTION.names[0]} is not Inception.*sha256 is {sha256_of(cached)}, not"):
        find(INCEPTION, None)


def test_a_file_that_would_run_something_runs_nothing(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "harmed"),)

    path = tmp_path / "harm.pth"
    torch.save({"weight": torch.zeros(1), "more": Harm()}, path)
    assert list(read_tensors(find(INCEPTION, str(path)), INCEPTION)) == ["weight"]
    assert not (tmp_path / "harmed").exists()


def test_a_file_that_is_not_the_one_whose_checksum_was_taken_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    found = find(INCEPTION, str(path))
    torch.save({"weight": torch.ones(1)}, path)
    with pytest.raises(DheadsError, match="changed while it was read"):
        read_tensors(found, INCEPTION)


def test_conversions_to_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(1)}, tmp_path / "x.safetensors")
    found = read_tensors(find(INCEPTION, str(tmp_path / "x.safetensors")), INCEPTION)
    assert torch.equal(found["weight"], torch.ones(1))


@pytest.mark.parametrize("build", [FID, LPIPS])
def test_a_file_of_another_network_is_refused(tmp_path: Path, build) -> None:
    pytest.importorskip("torch_fidelity")
    pytest.importorskip("lpips")
    path = tmp_path / "other.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    with pytest.raises(DheadsError, match=r"other\.pth: not weights of"):
        build(weights=str(path))


# Inception


def test_inception_with_other_weights_gives_a_distance_that_is_not_called_fid(tmp_path: Path) -> None:
    file = str(inception_file(tmp_path))
    metric = FID(weights=file, stride=10)
    assert isinstance(metric, MetricInParts)
    metric.add(metric.measure(talking_clip("bb"), talking_clip("a")))
    values = metric.compute()
    assert set(values) == {"Inception FD", "Inception FD frames"}
    assert values["Inception FD frames"] == 2
    assert values["Inception FD"] > 0.01
    assert f"NOT the published {INCEPTION.network}" in metric.weights
    assert sha256_of(Path(file))[:12] in metric.weights
    assert "every 10. frame" in metric.weights


# I3D


def test_fvd_keeps_the_contract(tmp_path: Path) -> None:
    trust.allow()
    metric = FVD(weights=str(i3d_file(tmp_path)))
    assert isinstance(metric, MetricInParts)
    assert_conforms("metrics", metric)


def test_fvd_is_of_pieces_and_a_short_clip_is_left_out(tmp_path: Path) -> None:
    trust.allow()
    metric, rng = FVD(weights=str(i3d_file(tmp_path)), length=20), np.random.RandomState(0)
    clip, other, short = (
        FakeClip(frames=rng.randint(0, 256, (n, 32, 32, 3)).astype(np.uint8)) for n in (75, 75, 19)
    )  # fmt: skip
    metric.update(clip, clip)
    assert "shorter than 20 frames" in str(metric.update(short, short)["FVD note"])
    assert metric.compute() == {"I3D FD": pytest.approx(0, abs=1e-6), "I3D FD pieces": 3}
    metric.update(clip, other)
    assert metric.compute()["I3D FD"] > 1e-6
    assert "pieces of 20 frames" in metric.weights
    with pytest.raises(ValueError, match="at least 16"):
        FVD(length=15)


def test_fvd_opens_its_file_only_when_trusted_and_only_if_it_answers_as_i3d_does(tmp_path: Path) -> None:
    file = i3d_file(tmp_path)
    with pytest.raises(trust.Untrusted, match="add --trust"):
        FVD(weights=str(file))
    trust.allow()
    double = tmp_path / "double.pt"
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(double))  # type: ignore[no-untyped-call]
    with pytest.raises(DheadsError, match=r"double\.pt: does not take video as I3D"):
        FVD(weights=str(double))


# AlexNet


def test_lpips_keeps_the_contract_and_equal_frames_are_at_no_distance(tmp_path: Path) -> None:
    metric = LPIPS(weights=str(alexnet_file(tmp_path)))
    assert isinstance(metric, MetricInParts)
    assert_conforms("metrics", metric)
    real = talking_clip("a", 2)
    near, far = (FakeClip(frames=(real.frames // n).astype(np.uint8)) for n in (2, 4))
    values = [metric.update(clip, real)["AlexNet distance"] for clip in (real, near, far)]
    assert values[0] == 0
    assert values[0] < values[1] < values[2]
    assert "heads v0.1 of lpips 0.1.4 sha256 df73285e35b2" in metric.weights


# The command


def test_eval_takes_the_file_and_the_trust_and_names_both_in_the_report(tmp_path: Path) -> None:
    for folder, levels in (("real", range(0, 200, 5)), ("ours", range(20, 220, 5))):
        write_film(tmp_path / folder / "a.mp4", list(levels))
    file, ours, real = i3d_file(tmp_path), tmp_path / "ours", tmp_path / "real"
    words = ("eval", ours, "--reference", real, "--metrics", "fvd,mse", "--weights", f"fvd={file}")
    untrusted = dheads(*words)
    assert untrusted.code == 2
    assert "add --trust" in untrusted.stderr
    without = dheads(*words[:6])
    assert without.code == 2
    assert "which is not here" in without.stderr
    assert "Or `--metrics frechet`" in without.stderr
    assert not (ours / "eval.json").exists()
    ended = dheads(*words, "--trust")
    assert ended.code == 0, ended.stderr
    report = json.loads((ours / "eval.json").read_text())
    there = dheads(*words, "--trust", "--workers", "2")  # the file is opened in another process
    assert there.code == 0, there.stderr
    assert json.loads((ours / "eval.json").read_text()) == report
    fvd = next(metric for metric in report["metrics"] if metric["use"] == "fvd")
    assert sha256_of(file)[:12] in fvd["weights"]
    assert report["rows"]["generated"]["values"]["I3D FD pieces"] == 2
    assert report["rows"]["ground truth"]["values"]["I3D FD"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("fid", "write it as METRIC=FILE"),
        ("lpips=x.pth", "no metric lpips is asked for"),
        ("mse=x.pth", "mse has no option 'weights'"),
    ],
)
def test_files_for_other_metrics_are_refused(given: str, told: str) -> None:
    ended = dheads("eval", "nowhere", "--metrics", "mse,fid", "--weights", given)
    assert ended.code == 2
    assert told in ended.stderr


def test_a_file_goes_to_its_metric_alone() -> None:
    metrics = [Component(use="fid", stride=5), Component(use="mse")]
    assert with_weights(metrics, {"fid": "x"}) == [Component(use="fid", stride=5, weights="x"), metrics[1]]


def test_what_stands_in_for_a_missing_network_has_its_own_name() -> None:
    choice = paper_metrics()
    assert INCEPTION.url in choice.missing["fid"] or "torch-fidelity" in choice.missing["fid"]
    if "frechet" in {metric.use for metric in choice.metrics}:
        assert choice.missing["fid"].endswith("single frames; it is no fid")
        assert "In its place: frechet" in choice.missing["fvd"]
    else:
        assert "frechet could stand in, but" in choice.missing["fid"]
    assert sum(metric.use == "frechet" for metric in choice.metrics) <= 1


def test_doctor_tells_networks_that_are_here_and_how_the_others_are_had(caches: Path) -> None:
    rows = {name: (found, remedy) for name, found, remedy in metric_networks()}
    assert {"metric fid", "metric fvd", "metric lpips", "metric csim"} <= set(rows)
    assert "metric mse" not in rows  # which looks with no network
    assert rows["metric fvd"][1].startswith(f"needs {I3D.names[0]}")
    assert I3D.url in rows["metric fvd"][1]
    assert "sync-grid" in rows["metric sync"][0]
    assert "`dheads eval --metrics '{use: sync, network: syncnet}'` fetches it" in rows["metric sync, the paper's"][1]
