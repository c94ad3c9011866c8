"""Corpora are recognised by how they lie on disk, and held-out clips stay held out."""

from __future__ import annotations

import os
import sys
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
    assert any("left out, videos that are no part of the layout 'grid'" in note for note in listing.notes)


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


LRW_NAMES = [
    f"{word}/{split}/{word}_0000{n}.mp4"
    for word in ("ABOUT", "WORLD")
    for split in ("train", "val", "test")
    for n in (1, 2)
]


def test_lrw_keeps_its_own_splits(tmp_path: Path) -> None:
    make_files(tmp_path / "lrw_mp4", LRW_NAMES)
    listing = listed(tmp_path)
    assert listing.layout == "lrw"
    assert len(listing.clips) == 12
    clip = listing.clips[0]
    assert (clip.id, clip.split, clip.text) == ("ABOUT/test/ABOUT_00001", "test", "about")
    assert {clip.split for clip in listing.clips} == {"train", "val", "test"}


@pytest.mark.parametrize("place", ["", "lipread_mp4", "lipread_mp4/ABOUT", "lipread_mp4/ABOUT/val"])
def test_lrw_is_known_from_above_and_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    make_files(tmp_path / "lrw/lipread_mp4", LRW_NAMES)
    monkeypatch.chdir(tmp_path / "lrw" / place)
    for root in (Path(), Path.cwd()):
        listing = listed(root)
        assert listing.layout == "lrw"
        clip = next(clip for clip in listing.clips if clip.id == "ABOUT/val/ABOUT_00002")
        assert (clip.split, clip.text) == ("val", "about")
        assert clip.video.is_file()


def test_lrws_word_is_in_the_middle_of_its_clip(tmp_path: Path) -> None:
    make_files(tmp_path, LRW_NAMES)
    labels = tmp_path / "ABOUT/val/ABOUT_00001.txt"
    lines = ["Disk reference: 6376", "Channel: BBC1 HD", "Program start: 2014", "Clip start: 3391.14 seconds"]
    labels.write_text("\n".join([*lines, "Duration: 0.46 seconds", ""]))
    listing = listed(tmp_path)
    clips = {clip.id: clip for clip in listing.clips}
    assert read_words(clips["ABOUT/val/ABOUT_00001"]) == (Word("about", 0.35, 0.81),)
    assert read_words(clips["ABOUT/val/ABOUT_00002"]) is None
    assert "11 of 12 clips have no .txt that says when the word is spoken" in listing.notes
    labels.write_text("Duration: 1.30 seconds\n")
    assert read_words(clips["ABOUT/val/ABOUT_00001"]) == (Word("about", 0.0, 1.16),)
    labels.write_text("Channel: BBC1 HD\n")
    assert read_words(clips["ABOUT/val/ABOUT_00001"]) is None
    for text in ("-0.5", "long", "nan", "77"):
        labels.write_text(f"Duration: {text} seconds\n")
        with pytest.raises(UnusableClip, match=rf"ABOUT_00001\.txt: 'Duration: {text}' is no word's length"):
            read_words(clips["ABOUT/val/ABOUT_00001"])
    labels.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnusableClip, match=r"ABOUT_00001\.txt can't be read"):
        read_words(clips["ABOUT/val/ABOUT_00001"])


@pytest.mark.parametrize(
    ("align", "place"),
    [
        ("align/s1", ""),
        ("alignments/s1", ""),
        ("s1/align", ""),
        ("s1", "s1"),
        ("align/s1", "s1"),
        ("alignments/s1", "s1"),
        ("s1/align", "s1"),
        ("align", ""),
    ],
)
@pytest.mark.parametrize("videos", ["s1", "s1/video/mpg_6000"])
def test_grids_alignments_are_found_wherever_they_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, align: str, place: str, videos: str
) -> None:
    make_files(tmp_path / "grid", [f"{videos}/bbaf1n.mpg", f"{align}/x.txt", "audio/s1/bbaf1n.wav"])
    (tmp_path / "grid" / align / "bbaf1n.align").write_text("0 25000 bin\n")
    monkeypatch.chdir(tmp_path / "grid" / place)
    listing = listed(Path())
    (clip,) = listing.clips
    assert (clip.id, clip.speaker, read_words(clip)) == ("s1/bbaf1n", "s1", (Word("bin", 0.0, 1.0),))
    assert clip.audio is None
    assert any(note.startswith("separate sound files, left alone") for note in listing.notes) == (place == "")


def test_crema_has_its_sound_beside_and_its_test_actors(tmp_path: Path) -> None:
    names = [f"{actor}_{text}_ANG_XX" for actor in (1001, 1002, 1003, 1015, 1089) for text in ("DFA", "IEO")]
    make_files(tmp_path, [f"VideoFlash/{name}.flv" for name in names] + [f"AudioWAV/{name}.wav" for name in names])
    for root in (tmp_path, tmp_path / "VideoFlash"):
        listing = listed(root)
        assert listing.layout == "crema"
        clip = listing.clips[0]
        assert (clip.id, clip.speaker, clip.text) == ("1001_DFA_ANG_XX", "1001", "don't forget a jacket")
        assert clip.audio == tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav"
        found = speakers_of(listing)
        assert found["test"] == {"1015", "1089"}
        assert len(found["val"]) == 1
        assert len(found["train"]) == 2


