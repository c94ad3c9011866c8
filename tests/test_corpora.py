"""Corpora are recognised by how they lie on disk, and held-out clips stay held out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import pytest

from dheads_cli.data.corpora import CorpusListing, Word, list_corpus, read_words
from dheads_cli.errors import DheadsError, UnusableClip

GRID = Path(__file__).parent / "data/grid"


def make_files(folder: Path, names: Iterable[str]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(folder: Path, layout: str = "auto", test_speakers: Iterable[str] = (), test: float = 0.2, val: float = 0.1):
    return list_corpus(folder, layout, list(test_speakers), test, val)


def speakers_of(listing: CorpusListing) -> dict[str, set[str]]:
    found = defaultdict(set)
    for clip in listing.clips:
        found[clip.split].add(clip.speaker)
    return found


def test_grid_is_recognised_with_its_words() -> None:
    listing = listed(GRID)
    assert listing.layout == "grid"
    assert "laid out as GRID" in listing.notes[0]
    assert "2 clips" in listing.notes[0]
    first, second = listing.clips
    assert (first.id, first.key, first.speaker, first.text) == ("s1/bbaf2n", "s1_bbaf2n", "s1", "bin blue at f two now")
    words = read_words(first)
    assert words is not None
    assert words[1] == Word("blue", 0.22, 0.4)
    assert [word.word for word in words] == ["bin", "blue", "at", "f", "two", "now"]
    assert (second.id, second.text, read_words(second)) == ("s2/bbaf1n", "bin blue at f one now", None)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sgwpza", "set green with p zero again"),
        ("lrby9s", "lay red by y nine soon"),
        ("pwia4p", "place white in a four please"),
    ],
)
def test_grid_names_spell_their_sentence(tmp_path: Path, name: str, text: str) -> None:
    assert listed(make_files(tmp_path, [f"s7/{name}.mpg"])).clips[0].text == text


def test_grids_odd_names_and_layouts_are_read(tmp_path: Path) -> None:
    make_files(tmp_path, ["s2/id2_vcd_swwp2s.mpg", "s2/video/mpg_6000/bbaf1n.mpg", "s2/notes.mp4"])
    (tmp_path / "s2/align").mkdir()
    (tmp_path / "s2/align/bbaf1n.align").write_text("0 1000 sil\n1000 25000 bin\n")
    listing = listed(tmp_path)
    assert [(clip.id, clip.text) for clip in listing.clips] == [
        ("s2/bbaf1n", "bin blue at f one now"),
        ("s2/id2_vcd_swwp2s", "set white with p two soon"),
    ]
    assert read_words(listing.clips[0]) == (Word("bin", 0.04, 1.0),)
    assert any("1 other" in note for note in listing.notes)


def test_a_broken_align_file_is_named(tmp_path: Path) -> None:
    make_files(tmp_path, ["s1/bbaf1n.mpg", "align/s1/x"])
    (tmp_path / "align/s1/bbaf1n.align").write_text("0 1000 sil\n1000 bin\n")
    with pytest.raises(UnusableClip, match=r"damaged: .*bbaf1n\.align:2: '1000 bin' is not `start end word`"):
        read_words(listed(tmp_path).clips[0])


def grid_names() -> list[str]:
    return [f"bbaf{digit}{word}" for digit in "z123456789" for word in "nsap"]


def test_no_grid_sentence_is_in_two_splits(tmp_path: Path) -> None:
    make_files(tmp_path, [f"s{speaker}/{name}.mpg" for speaker in (1, 2, 3, 31) for name in grid_names()])
    listing = listed(tmp_path, test_speakers=["s31"])
    sentences = defaultdict(set)
    for clip in listing.clips:
        sentences[clip.split].add(clip.id.split("/")[1])
    assert set(sentences) == {"train", "test", "val", "test-speakers"}
    assert not sentences["train"] & sentences["test"]
    assert not sentences["train"] & sentences["val"]
    assert speakers_of(listing)["test-speakers"] == {"s31"}
    assert "s31" not in speakers_of(listing)["train"] | speakers_of(listing)["test"]


def test_more_clips_move_none_to_another_split(tmp_path: Path) -> None:
    make_files(tmp_path, [f"s1/{name}.mpg" for name in grid_names()[:20]])
    before = {clip.id: clip.split for clip in listed(tmp_path).clips}
    make_files(tmp_path, [f"s{speaker}/{name}.mpg" for speaker in (1, 2) for name in grid_names()])
    after = {clip.id: clip.split for clip in listed(tmp_path).clips}
    assert before.items() <= after.items()


def test_lrw_keeps_its_own_splits(tmp_path: Path) -> None:
    names = [
        f"{word}/{split}/{word}_0000{n}.mp4"
        for word in ("ABOUT", "WORLD")
        for split in ("train", "val", "test")
        for n in (1, 2)
    ]
    make_files(tmp_path / "lrw_mp4", names)
    make_files(tmp_path / "lrw_mp4", ["ABOUT/train/ABOUT_00001.txt"])
    listing = listed(tmp_path)
    assert listing.layout == "lrw"
    assert len(listing.clips) == 12
    clip = listing.clips[0]
    assert (clip.id, clip.split, clip.text) == ("ABOUT/test/ABOUT_00001", "test", "about")
    assert {clip.split for clip in listing.clips} == {"train", "val", "test"}


def test_crema_has_its_sound_beside_and_its_test_actors(tmp_path: Path) -> None:
    names = [f"{actor}_{text}_ANG_XX" for actor in (1001, 1002, 1003, 1015, 1089) for text in ("DFA", "IEO")]
    make_files(tmp_path, [f"VideoFlash/{name}.flv" for name in names] + [f"AudioWAV/{name}.wav" for name in names])
    listing = listed(tmp_path)
    assert listing.layout == "crema"
    clip = listing.clips[0]
    assert (clip.id, clip.speaker, clip.text) == ("1001_DFA_ANG_XX", "1001", "don't forget a jacket")
    assert clip.audio == tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav"
    found = speakers_of(listing)
    assert found["test"] == {"1015", "1089"}
    assert len(found["val"]) == 1
    assert len(found["train"]) == 2


def test_a_folder_is_split_by_speaker(tmp_path: Path) -> None:
    make_files(tmp_path, [f"person {speaker}/take.{n}.mov" for speaker in range(10) for n in range(3)])
    listing = listed(tmp_path)
    assert listing.layout == "folder"
    found = speakers_of(listing)
    assert {split: len(names) for split, names in found.items()} == {"test": 2, "val": 1, "train": 7}
    assert not found["test"] & found["train"]
    assert any("split by speaker" in note for note in listing.notes)
    assert listing.clips[0].key == "person_0_take_0"


def test_one_speaker_is_split_by_clip_and_told(tmp_path: Path) -> None:
    listing = listed(make_files(tmp_path, [f"{n:03d}.mp4" for n in range(100)]))
    assert {clip.split for clip in listing.clips} == {"train", "val", "test"}
    assert any("one speaker only" in note for note in listing.notes)


def test_keys_are_unique_where_names_collide(tmp_path: Path) -> None:
    make_files(tmp_path, ["a/b_c.mp4", "a_b/c.mp4", "얼굴/하나.mp4", "얼굴/두울.mp4", "a/d.mp4", "a/d.mkv"])
    clips = listed(tmp_path).clips
    assert len({clip.key for clip in clips}) == len({clip.id for clip in clips}) == 6
    assert all(clip.key.isascii() and "." not in clip.key and "/" not in clip.key for clip in clips)


def test_mistakes_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="no such folder"):
        listed(tmp_path / "none")
    with pytest.raises(DheadsError, match="holds no videos"):
        listed(make_files(tmp_path, ["notes.txt"]))
    with pytest.raises(DheadsError, match="test_speakers s9 not in"):
        listed(GRID, test_speakers=["s9"])
    with pytest.raises(DheadsError, match="none lies as the layout 'lrw'"):
        listed(GRID, layout="lrw")
