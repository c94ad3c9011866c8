"""Embeddings kept beside the shards: the same training with and without, and never those of something else."""

import shutil
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import torch
from corpus import SIZE, make_clip, make_corpus
from torch import nn

from dheads_cli.data.dataset import TrainingSet, Views
from dheads_cli.data.embedding_cache import encoder_record, open_caches, weights_digest
from dheads_cli.data.hearing import Versions
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.run.encode_ahead import encode_ahead

VIEWS = Views(2, 2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5)
NOISY = Versions(2, {"noise": (1.0, 1.0), "gain": (0.5, 0.5)}, seed=3)


class Loudness(nn.Module):
    """Frozen; embedding k is the loudness of frame k times a weight, twice. It counts its calls."""

    sample_rate, embed_dim, stride_frames, context_frames = 16000, 2, 10, 2

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([scale, 2 * scale]), requires_grad=False)
        self.register_buffer("offset", torch.zeros(2))
        self.calls = 0

    def forward(self, waveform, n_frames):
        self.calls += 1
        return waveform.abs().view(len(waveform), n_frames, -1).mean(-1, keepdim=True) * self.scale + self.offset


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus") / "c", {"train": 4, "val": 2})


@pytest.fixture
def folder(corpus, tmp_path):
    return shutil.copytree(corpus, tmp_path / "c")


def caches_of(folder: Path, encoder, versions=NOISY, options=None, owner="loudness of here 1.0"):
    record = encoder_record(encoder, owner, options or {})
    sounds = [versions.made_of(version) for version in range(1 + versions.n)]
    return open_caches(folder, record, sounds, encoder.embed_dim)


def training_set(folder: Path, encoder, caches=(), versions=NOISY, split="train"):
    return TrainingSet(
        folder, split, encoder, frozen=True, size=SIZE, views=VIEWS, cache_bytes=1e9, seed=0, versions=versions,
        caches=caches,
    )  # fmt: skip


def same(a, b) -> bool:
    return all(torch.equal(a.batch(step, 8).audio, b.batch(step, 8).audio) for step in range(4))


def test_training_hears_the_same_with_and_without_and_computes_once(folder):
    encoder = Loudness()
    without = training_set(folder, encoder)
    data = training_set(folder, encoder, caches_of(folder, encoder))
    encode_ahead(data, 1000)
    calls = encoder.calls
    again = training_set(folder, encoder, caches_of(folder, encoder))
    encode_ahead(again, 1000)
    batches = [data.batch(step, 8).audio for step in range(4)], [again.batch(step, 8).audio for step in range(4)]
    assert encoder.calls == calls  # all read
    for step, (kept, kept_again) in enumerate(zip(*batches, strict=True)):
        assert torch.equal(kept, kept_again)
        assert torch.equal(kept, without.batch(step, 8).audio)
    assert len({tuple(data.sound(data.clips[0], version)[:, 0].tolist()) for version in range(3)}) == 3


def test_embeddings_lie_in_one_float16_file_a_shard(folder):
    encoder = Loudness()
    caches = caches_of(folder, encoder)
    encode_ahead(training_set(folder, encoder, caches), 1000)
    files = sorted(path.relative_to(folder).parts for path in (folder / "embeddings").rglob("*.safetensors"))
    assert files == sorted(("embeddings", cache.key, "train-000000.safetensors") for cache in caches)
    ref = Corpus(folder).clips("train")[0]
    kept = caches[0].read(ref)
    assert (kept.dtype, kept.shape) == (torch.float16, (20, 2))
    clean = torch.from_numpy(make_clip(0, "train").waveform).abs().view(20, -1).mean(-1)
    torch.testing.assert_close(kept[:, 0].float(), clean, rtol=2e-3, atol=1e-4)  # FLAC rounds to 16 bits


@pytest.mark.parametrize("change", ["weight", "buffer", "option", "owner", "window", "corpus", "settings", "seed"])
def test_a_change_of_anything_reads_nothing_old(folder, change):
    encoder = Loudness()
    encode_ahead(training_set(folder, encoder, caches_of(folder, encoder)), 1000)
    versions, options, owner = NOISY, {}, "loudness of here 1.0"
    if change == "weight":
        encoder.scale.data.view(torch.int32)[0] ^= 1  # one bit
    elif change == "buffer":
        encoder.offset[1] = 1e-30
    elif change == "option":
        options = {"layer": 2}
    elif change == "owner":
        owner = "loudness of here 1.1"
    elif change == "window":
        encoder.context_frames = 3
    elif change == "corpus":
        manifest = folder / "manifest.jsonl"
        manifest.write_text(manifest.read_text().replace('"speaker": "s0"', '"speaker": "s9"'))
    elif change == "settings":
        versions = Versions(2, {**NOISY.kinds, "noise": (1.0, 0.9)}, seed=3)
    elif change == "seed":
        versions = Versions(2, NOISY.kinds, seed=4)
    caches = caches_of(folder, encoder, versions, options, owner)
    shards = {"train-000000.tar": Corpus(folder).clips("train")}
    stale = [not cache.look(shards) for cache in caches]
    assert stale == [change in ("settings", "seed"), False, False]  # the clean version is the same there


