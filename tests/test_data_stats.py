"""`dheads data stats` on small corpora whose numbers are known, and on broken ones."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commands import Ended, dheads
from corpus import make_corpus

from dheads_cli.data.align import mean_face_in_crop
from dheads_cli.data.manifest import MANIFEST, SETTINGS, ManifestRow, read_manifest, write_rows
from dheads_cli.data.shard_writer import ShardWriter
from dheads_cli.data.stored_clip import StoredClip, encode_sample
from dheads_cli.errors import DheadsError
from dheads_cli.run.data_stats import stats as data_stats
from dheads_cli.run.data_stats.page import page_text

SIZE, FPS, RATE = 48, 25.0, 16000
ROW = tuple[str, str, str, str]  # id, split, speaker, text


def face_clip(row: ROW, number: int, late_frames: int = 0, shift: tuple[int, int] = (0, 0)) -> StoredClip:
    """A textured still face whose landmarks' mouth opens at random, with the sound that follows from it."""
    n_frames, rng = 30, np.random.default_rng(number)
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    texture = 128 + 50 * np.sin(x * 0.9) * np.cos(y * 0.7) + 40 * np.sin(0.4 * x + 1.1 * y)
    texture = np.roll(texture, shift, (0, 1))
    frames = np.repeat(np.repeat(texture[None, ..., None], 3, -1), n_frames, 0).astype(np.uint8)
    opening = rng.uniform(0, 1, n_frames)
    landmarks = np.repeat(mean_face_in_crop(SIZE)[None], n_frames, 0).astype(np.float32)
    landmarks[:, [65, 66, 67], 1] = landmarks[:, [63, 62, 61], 1] + 6 * opening[:, None]
    loudness = np.repeat(np.roll(opening, late_frames), round(RATE / FPS)).astype(np.float32)
    wave = 0.5 * loudness * np.resize(np.array([1, -1], np.float32), len(loudness))
    words = [{"word": word, "start": 0.1, "end": 0.3} for word in row[3].split()]
    info = {"text": row[3] or None, "words": words or None}
    return StoredClip(row[0], row[2], row[1], frames, wave, landmarks, FPS, RATE, info)


def store(
    folder: Path,
    clips: Sequence[StoredClip],
    skipped: Sequence[ManifestRow] = (),
    quality: Mapping[str, Mapping[str, float]] | None = None,
    layout: str | None = None,
) -> Path:
    """Write a corpus in the real format."""
    folder.mkdir(parents=True)
    rows = list(skipped)
    for split in sorted({clip.split for clip in clips}):
        shard = ShardWriter(folder / f"{split}-000000.tar")
        for clip in (clip for clip in clips if clip.split == split):
            key = clip.id.replace("/", "_")
            places, digest = shard.add(key, encode_sample(clip))
            measures = dict((quality or {}).get(clip.id, {}))
            rows.append(
                ManifestRow(
                    clip.id, key, split, clip.speaker, f"{clip.id}.mp4", "ok", shard=shard.path.name,
                    n_frames=len(clip.frames), members=places, sha256=digest, quality=measures,
                )
            )  # fmt: skip
        shard.close()
    write_rows(folder / MANIFEST, rows)
    if layout:
        (folder / SETTINGS).write_text(yaml.safe_dump({"layout": layout, "settings": {"size": SIZE, "fps": 25}}))
    return folder


def skipped_row(clip_id: str, split: str, reason: str, detail: str = "") -> ManifestRow:
    return ManifestRow(clip_id, clip_id, split, "s1", f"{clip_id}.mp4", "skipped", reason, detail)


def numbers_of(folder: Path, **options: Any) -> dict[str, Any]:
    return data_stats.gather(folder, **{"limit": 20, "seed": 0} | options).numbers


def state(numbers: Mapping[str, Any], check: str) -> str:
    (found,) = [one["state"] for one in numbers["checks"] if one["name"] == check]
    return str(found)


