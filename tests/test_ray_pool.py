"""`dheads preprocess --executor ray` on a cluster of two nodes, one of which is killed."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import dheads

from dheads_cli.data import media
from dheads_cli.data.corpora import ClipSource
from dheads_cli.data.manifest import read_manifest
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.recipe import Preprocess
from dheads_cli.run.preprocess import preprocess
from dheads_cli.run.preprocess_clip import Outcome
from dheads_cli.run.ray_pool import process_all

GRID = Path(__file__).parent / "data/grid"
N_CLIPS = 6
SETTINGS = Preprocess(size=64, test_fraction=0, val_fraction=0, clips_per_shard=3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes with one CPU each; `second` is the one without the head."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # nodes find the functions of this file
    pytest.importorskip("ray", reason="Ray is not installed (the extra dheads[cluster])")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20}
    # A node that does not answer for two seconds is dead: no test waits longer for it.
    config = {"health_check_period_ms": 500, "health_check_failure_threshold": 4}
    cluster = Cluster(True, head_node_args={**node, "include_dashboard": False, "_system_config": config})
    cluster.second = cluster.add_node(**node)
    yield cluster
    cluster.shutdown()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The beginnings of two real clips in turns, and a damaged one."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(N_CLIPS):
        speaker, name = (("s1", "bbaf2n"), ("s2", "bbaf1n"))[number % 2]
        source, n_frames = GRID / speaker / f"{name}.mp4", 16 + number
        sound = media.read_audio(source, 16000)[: n_frames * 640]
        with media.VideoWriter(folder / f"clip{number}.mp4", 25, (360, 288), sound) as writer:
            for frame in media.read_video(source, 25).frames[:n_frames]:
                writer.write(frame)
    (folder / "damaged.mp4").write_bytes((folder / "clip0.mp4").read_bytes()[:9000])
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def n_lines(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob(".parts/*.begun"))


@pytest.mark.slow
def test_workers_and_a_cluster_that_loses_a_node_write_the_same_bytes(
    cluster: Any, corpus: Path, tmp_path: Path
) -> None:
    def lose_a_node() -> None:
        until = time.monotonic() + 120
        while n_lines(tmp_path / "ray") < 2 and time.monotonic() < until:
            time.sleep(0.01)
        cluster.remove_node(cluster.second, allow_graceful=False)
        lost.set()

    lost = threading.Event()
    preprocess(corpus, tmp_path / "local", SETTINGS.model_copy(update={"workers": 2}))
    killer = threading.Thread(target=lose_a_node)
    killer.start()
    recipe = tmp_path / "small.yaml"
    recipe.write_text(yaml.safe_dump({"name": "small", "preprocess": SETTINGS.model_dump()}))
    where = ("--executor", "ray", "--address", cluster.address)
    ended = dheads("preprocess", corpus, "-o", tmp_path / "ray", "--recipe", recipe, "--json", *where)
    killer.join()
    assert (ended.code, lost.is_set()) == (0, True), ended.stderr
    assert f'"clips": {N_CLIPS}' in ended.stdout
    assert "raylet" not in ended.stdout + ended.stderr
    rows = read_manifest(tmp_path / "ray")
    assert sorted(row.id for row in rows) == sorted([*(f"clip{number}" for number in range(N_CLIPS)), "damaged"])
    assert contents(tmp_path / "local") == contents(tmp_path / "ray")


def work(clip: ClipSource) -> Outcome:
    """The clip's name; but one kills its process, and one never ends."""
    if clip.id == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if clip.id == "hang":
        ctypes.CDLL(None).sleep(3600)
    return {"json": clip.id.encode()}


def no_versions() -> dict[str, str]:
    return {}


def names(outcomes: Iterator[Outcome]) -> list[str]:
    return [str(each) if isinstance(each, UnusableClip) else each["json"].decode() for each in outcomes]


@pytest.mark.slow
def test_crashing_and_hanging_clips_are_told_as_on_one_machine(cluster: Any, tmp_path: Path) -> None:
    video = shutil.copy(GRID / "s1/bbaf2n.mp4", tmp_path)
    clips = [ClipSource(name, Path(video), "s1", "") for name in ("a", "crash", "b", "hang", "c")]
    assert names(process_all(work, clips, cluster.address, 2.0, no_versions)) == [
        "a", "crashed: the process that worked on it was killed", "b", "hung: not done after 2 s", "c",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_node_that_does_not_see_the_corpus_is_named(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # nodes were started in another folder: this path is not theirs
    (tmp_path / "a.mp4").touch()
    with pytest.raises(DheadsError, match=r"Ray's node .* does not see a\.mp4: the corpus has to lie on a path that"):
        list(process_all(work, [ClipSource("a", Path("a.mp4"), "s1", "")], cluster.address, 60.0, no_versions))


def process_versions() -> dict[str, str]:
    return {"dheads": str(os.getpid())}


@pytest.mark.slow
def test_a_node_with_other_versions_is_named(cluster: Any) -> None:
    clip = ClipSource("a", GRID / "s1/bbaf2n.mp4", "s1", "")
    with pytest.raises(DheadsError, match=rf"Ray's node .* has dheads \d+ \(here {os.getpid()}\); install the same"):
        list(process_all(work, [clip], cluster.address, 60.0, process_versions))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    any_speaker = ("--set", "preprocess.test_speakers=[]")
    ended = dheads("preprocess", GRID, "-o", tmp_path / "out", "--executor", "ray", *any_speaker)
    assert ended.code == 2
    assert 'needs Ray: install it with `pip install "dheads[cluster]"`' in ended.stderr


def test_an_address_where_no_cluster_is_says_so() -> None:
    pytest.importorskip("ray", reason="Ray is not installed (the extra dheads[cluster])")
    with pytest.raises(DheadsError, match=r"no Ray cluster can be used at 127\.0\.0\.1:9"):
        list(process_all(work, [], "127.0.0.1:9", 60.0, no_versions))
