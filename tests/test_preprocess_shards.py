"""Writing the shards of a corpus: whatever moment it is killed at, the next call ends in the same bytes."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Generator, Sequence
from functools import partial
from pathlib import Path

import pytest
from killed import killed_at

from dheads_cli.data.corpora import ClipSource
from dheads_cli.data.manifest import MANIFEST, SETTINGS, read_manifest
from dheads_cli.data.stored_clip import EXTENSIONS
from dheads_cli.errors import DheadsError, UnusableClip
from dheads_cli.run.preprocess_clip import Outcome
from dheads_cli.run.preprocess_folder import prepare
from dheads_cli.run.preprocess_shards import PARTS, Process, plan_shards, write_shards
from dheads_cli.run.preprocess_verify import clips_digest, verify

CORPUS = Path("/corpus")
SPLITS = ["train", "train", "train", "train", "val", "test"]
CLIPS = [
    ClipSource(f"clip{number}", CORPUS / f"clip{number}.mp4", "s1", "", f"clip{number}", split=split)
    for number, split in enumerate(SPLITS)
]
RECORD = {"clips": len(CLIPS), "clips_sha256": clips_digest([(clip.split, clip.id) for clip in CLIPS]), "settings": {}}
worked: list[str] = []


def process(clips: Sequence[ClipSource]) -> Generator[Outcome]:
    """Made-up samples; the second clip and the only one of `val` can't be used."""
    for clip in clips:
        worked.append(clip.id)
        if clip.id in ("clip1", "clip4"):
            yield UnusableClip("damaged", f"{clip.video}: made up")
        else:
            sample = {extension: f"{clip.id}'s {extension}".encode() * 300 for extension in EXTENSIONS}
            yield sample | {"json": b'{"n_frames": 2, "quality": {"face_height_px": 9}}'}


def write(out: Path, process: Process = process) -> list[str]:
    """Write the corpus; the ids of the clips that had to be worked on."""
    worked.clear()
    out.mkdir(exist_ok=True)
    prepare(out, RECORD, overwrite=False)
    write_shards(CORPUS, out, plan_shards(CLIPS, clips_per_shard=2), process)
    return list(worked)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.iterdir()}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "out"
    assert write(out) == [clip.id for clip in plan_order()]
    return out


def plan_order() -> list[ClipSource]:
    return [clip for shard in plan_shards(CLIPS, 2) for clip in shard.clips]


def test_killed_before_any_operation_on_its_files_it_goes_on_to_the_same_bytes(done: Path, tmp_path: Path) -> None:
    n_operations = 0
    while killed_at(out := tmp_path / str(n_operations), n_operations, partial(write, out)):
        left = sorted(str(path.relative_to(out)) for path in out.rglob("*")) if out.exists() else []
        write(out)
        assert contents(out) == contents(done), f"killed at operation {n_operations}, which left {left}"
        n_operations += 1
    assert contents(out) == contents(done)
    assert n_operations > 50


def test_a_killed_clearing_away_leaves_nothing_that_is_taken_for_done(done: Path, tmp_path: Path) -> None:
    other = RECORD | {"settings": {"size": 32}}
    for n_operations in itertools.count():
        out = shutil.copytree(done, tmp_path / str(n_operations))
        if not killed_at(out, n_operations, partial(prepare, out, other, overwrite=True)):
            break
        write(out)  # by the settings of before, which are still those of the record
        assert contents(out) == contents(done)
    assert n_operations > 4