ROWS: list[ROW] = [
    *((f"s1/a{n}", "train", "s1", f"bin blue {n}") for n in range(4)),
    ("s2/b", "train", "s2", ""),
    ("s2/c", "test", "s2", "lay red"),
]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of 1.2 s of two speakers and three skipped ones; a speaker is in two splits of a folder corpus."""
    skipped = [
        skipped_row("x", "train", "no face", "in any"),
        skipped_row("y", "val", "no face"),
        skipped_row("z", "val", "damaged"),
    ]
    quality = {row[0]: {"face_height_px": 100.0 + n, "clean": True} for n, row in enumerate(ROWS)}
    clips = [face_clip(row, n) for n, row in enumerate(ROWS)]
    return store(tmp_path_factory.mktemp("known") / "corpus", clips, skipped, quality, "folder")


@pytest.fixture(scope="module")
def numbers(known: Path) -> dict[str, Any]:
    return numbers_of(known)


def test_clips_frames_and_hours_are_counted(numbers: dict[str, Any]) -> None:
    totals = numbers["totals"]
    assert (totals["clips"], totals["skipped"], totals["frames"], totals["speakers"]) == (6, 3, 180, 2)
    assert totals["hours"] == pytest.approx(180 / 25 / 3600)
    assert (totals["fps"], totals["size_px"], totals["sample_rate_hz"]) == (25, SIZE, RATE)


def test_splits_and_speakers_add_up(numbers: dict[str, Any]) -> None:
    clips = {name: (row["clips"], row["skipped"]) for name, row in numbers["splits"].items()}
    assert clips == {"test": (1, 0), "train": (5, 1), "val": (0, 2)}
    assert numbers["speakers"]["s1"]["minutes"] == pytest.approx(4 * 1.2 / 60)
    assert numbers["speakers"]["s2"]["splits"] == {"test": 1, "train": 1}
    assert sum(row["bytes"] for row in numbers["splits"].values()) == numbers["totals"]["bytes"]


def test_skipped_clips_are_told_by_reason_with_examples(numbers: dict[str, Any]) -> None:
    assert list(numbers["skipped"]) == ["no face", "damaged"]
    assert numbers["skipped"]["no face"] == {
        "clips": 2,
        "examples": [{"id": "x", "detail": "in any"}, {"id": "y", "detail": ""}],
    }
    assert state(numbers, "skipped") == "bad"  # a third of them


def test_any_quality_measure_has_a_distribution(numbers: dict[str, Any]) -> None:
    height = numbers["measures"]["face_height_px"]
    assert (height["n"], height["median"], height["min"], height["max"]) == (6, 102.5, 100, 105)
    assert "clean" not in numbers["measures"]
    assert numbers["measures"]["clip_length_s"]["median"] == pytest.approx(1.2)


def test_words_are_counted(numbers: dict[str, Any]) -> None:
    text = numbers["text"]
    assert (text["clips"], text["with_text"], text["with_word_times"], text["vocabulary"]) == (6, 5, 5, 8)
    assert list(text["most_frequent"].items())[:2] == [("bin", 4), ("blue", 4)]


def test_a_speaker_in_two_splits_is_bad_where_splits_are_by_speaker(known: Path, tmp_path: Path) -> None:
    found = numbers_of(known)
    assert found["leakage"]["speakers"] == {"s2": {"test": 1, "train": 1}}
    assert state(found, "splits") == "bad"
    clips = [face_clip(row, n) for n, row in enumerate(ROWS)]
    by_text = numbers_of(store(tmp_path / "grid", clips, layout="grid"))
    assert state(by_text, "splits") == "good"
    assert by_text["leakage"]["speakers"]


def test_the_same_text_in_two_splits_is_bad_where_splits_are_by_text(tmp_path: Path) -> None:
    rows: list[ROW] = [
        ("a", "train", "s1", "bin blue"),
        ("b", "val", "s2", "bin blue"),
        ("c", "test-speakers", "s3", "bin blue"),
    ]
    clips = [face_clip(row, n) for n, row in enumerate(rows)]
    found = numbers_of(store(tmp_path / "corpus", clips, layout="grid"))
    assert found["leakage"]["texts"]["train & val"] == {"count": 1, "examples": ["bin blue"]}
    assert state(found, "splits") == "bad"
    held_out_only = numbers_of(store(tmp_path / "other", [clips[0], clips[2]], layout="grid"))
    assert state(held_out_only, "splits") == "good"


def test_a_video_in_two_splits_is_always_bad(tmp_path: Path) -> None:
    folder = store(tmp_path / "corpus", [face_clip(row, n) for n, row in enumerate(ROWS)])
    rows = read_manifest(folder)
    rows[0] = replace(rows[0], source="same.mp4")  # test
    rows[1] = replace(rows[1], source="same.mp4")  # train
    write_rows(folder / MANIFEST, rows)
    found = numbers_of(folder)
    assert found["leakage"]["sources"] == {"count": 1, "examples": ["same.mp4"]}
    assert state(found, "splits") == "bad"


@pytest.mark.parametrize(("late_frames", "lag", "said"), [(0, 0, "good"), (5, -5, "bad"), (-6, 6, "bad")])
def test_sound_out_of_step_is_found_with_its_lag(tmp_path: Path, late_frames: int, lag: int, said: str) -> None:
    clips = [face_clip((f"c{n}", "train", "s1", ""), n, late_frames) for n in range(8)]
    found = numbers_of(store(tmp_path / "corpus", clips))
    assert found["sample"]["mouth_and_loudness"]["lag_frames"] == lag
    assert state(found, "lips and sound") == said


def test_misaligned_crops_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    still = [face_clip((f"c{n}", "train", "s1", ""), n) for n in range(8)]
    moved = [face_clip((f"c{n}", "train", "s1", ""), n, 0, tuple(rng.integers(-4, 5, 2))) for n in range(8)]
    good, bad = (numbers_of(store(tmp_path / name, clips)) for name, clips in (("good", still), ("bad", moved)))
    assert good["sample"]["eye_sharpness_by_speaker"] > 0.95
    assert bad["sample"]["eye_sharpness_by_speaker"] < 0.6
    assert (state(good, "faces"), state(bad, "faces")) == ("good", "bad")


def test_one_clip_that_shows_something_else_is_named(tmp_path: Path) -> None:
    clips = [face_clip((f"c{n}", "train", "s1", ""), n, 0, (3, 4) if n == 5 else (0, 0)) for n in range(12)]
    found = numbers_of(store(tmp_path / "corpus", clips))
    outliers = found["measures"]["eyes_against_speaker_mean_r"]["outliers"]
    assert outliers[0]["id"] == "c5"
    assert state(found, "faces") != "good"


def test_people_whom_the_corpus_does_not_name_are_not_taken_for_one_speaker(tmp_path: Path) -> None:
    clips = [face_clip((f"c{n}", "train", "unknown", ""), n, 0, (n, 2 * n)) for n in range(6)]
    found = numbers_of(store(tmp_path / "corpus", clips))
    assert found["sample"]["eye_sharpness_by_speaker"] is None
    assert found["measures"]["eyes_against_speaker_mean_r"]["n"] == 0
    assert "all speakers' mean face" in next(one["text"] for one in found["checks"] if one["name"] == "faces")


def test_clips_are_chosen_from_every_speaker_and_split(known: Path) -> None:
    found = data_stats.gather(known, limit=3, seed=1)
    assert {(look.split, look.speaker) for look in found.sample.looks} == {
        ("train", "s1"), ("train", "s2"), ("test", "s2")
    }  # fmt: skip


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 255
    path.write_bytes(data)


def test_a_damaged_clip_is_told_and_left_out(tmp_path: Path) -> None:
    folder = store(tmp_path / "corpus", [face_clip(row, n) for n, row in enumerate(ROWS)])
    row = next(row for row in read_manifest(folder) if row.id == "s1/a2")
    flip(folder / row.shard, row.members["mp4"][0] + 200)
    found = numbers_of(folder)
    assert list(found["sample"]["unreadable"]) == ["s1/a2"]
    assert found["sample"]["clips"] == 5
    assert state(found, "files") == "bad"


def test_missing_and_short_shards_are_told(tmp_path: Path) -> None:
    folder = store(tmp_path / "corpus", [face_clip(row, n) for n, row in enumerate(ROWS)])
    (folder / "test-000000.tar").unlink()
    with (folder / "train-000000.tar").open("r+b") as file:
        file.truncate(2000)
    found = numbers_of(folder)
    assert found["broken_shards"]["test-000000.tar"] == "missing"
    assert found["broken_shards"]["train-000000.tar"].startswith("cut short: 2000 bytes")
    assert found["sample"]["clips"] == 0
    assert state(found, "files") == "bad"


def test_nothing_is_known_of_a_corpus_without_usable_clips_but_it_is_told(tmp_path: Path) -> None:
    folder = store(tmp_path / "corpus", [], [skipped_row("x", "train", "no face")])
    ended = dheads("data", "stats", folder, "-q")
    assert ended.code == 0, ended.stderr
    assert "1 of 1 clips (100.0%), most for 'no face'" in ended.stdout
    assert "No clip was decoded." in (tmp_path / "corpus-stats.html").read_text()


def test_one_clip_is_enough(tmp_path: Path) -> None:
    folder = store(tmp_path / "corpus", [face_clip(ROWS[0], 0)])
    ended = dheads("data", "stats", folder, "-q")
    assert ended.code == 0, ended.stderr
    assert "too few to tell" in ended.stdout


def test_clips_of_another_frame_rate_are_counted_and_no_lag_is_taken_of_them(tmp_path: Path) -> None:
    clips = [face_clip((f"c{n}", "train", "s1", ""), n) for n in range(4)]
    clips[3] = replace(clips[3], fps=50.0, waveform=clips[3].waveform[:9600])
    found = numbers_of(store(tmp_path / "corpus", clips))
    assert (found["totals"]["fps"], found["totals"]["other_fps"]) == (25, {"50.0": 1})
    assert found["sample"]["mouth_and_loudness"]["clips"] == 3


def test_no_decoded_clip_still_gives_the_numbers(known: Path) -> None:
    found = numbers_of(known, limit=0)
    assert (found["totals"]["clips"], found["totals"]["size_px"], found["sample"]["clips"]) == (6, None, 0)


def test_an_older_manifest_takes_its_measures_from_the_clips(tmp_path: Path) -> None:
    clip = face_clip(ROWS[0], 0)
    folder = store(tmp_path / "corpus", [replace(clip, info=clip.info | {"quality": {"face_height_px": 88.0}})])
    assert numbers_of(folder)["measures"]["face_height_px"]["median"] == 88


def test_a_corpus_without_any_measure_or_record_is_shown(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "corpus", {"train": 3, "val": 1})
    found = numbers_of(folder)
    assert found["made_by"] == {}
    assert "face_height_px" not in found["measures"]
    assert state(found, "splits") == "unknown"


def test_folders_that_are_no_corpus_give_a_clear_line(tmp_path: Path, known: Path) -> None:
    with pytest.raises(DheadsError, match="is not a preprocessed corpus"):
        numbers_of(tmp_path)
    (tmp_path / SETTINGS).touch()
    with pytest.raises(DheadsError, match="its preprocessing is not finished"):
        numbers_of(tmp_path)
    (tmp_path / MANIFEST).write_text((known / MANIFEST).read_text()[:-40])
    with pytest.raises(DheadsError, match=r"manifest.jsonl:9: no manifest row"):
        numbers_of(tmp_path)
    (tmp_path / MANIFEST).write_text("3\n")
    with pytest.raises(DheadsError, match=r"manifest.jsonl:1: no manifest row"):
        numbers_of(tmp_path)


def test_an_unreadable_record_gives_a_clear_line(tmp_path: Path) -> None:
    folder = store(tmp_path / "corpus", [face_clip(ROWS[0], 0)])
    for text in ("- a\n- b\n", "a: [\n"):
        (folder / SETTINGS).write_text(text)
        with pytest.raises(DheadsError, match=SETTINGS):
            numbers_of(folder)


@pytest.mark.parametrize(
    ("folder", "out", "page"),
    [
        ("data/grid-64", None, "data/grid-64-stats.html"),
        ("data/grid-64/", "somewhere", "somewhere/grid-64-stats.html"),
        ("data/grid-64", "a/b.html", "a/b.html"),
    ],
)
def test_the_page_lies_beside_the_corpus_unless_told_otherwise(folder: str, out: str | None, page: str) -> None:
    assert data_stats.page_path(Path(folder), None if out is None else Path(out)) == Path(page)


@pytest.fixture(scope="module")
def shown(known: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    """The command as people call it, and the page it writes."""
    page = tmp_path_factory.mktemp("shown") / "new" / "page.html"
    return dheads("data", "stats", known, "-o", page, "--limit", "4", "-q"), page


def test_the_terminal_shows_the_numbers_and_the_checks(shown: tuple[Ended, Path]) -> None:
    ended, page = shown
    assert ended.code == 0, ended.stderr
    assert "6 clips, 2 speakers, 180 frames" in ended.stdout
    assert "speakers in two splits: 1, such as s2" in ended.stdout
    assert re.search(r"face height \[px\] +6 +100 ", ended.stdout)
    assert ended.stdout.splitlines()[-2:] == [str(page), str(page.with_suffix(".png"))]


def test_json_has_the_numbers_and_the_same_seed_writes_the_same_bytes(
    known: Path, shown: tuple[Ended, Path], tmp_path: Path
) -> None:
    before = sorted(path.name for path in known.iterdir())
    ended = dheads("data", "stats", known, "-o", tmp_path / "page.html", "--limit", "4", "--json", "-q")
    assert ended.code == 0, ended.stderr
    told = json.loads(ended.stdout)
    assert told["totals"]["clips"] == 6
    assert told["files"]["page"] == str(tmp_path / "page.html")
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "page.png"}
    assert sorted(path.name for path in known.iterdir()) == before
    for name in ("page.html", "page.png"):
        assert (tmp_path / name).read_bytes() == (shown[1].parent / name).read_bytes()


def test_the_page_stands_alone(shown: tuple[Ended, Path]) -> None:
    page = shown[1].read_text()
    assert not re.findall(r"https?://|<script|<link|@import|url\((?!#)", page)
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert addresses
    assert not [address for address in addresses if not address.startswith(("data:image/", "#"))]
    assert len(page) < 5e6


def test_the_page_shows_clips_faces_traces_measures_and_what_made_it(shown: tuple[Ended, Path]) -> None:
    page = shown[1].read_text()
    assert len(re.findall("<figure>", page)) >= 4 + 4  # tiles; means of all, two splits, speakers
    for text in ("s2/c", "Mean faces", "landmarks of all", "time [s]", "face height [px]", "no face", "x: in any"):
        assert text in page
    assert "<td>layout</td><td>folder</td>" in page
    assert "prefers-color-scheme: dark" in page
    assert page.count("currentColor") > 20


def test_a_place_that_can_t_be_written_gives_a_clear_line(known: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = dheads("data", "stats", known, "-o", tmp_path / "file" / "below", "--limit", "0", "-q")
    assert (ended.code, "can't be made: Not a directory" in ended.stderr) == (2, True)
    ended = dheads("data", "stats", known, "-o", tmp_path / "picture.png", "-q")
    assert (ended.code, "name the page (.html), or a folder" in ended.stderr) == (2, True)


def test_names_from_the_corpus_are_text_on_the_page(tmp_path: Path) -> None:
    clips = [face_clip((f"<b>{n}", "train", "<i>", "<u>"), n) for n in range(2)]
    folder = store(tmp_path / "a<hr>", clips, [skipped_row("<em>", "train", "<s>", "<p>")])
    page = page_text(data_stats.gather(folder, limit=2, seed=0))
    assert not re.findall(r"<(?:b>\d|i>|u>|em>|s>|p>[^A-Z]|hr)", page)
    assert "&lt;b&gt;0" in page