def test_a_file_an_option_names_counts_with_its_content(tmp_path):
    path = tmp_path / "weights.bin"
    path.write_bytes(b"a")
    before = encoder_record(Loudness(), "x", {"weights": str(path)})
    path.write_bytes(b"b")
    assert encoder_record(Loudness(), "x", {"weights": str(path)}) != before


def test_an_encoder_whose_weights_cannot_be_seen_is_not_kept():
    class Plain:
        sample_rate, embed_dim, stride_frames, context_frames = 16000, 2, 10, 2

    assert encoder_record(Plain(), "x", {}) is None


def test_the_checksum_of_weights_sees_names_shapes_and_every_value():
    class Holder(nn.Module):
        def __init__(self, **tensors):
            super().__init__()
            for name, tensor in tensors.items():
                self.register_buffer(name, tensor, persistent=False)

    zeros = torch.zeros(6)
    same_bytes = [Holder(a=zeros), Holder(b=zeros), Holder(a=zeros.view(2, 3)), Holder(a=zeros.int())]
    digests = {
        weights_digest(module) for module in (*same_bytes, Holder(a=torch.eye(6)[0]), Holder(a=zeros.bfloat16()))
    }
    assert len(digests) == 6
    assert weights_digest(Holder(a=zeros)) == weights_digest(Holder(a=zeros.clone()))


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "of other clips"])
def test_a_damaged_file_is_noticed_and_made_again(folder, damage):
    encoder = Loudness()
    caches = caches_of(folder, encoder)
    data = training_set(folder, encoder, caches)
    encode_ahead(data, 1000)
    path = caches[1].path("train-000000.tar")
    good = path.read_bytes()
    if damage == "of other clips":
        caches[1].write("train-000000.tar", {"someone": torch.zeros(20, 2).half()})
    else:
        path.write_bytes({"truncated": good[:-1], "empty": b"", "garbage": b"x" * 100}[damage])
    calls = encoder.calls
    fresh = training_set(folder, encoder, caches_of(folder, encoder))
    encode_ahead(fresh, 1000)
    assert encoder.calls == calls + 4  # that version of four clips
    assert path.read_bytes() == good


def test_a_file_that_is_spoilt_while_training_changes_nothing(folder):
    encoder = Loudness()
    caches = caches_of(folder, encoder)
    data = training_set(folder, encoder, caches)
    encode_ahead(data, 1000)
    for cache in caches:
        cache.path("train-000000.tar").write_bytes(b"")
    assert same(data, training_set(folder, encoder))


def test_a_broken_off_pass_goes_on_with_the_next_shard(folder):
    encoder = Loudness()
    caches = caches_of(folder, encoder)
    data = training_set(folder, encoder, caches)
    encode_ahead(data, 1000)
    caches[2].path("train-000000.tar").unlink()
    (caches[2].folder / ".train-000000.safetensors.1.part").write_bytes(b"half")
    calls = encoder.calls
    encode_ahead(data, 1000)
    assert encoder.calls == calls + 4
    assert not list(folder.rglob("*.part"))


def test_a_folder_that_may_not_be_written_is_said_once_and_training_is_the_same(folder, capsys):
    encoder = Loudness()
    (folder / "embeddings").write_text("")  # a file where the folder would be, which stops root too
    data = training_set(folder, encoder, caches_of(folder, encoder))
    encode_ahead(data, 1000)
    said = capsys.readouterr().err
    assert said.count("embeddings can't be kept there") == 1
    assert same(data, training_set(folder, encoder))


def test_a_second_run_waits_for_the_first_and_then_reads(folder):
    encoder, second = Loudness(), Loudness()
    caches = caches_of(folder, encoder)
    data = training_set(folder, second, caches_of(folder, second))
    with caches[0].writing(lambda: pytest.fail("nobody else is here")):
        thread = Thread(target=encode_ahead, args=(data, 1000))
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert second.calls == 0
        hearing = training_set(folder, encoder).hearing
        clips = hearing.corpus.clips("train")
        caches[0].write("train-000000.tar", {ref.key: hearing(ref, 0).half() for ref in clips})
    thread.join(30)
    assert second.calls == 2 * len(clips)  # the augmented versions


def test_a_short_run_does_not_encode_the_whole_corpus(folder):
    encoder = Loudness()
    data = training_set(folder, encoder, caches_of(folder, encoder))
    encode_ahead(data, 11)  # 4 clips in 3 versions are 12
    assert encoder.calls == 0
    assert not (folder / "embeddings").exists()


def test_embeddings_that_float16_cannot_hold_are_refused(folder):
    data = training_set(folder, Loudness(1e7))
    with pytest.raises(DheadsError, match=r"embeddings of s\d/clip\d are not finite numbers below 65504"):
        data.batch(0, 4)


def test_versions_follow_from_seed_clip_and_number_alone():
    wave = make_clip(0, "train").waveform

    def apply(seed=3, clip="a", version=1):
        return Versions(4, NOISY.kinds, seed).apply(wave, 16000, clip, version)

    assert np.array_equal(apply(), apply())
    assert np.array_equal(apply(version=0), wave)
    others = [apply(seed=4), apply(clip="b"), apply(version=2)]
    assert not any(np.array_equal(apply(), other) for other in others)