def test_overwrite_makes_a_finished_corpus_anew(done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    prepare(out, RECORD, overwrite=True)
    assert sorted(write(out)) == sorted(clip.id for clip in CLIPS)
    assert contents(out) == contents(done)


def test_overwrite_goes_on_with_what_is_being_made(done: Path, interrupted: Path) -> None:
    prepare(interrupted, RECORD, overwrite=True)
    assert len(write(interrupted)) == 2
    assert contents(interrupted) == contents(done)


def test_other_versions_of_what_makes_the_bytes_are_named(done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    with pytest.raises(DheadsError, match=r"was made with other settings \(size\) and versions \(av\)"):
        prepare(out, RECORD | {"settings": {"size": 32}, "packages": {"av": "18.0"}}, overwrite=False)


@pytest.fixture
def interrupted(tmp_path: Path) -> Path:
    """The corpus as Ctrl-C leaves it in the middle of a shard, after clip5, clip0, clip1 and clip2."""

    def four(clips: Sequence[ClipSource]) -> Generator[Outcome]:
        yield from itertools.islice(process(clips), 4)
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        write(out, four)
    return out


def test_no_clip_that_has_a_row_is_worked_on_again(done: Path, interrupted: Path) -> None:
    assert write(interrupted) == ["clip3", "clip4"]
    assert contents(interrupted) == contents(done)


def test_what_a_kill_has_cut_short_is_made_again(done: Path, interrupted: Path) -> None:
    with (interrupted / PARTS / "train-000001.tar.begun").open("ab") as journal:
        journal.write(b'{"id": "cl')
    with (interrupted / "train-000001.tar.part").open("ab") as shard:
        shard.write(b"half a clip")
    assert write(interrupted) == ["clip3", "clip4"]
    assert contents(interrupted) == contents(done)


def test_clips_whose_bytes_a_loss_of_power_took_are_made_again(done: Path, interrupted: Path) -> None:
    part = interrupted / "train-000001.tar.part"
    part.write_bytes(bytes(part.stat().st_size))
    assert write(interrupted) == ["clip2", "clip3", "clip4"]
    assert contents(interrupted) == contents(done)


@pytest.mark.parametrize("damage", ["missing", "longer", "rows", "unreadable"])
def test_what_a_finished_corpus_lacks_is_made_again(done: Path, tmp_path: Path, damage: str) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    shard, manifest = out / "train-000001.tar", out / MANIFEST
    if damage == "missing":
        shard.unlink()
    elif damage == "longer":
        shard.write_bytes(shard.read_bytes() + b"more")
    elif damage == "rows":
        manifest.write_text("".join(line for line in manifest.open() if '"clip2"' not in line))
    else:
        manifest.write_text(manifest.read_text()[:-20])
    again = write(out)
    assert set(again) == ({clip.id for clip in CLIPS} if damage == "unreadable" else {"clip2", "clip3"})
    assert contents(out) == contents(done)


def test_the_manifest_does_not_say_where_the_corpus_lies(done: Path) -> None:
    row = next(row for row in read_manifest(done) if row.id == "clip1")
    assert row.detail == "clip1.mp4: made up"


def test_verify_knows_a_whole_corpus(done: Path) -> None:
    assert verify(done) == {"out": str(done), "clips": 4, "damaged": 0}


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a clip": (
        lambda out: flip(out / "train-000001.tar", 600),
        r"1 of 4 clips damaged. Remove train-000001\.tar and",
    ),
    "a header": (
        lambda out: flip(out / "train-000001.tar", 120),
        r"train-000001\.tar is not what is written .* Remove train-000001\.tar and",
    ),
    "more bytes": (
        lambda out: (out / "test-000000.tar").open("ab").write(b"x"),
        r"test-000000\.tar is not what is written",
    ),
    "a shard gone": (lambda out: (out / "train-000001.tar").unlink(), r"2 of 4 clips damaged\. Repair that and call"),
    "a shard too many": (lambda out: (out / "more-000000.tar").touch(), "more-000000.tar: no clip of"),
    "a row gone": (
        lambda out: (out / MANIFEST).write_text("".join((out / MANIFEST).open().readlines()[:-1])),
        "has 5 rows for 6 clips",
    ),
    "a row of another split": (
        lambda out: (out / MANIFEST).write_text((out / MANIFEST).read_text().replace('"val"', '"new"')),
        "is of other clips",
    ),
    "the record gone": (lambda out: (out / SETTINGS).unlink(), "the record of how .* is missing"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_verify_finds(what: str, done: Path, tmp_path: Path) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    do, told = DAMAGE[what]
    do(out)
    with pytest.raises(DheadsError, match=told):
        verify(out)


def test_verify_names_every_damaged_clip(done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = shutil.copytree(done, tmp_path / "out")
    (out / "train-000001.tar").unlink()
    with pytest.raises(DheadsError):
        verify(out)
    told = capsys.readouterr().err
    assert "warning: clip2: " in told
    assert "warning: clip3: " in told