def test_cremas_unpaired_files_are_told(tmp_path: Path) -> None:
    make_files(tmp_path, [f"VideoFlash/100{n}_DFA_ANG_XX.FLV" for n in (1, 2)])
    listing = listed(tmp_path)
    assert listing.layout == "crema"  # so that actors are kept apart
    assert {clip.audio for clip in listing.clips} == {None}
    assert any("the sound in the videos is used" in note for note in listing.notes)
    make_files(tmp_path, [f"AudioWAV/100{n}_DFA_ANG_XX.wav" for n in (2, 3)])
    listing = listed(tmp_path)
    missing, paired = (clip.audio for clip in listing.clips)
    assert missing is not None
    assert paired is not None
    assert missing == tmp_path / "AudioWAV/1001_DFA_ANG_XX.wav"
    assert (missing.is_file(), paired.is_file()) == (False, True)
    assert "videos without .wav, which will be skipped: 1001_DFA_ANG_XX" in listing.notes
    assert "left out, .wav files without a video: 1003_DFA_ANG_XX.wav" in listing.notes


def test_a_sound_file_beside_a_video_is_its_sound(tmp_path: Path) -> None:
    listing = listed(make_files(tmp_path, ["a/one.mp4", "a/one.WAV", "a/two.mp4", "b/two.wav"]))
    assert [clip.audio for clip in listing.clips] == [tmp_path / "a/one.WAV", None]
    assert any(note.endswith("used as their sound: 1") for note in listing.notes)


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


def test_what_is_no_clip_is_left_out(tmp_path: Path) -> None:
    names = ["a/1.mp4", "a/2.MP4", "a/._1.mp4", ".cache/3.mp4", "__MACOSX/4.mp4", "a/1.jpg", "a/mp4"]
    make_files(tmp_path, names)
    (tmp_path / "a/gone.mp4").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "a/pipe.mp4")
    (tmp_path / "a/folder.mp4").mkdir()
    listing = listed(tmp_path)
    assert [clip.id for clip in listing.clips] == ["a/1", "a/2"]
    (note,) = [note for note in listing.notes if "broken links" in note]
    assert "gone.mp4" in note
    assert "pipe.mp4" in note


def test_links_are_followed_once(tmp_path: Path) -> None:
    make_files(tmp_path / "disk/person", ["1.mp4"])
    make_files(tmp_path / "disk", ["2.mp4"])
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/anna").symlink_to(tmp_path / "disk/person")
    (tmp_path / "corpus/2.mp4").symlink_to(tmp_path / "disk/2.mp4")
    (tmp_path / "disk/person/back").symlink_to(tmp_path / "corpus")
    assert [clip.id for clip in listed(tmp_path / "corpus").clips] == ["2", "anna/1"]


@pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode elsewhere")
def test_a_name_that_is_no_text_is_told(tmp_path: Path) -> None:
    make_files(tmp_path, ["1.mp4", "2.mp4"])
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))).touch()
    listing = listed(tmp_path)
    assert len(listing.clips) == 2
    assert any("no UTF-8" in note and note.isprintable() for note in listing.notes)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what it likes")
def test_a_folder_that_cant_be_read_is_told(tmp_path: Path) -> None:
    make_files(tmp_path, ["a/1.mp4", "b/2.mp4"])
    (tmp_path / "b").chmod(0)
    listing = listed(tmp_path)
    assert len(listing.clips) == 1
    assert any("can't be read" in note for note in listing.notes)
    (tmp_path / "b").chmod(0o700)


def test_a_corpus_without_a_recipes_held_out_speakers_is_told(tmp_path: Path) -> None:
    make_files(tmp_path, LRW_NAMES)
    assert (
        "test_speakers s31 are not in this corpus: no speaker is held out wholly"
        in listed(tmp_path, test_speakers=["s31"]).notes
    )
    make_files(tmp_path / "own", ["anna/1.mp4", "ben/1.mp4"])
    with pytest.raises(DheadsError, match=r"test_speakers bem not in .*own; there are anna, ben"):
        listed(tmp_path / "own", test_speakers=["anna", "bem"])


def test_mistakes_say_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="no such folder"):
        listed(tmp_path / "none")
    with pytest.raises(DheadsError, match=r"holds no videos .*, but nothing at all\."):
        listed(tmp_path)
    with pytest.raises(DheadsError, match=r"but 2 \.zip, 1 \.txt\. Unpack it first\."):
        listed(make_files(tmp_path / "packed", ["notes.txt", "s1.zip", "s2.zip"]))
    with pytest.raises(DheadsError, match="is preprocessed already"):
        listed(make_files(tmp_path / "done", ["manifest.jsonl", "train-000000.tar"]))
    with pytest.raises(DheadsError, match="is a file: name the folder"):
        listed(GRID / "s1/bbaf2n.mp4")
    with pytest.raises(DheadsError, match="test_speakers s9 not in"):
        listed(GRID, test_speakers=["s9"])
    with pytest.raises(DheadsError, match=r"none lies as the layout 'lrw'.* It looks like GRID .*--layout grid"):
        listed(GRID, layout="lrw")
    make_files(tmp_path / "all", [f"lrw/{name}" for name in LRW_NAMES])
    make_files(tmp_path / "all", [f"grid/s1/{name}.mpg" for name in ("bbaf1n", "bbaf2n")])
    with pytest.raises(DheadsError, match=r"more than one corpus \(grid, lrw\): name the folder of one \(grid, lrw\)"):
        listed(tmp_path / "all")
    assert len(listed(tmp_path / "all", layout="grid").clips) == 2
