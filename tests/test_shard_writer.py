"""Shards: webdataset reads them, the same clips give the same bytes, and one that is there is whole."""

from __future__ import annotations

from pathlib import Path

import webdataset
from corpus import make_clip, make_corpus

from dheads_cli.data.shard_writer import ShardWriter
from dheads_cli.data.stored_clip import EXTENSIONS, decode_sample, encode_sample


def test_webdataset_reads_a_shard(tmp_path: Path) -> None:
    folder = make_corpus(tmp_path / "corpus", {"train": 3})
    samples = list(webdataset.WebDataset(str(folder / "train-000000.tar"), shardshuffle=False))
    assert len(samples) == 3
    for sample in samples:
        members = {extension: sample[extension] for extension in EXTENSIONS if extension in sample}
        assert len(decode_sample(members).frames) == 20


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar"):
        writer = ShardWriter(tmp_path / name)
        for number in range(2):
            writer.add(f"clip{number}", encode_sample(make_clip(number, "train")))
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
