"""A preprocessed corpus: clips are found by the manifest, what is none says so, and damage is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from corpus import make_corpus

from dheads_cli.data.manifest import read_manifest
from dheads_cli.data.shards import Corpus, damaged_clips
from dheads_cli.errors import DheadsError


def test_the_manifest_points_at_the_bytes(tmp_path: Path) -> None:
    corpus = Corpus(make_corpus(tmp_path / "corpus", {"train": 3, "test": 2}))
    assert corpus.splits == ["test", "train"]
    assert [ref.split for ref in corpus.clips("test")] == ["test", "test"]
    ids = [ref.id for ref in corpus.clips("train")]
    assert ids == sorted(ids)
    for ref in corpus.clips("train"):
        assert corpus.load(ref).id == ref.id
        assert corpus.clip(ref.id) == ref


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
    rows, corpus = read_manifest(folder), Corpus(folder)
    assert not damaged_clips(corpus, rows)
    path = folder / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[rows[1].members["flac"][0] + 100] ^= 1
    path.write_bytes(data)
    assert list(damaged_clips(corpus, rows)) == [rows[1].id]
    path.write_bytes(data[: rows[2].members["json"][0]])
    assert set(damaged_clips(corpus, rows)) == {rows[1].id, rows[2].id}
    path.unlink()
    assert len(damaged_clips(corpus, rows)) == 3
    with pytest.raises(DheadsError, match="incomplete"):
        corpus.load(rows[0])
