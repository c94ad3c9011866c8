"""`dheads data synthesize`: photos and clips -> a corpus of synthetic speakers."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_preprocess import GRID

from dheads_cli.data.corpora import ClipSource
from dheads_cli.data.manifest import read_manifest
from dheads_cli.data.media import read_video
from dheads_cli.data.mouth import mouth_opening, pearson
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.recipe import Preprocess
from dheads_cli.recipe_section import Component
from dheads_cli.run.synthesize import Synthesis, list_portraits, make_pairs, synthesize
from dheads_cli.run.synthesize_clip import relit

SETTINGS = Preprocess(size=64, workers=1, test_fraction=0, val_fraction=0)
ASTRONAUT = GRID.parents[2] / "examples/astronaut.jpg"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people, one of them smiling, and a picture without a face."""
    folder = tmp_path_factory.mktemp("photos")
    with Image.open(ASTRONAUT) as image:
        image.convert("RGB").save(folder / "anna.png")
    Image.fromarray(read_video(GRID / "s2/bbaf1n.mp4", 25).frames[0]).save(folder / "ben.png")
    Image.new("RGB", (200, 200)).save(folder / "nobody.png")
    return folder


@pytest.fixture(scope="module")
def made(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "synthetic"
    synthesize(photos, GRID, out, SETTINGS, Synthesis(per_portrait=1, turn_deg=0), check=0)
    return out


def test_every_row_says_what_it_was_made_from(made):
    rows = {row.speaker: row for row in read_manifest(made)}
    assert rows["nobody"].status == "skipped"
    assert rows["nobody"].reason == "photo: no face"
    for person in ("anna", "ben"):
        assert rows[person].synthetic["portrait"] == f"{person}.png"
        assert rows[person].synthetic["clip"].startswith("s")


def test_the_mouth_opens_as_the_driver_s_does(made):
    corpus = Corpus(made)
    for row in corpus.clips("train"):
        clip = corpus.load(row)
        assert pearson(mouth_opening(clip.landmarks), np.array(clip.info["driver_opening"])) > 0.9


def test_a_smile_is_kept_as_the_photo_and_closed_in_the_frames(made):
    corpus = Corpus(made)
    clip = next(clip for row in corpus.clips("train", "anna") if (clip := corpus.load(row)))
    assert clip.photo is not None
    assert clip.photo.shape == clip.frames.shape[1:]
    smiling = mouth_opening(np.array(clip.info["photo_landmarks"])[None])[0]
    assert smiling > 0.05 > mouth_opening(clip.landmarks).min() + 0.03


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(photos, made, tmp_path):
    shard = (made / "train-000000.tar").read_bytes()
    for seed, same in ((0, True), (1, False)):
        out = tmp_path / str(seed)
        synthesize(photos, GRID, out, SETTINGS, Synthesis(per_portrait=1, turn_deg=0, seed=seed), check=0)
        assert ((out / "train-000000.tar").read_bytes() == shard) is same


def test_no_person_and_no_clip_is_in_two_splits(tmp_path):
    people = [f"p{i}" for i in range(20)]
    table = "file,person\n"
    for person in people:
        for name in (f"{person}.png", f"{person}-smile.png"):
            (tmp_path / name).write_bytes(b"")
            table += f"{name},{person}\n"
    (tmp_path / "portraits.csv").write_text(table)
    listed, _ = list_portraits(tmp_path, Preprocess(test_fraction=0.2, val_fraction=0.1))
    splits: dict[str, set[str]] = {}
    for photo in listed:
        splits.setdefault(photo.speaker, set()).add(photo.split)
    assert len(splits) == 20
    assert all(len(each) == 1 for each in splits.values())
    clips = [
        ClipSource(f"s{i % 3}/{i}", Path(f"{i}.mp4"), f"s{i % 3}", "", split=split)
        for i, split in enumerate(["train"] * 20 + ["val"] * 5 + ["test"] * 5)
    ]
    of_clip = {clip.id: clip.split for clip in clips}
    for pair in make_pairs(listed, clips, Synthesis(per_portrait=2)):
        assert pair.driver is not None
        assert of_clip[pair.driver.id] == pair.split


def test_photos_that_can_t_be_read_are_skipped(photos, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "anna.png").write_bytes((photos / "anna.png").read_bytes())
    (folder / "broken.jpg").write_bytes(b"no picture")
    result = synthesize(folder, GRID, tmp_path / "out", SETTINGS, Synthesis(per_portrait=1), check=1)
    assert result["skipped"] == {"photo: not readable": 1}
    assert result["check"]["clips"] == 1


@pytest.mark.parametrize("table", ["name,who\na.png,b\n"])
def test_a_table_without_its_columns_is_an_error(tmp_path, table):
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "portraits.csv").write_text(table)
    with pytest.raises(DheadsError, match=r"portraits\.csv"):
        list_portraits(tmp_path, SETTINGS)


def test_a_folder_without_photos_and_a_detector_without_meshes_are_errors(photos, tmp_path):
    with pytest.raises(DheadsError, match=str(tmp_path)):
        list_portraits(tmp_path, SETTINGS)
    settings = SETTINGS.model_copy(update={"detector": Component(use="precomputed", folder=str(tmp_path))})
    with pytest.raises(DheadsError):
        synthesize(photos, GRID, tmp_path / "out", settings, Synthesis(), check=0)


def test_light_changes_a_picture_and_no_light_leaves_it():
    picture = np.full((20, 20, 3), 120, np.uint8)
    assert (relit(picture, 0.0, np.random.default_rng(0)) == picture).all()
    lit = relit(picture, 1.0, np.random.default_rng(0))
    assert (lit != picture).any()
