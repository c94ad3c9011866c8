"""Shards: what goes in comes out, through our reader and through webdataset's, and damage is found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import webdataset
from corpus import make_clip, make_corpus

from dheads_cli.data import shards
from dheads_cli.data.shards import Corpus, ManifestRow, ShardWriter
from dheads_cli.errors import DheadsError


def test_a_clip_comes_back_as_it_was() -> None:
    clip = make_clip(3, "train")
    back = shards.decode_sample(shards.encode_sample(clip))
    assert (back.id, back.speaker, back.split, back.fps, back.sample_rate) == ("s1/clip3", "s1", "train", 25, 16000)
    assert back.frames.shape == clip.frames.shape
    assert np.abs(back.frames.astype(int) - clip.frames).mean() < 3
    assert np.abs(back.waveform - clip.waveform).max() < 2**-14
    assert back.landmarks.dtype == np.float32
    assert np.abs(back.landmarks - clip.landmarks).max() < 0.02
    assert len(back.waveform) == round(len(back.frames) / back.fps * back.sample_rate)


def test_webdataset_reads_a_shard(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "corpus", {"train": 3})
    samples = list(webdataset.WebDataset(str(folder / "train-000000.tar"), shardshuffle=False))
    assert len(samples) == 3
    for sample in samples:
        members = {extension: sample[extension] for extension in shards.EXTENSIONS}
        assert len(shards.decode_sample(members).frames) == 20


def test_the_manifest_points_at_the_bytes(tmp_path: Path) -> None:
    corpus = Corpus(make_corpus(tmp_path / "corpus", {"train": 3, "test": 2}))
    assert corpus.splits == ["test", "train"]
    assert [ref.split for ref in corpus.clips("test")] == ["test", "test"]
    ids = [ref.id for ref in corpus.clips("train")]
    assert ids == sorted(ids)
    for ref in corpus.clips("train"):
        assert corpus.load(ref).id == ref.id
        assert corpus.clip(ref.id) == ref


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        writer = ShardWriter(tmp_path / name)
        for number in range(2):
            writer.add(f"clip{number}", shards.encode_sample(make_clip(number, "train")))
        writer.close()
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_long_names_keep_their_places(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "a.tar")
    places, _ = writer.add("x" * 150, {"mp4": b"picture", "json": b"{}"})
    writer.close()
    data = (tmp_path / "a.tar").read_bytes()
    assert [data[at : at + size] for at, size in places.values()] == [b"picture", b"{}"]


def test_an_unfinished_shard_is_not_there(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path / "a.tar")
    writer.add("clip", {"json": b"{}"})
    assert not (tmp_path / "a.tar").exists()
    writer.abandon()
    assert not list(tmp_path.iterdir())


def test_rows_survive_the_manifest(tmp_path: Path) -> None:
    rows = [
        ManifestRow(
            "s1/a", "s1_a", "train", "s1", "s1/a.mpg", "ok", "", "", "train-000000.tar", 75, {"mp4": (512, 9)}, "ab"
        ),
        ManifestRow("s1/b", "s1_b", "train", "s1", "s1/b.mpg", "skipped", "no face", "in any of 75 frames"),
    ]
    shards.write_rows(tmp_path / "manifest.jsonl", rows)
    assert shards.read_manifest(tmp_path) == rows
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write('{"id": "s1/c"}\n')
    with pytest.raises(DheadsError, match=r"manifest\.jsonl:3: no manifest row"):
        shards.read_manifest(tmp_path)


def test_what_is_no_corpus_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match=r"not a preprocessed corpus.*dheads preprocess CORPUS"):
        Corpus(tmp_path)
    (tmp_path / "preprocess.yaml").touch()
    with pytest.raises(DheadsError, match="not finished: run the same"):
        Corpus(tmp_path)
    corpus = Corpus(make_corpus(tmp_path / "corpus", {"train": 1}))
    with pytest.raises(DheadsError, match="no clips in the split 'val'; splits: train"):
        corpus.clips("val")
    with pytest.raises(DheadsError, match="no clip 'x'"):
        corpus.clip("x")


def test_a_flipped_bit_and_a_missing_shard_are_found(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "corpus", {"train": 3})
    rows, corpus = shards.read_manifest(folder), Corpus(folder)
    assert not shards.damaged_clips(corpus, rows)
    path = folder / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[rows[1].members["flac"][0] + 100] ^= 1
    path.write_bytes(data)
    assert list(shards.damaged_clips(corpus, rows)) == [rows[1].id]
    path.write_bytes(data[: rows[2].members["json"][0]])
    assert set(shards.damaged_clips(corpus, rows)) == {rows[1].id, rows[2].id}
    path.unlink()
    assert len(shards.damaged_clips(corpus, rows)) == 3
    with pytest.raises(DheadsError, match="incomplete"):
        corpus.load(rows[0])
