"""Words are cut out where they are said, and the middle of the word is the middle of the sample."""

from pathlib import Path

import numpy as np
import pytest
import torch
from corpus import FPS, RATE, write_corpus
from word_corpus import MIDDLES_S, TONES_HZ, make_word_clip, make_word_corpus

from dheads_cli import registry
from dheads_cli.data.hearing import Versions
from dheads_cli.data.shards import Corpus
from dheads_cli.data.stored_clip import StoredClip
from dheads_cli.data.words import WordSet, WordViews, spoken_words
from dheads_cli.errors import DheadsError
from dheads_cli.model.speech import encode_speech

N_FRAMES = 5
N_SAMPLES = round(N_FRAMES / FPS * RATE)


def word_set(
    folder: Path,
    split: str = "train",
    *,
    frozen: bool = False,
    seed: int = 0,
    versions: Versions | None = None,
    **changes: float,
) -> WordSet:
    corpus = Corpus(folder)
    encoder = registry.build("audio_encoders", "logmel", {"embed_dim": 4, "hidden_dim": 4})
    still = {"n_frames": N_FRAMES, "jitter_frames": 0, "gain_db": 0, "noise_max": 0, "word_balance": 0}
    views = WordViews(**{**still, **changes})  # type: ignore[arg-type]
    vocabulary = sorted({spoken.word for spoken in spoken_words(corpus, corpus.clips("train"))})
    words = spoken_words(corpus, corpus.clips(split))
    return WordSet(
        corpus, words, vocabulary, encoder, frozen=frozen, views=views, cache_bytes=1e9, seed=seed, versions=versions
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_word_corpus(tmp_path_factory.mktemp("words") / "c")


def with_click(clip: StoredClip, at_s: float) -> StoredClip:
    """The clip silent but for one sample."""
    clip.waveform[:] = 0
    clip.waveform[round(at_s * RATE)] = 0.9
    return clip


@pytest.mark.parametrize("at_s", [*MIDDLES_S, 0.02, 0.95])
def test_a_click_in_the_word_s_middle_is_in_the_sample_s_middle(tmp_path: Path, at_s: float) -> None:
    clip = with_click(make_word_clip(0, "train", ("low",)), at_s)
    clip.info["words"] = [{"word": "low", "start": at_s - 0.1, "end": at_s + 0.1}]
    (batch,) = word_set(write_corpus(tmp_path / "c", [clip])).in_order(8)
    assert batch.sound.shape == (1, N_SAMPLES)
    assert abs(int(batch.sound[0].argmax()) - N_SAMPLES // 2) <= 1
    assert int((batch.sound[0] > 0.5).sum()) == 1  # silence where the sample reaches beyond the clip


def test_the_only_word_of_a_clip_is_in_the_clip_s_middle(tmp_path: Path) -> None:
    clip = with_click(make_word_clip(0, "train", ("low",)), 0.48)  # 24 frames are 0.96 s
    clip.info.update(words=None, text="about")  # as LRW's
    corpus = Corpus(write_corpus(tmp_path / "c", [clip]))
    assert [(each.word, each.middle_s) for each in spoken_words(corpus, corpus.clips("train"))] == [("about", 0.48)]
    (batch,) = word_set(tmp_path / "c").in_order(8)
    assert abs(int(batch.sound[0].argmax()) - N_SAMPLES // 2) <= 1


def test_a_sentence_without_times_has_no_words(tmp_path: Path) -> None:
    clip = make_word_clip(0, "train", ("low", "high"))
    clip.info.update(words=None)
    made = Corpus(write_corpus(tmp_path / "c", [clip]))
    assert spoken_words(made, made.clips("train")) == []


def test_jitter_moves_the_word_by_at_most_that(tmp_path: Path) -> None:
    clip = with_click(make_word_clip(0, "train", ("low",)), MIDDLES_S[0])
    places = word_set(write_corpus(tmp_path / "c", [clip]), jitter_frames=1.5).batch(1, 200).sound.argmax(dim=1)
    off = (places - N_SAMPLES // 2) / RATE * FPS  # frames
    assert -1.51 < off.min() < -1.4
    assert 1.4 < off.max() < 1.51


def test_gain_and_noise_change_a_sample_as_asked(folder: Path) -> None:
    plain = word_set(folder).batch(1, 300).sound
    louder = word_set(folder, gain_db=6.0).batch(1, 300).sound
    gains_db = 20 * torch.log10(louder.abs().amax(dim=1) / plain.abs().amax(dim=1))
    assert -6 <= gains_db.min() < -5.8
    assert 5.8 < gains_db.max() <= 6
    sigmas = (word_set(folder, noise_max=0.1).batch(1, 300).sound - plain).std(dim=1)
    assert sigmas.min() < 0.002
    assert 0.098 < sigmas.max() < 0.104  # of 3200 draws, 0.1 within 4 %


def test_a_batch_is_a_function_of_seed_and_step(folder: Path) -> None:
    first, again = (word_set(folder, jitter_frames=2, gain_db=6, noise_max=0.01).batch(7, 6) for _ in range(2))
    assert torch.equal(first.sound, again.sound)
    assert torch.equal(first.labels, again.labels)
    assert not torch.equal(first.sound, word_set(folder, seed=1, jitter_frames=2).batch(7, 6).sound)


def test_a_part_of_a_batch_is_that_of_the_whole(folder: Path) -> None:
    made = word_set(folder, jitter_frames=2, gain_db=6, noise_max=0.01)
    whole, part = made.batch(7, 12), made.batch(7, 12, range(4, 8))
    assert torch.equal(part.sound, whole.sound[4:8])
    assert torch.equal(part.labels, whole.labels[4:8])


def test_rare_words_are_drawn_as_often_where_balance_is_1(tmp_path: Path) -> None:
    clips = [make_word_clip(i, "train", ("low",) if i else ("high",)) for i in range(5)]
    made = word_set(write_corpus(tmp_path / "c", clips), word_balance=1.0)
    assert made.probabilities[made.labels.index(0)] == pytest.approx(0.5)  # one "high", four times "low"


def test_a_frozen_encoder_hears_the_whole_clip(folder: Path) -> None:
    made = word_set(folder, frozen=True)
    (batch,) = made.in_order(100)
    spoken, corpus = made.words[0], made.hearing.corpus
    whole = encode_speech(made.encoder, torch.from_numpy(corpus.load(spoken.ref).waveform), 24, FPS)
    middle = spoken.middle_s * FPS
    expected = whole[round(middle - N_FRAMES / 2) : round(middle - N_FRAMES / 2) + N_FRAMES]
    assert torch.equal(batch.sound[0], expected.half().float())  # as all frozen encoders


def test_a_word_that_was_not_trained_on_is_left_out(tmp_path: Path) -> None:
    clips = [make_word_clip(0, "train", ("low", "high")), make_word_clip(1, "val", ("low", "middle"))]
    made = word_set(write_corpus(tmp_path / "c", clips), "val")
    assert ([spoken.word for spoken in made.words], made.n_unknown) == (["low"], 1)
    clips[1].info["words"].pop(0)
    with pytest.raises(DheadsError, match="none of its words here is among the 2 to be told apart"):
        word_set(write_corpus(tmp_path / "d", clips), "val")


def test_sound_of_another_rate_is_refused(folder: Path) -> None:
    corpus = Corpus(folder)
    encoder = registry.build("audio_encoders", "logmel")
    encoder.sample_rate = 8000
    views = WordViews(5, 0, 0, 0, 0)
    with pytest.raises(DheadsError, match=r"has 16000 Hz, but model\.audio_encoder takes 8000"):
        WordSet(corpus, spoken_words(corpus, corpus.clips("train")), list(TONES_HZ), encoder, frozen=False, views=views,
                cache_bytes=1, seed=0)  # fmt: skip


def test_memory_is_bounded(folder: Path) -> None:
    made = word_set(folder)
    made.memory.most_bytes = 130_000  # two clips of 61 kB
    unbounded = [batch.sound for batch in word_set(folder).in_order(3)]
    assert all(torch.equal(a.sound, b) for a, b in zip(made.in_order(3), unbounded, strict=True))
    assert len(made.memory.held) == 2
    assert made.memory.n_bytes == sum(sound.nbytes for sound in made.memory.held.values()) <= made.memory.most_bytes


def test_noise_does_not_leave_full_scale(folder: Path) -> None:
    assert word_set(folder, gain_db=40.0, noise_max=1.0).batch(1, 20).sound.abs().max() == 1
    assert np.isfinite(word_set(folder, gain_db=40.0).batch(1, 20).sound.numpy()).all()


@pytest.mark.parametrize("frozen", [False, True])
def test_random_samples_are_of_the_clean_sound_or_of_augmented_versions(folder: Path, frozen: bool) -> None:
    torch.manual_seed(0)  # of the encoder
    clean = word_set(folder, frozen=frozen)
    torch.manual_seed(0)
    data = word_set(folder, frozen=frozen, versions=Versions(2, {"noise": (1.0, 1.0)}, seed=3))
    heard = {}
    for sound, label in zip(*vars(data.batch(1, 400)).values(), strict=True):
        heard.setdefault(int(label), set()).add(sound.numpy().tobytes())
    counts = [data.labels.count(label) for label in heard]
    assert [len(sounds) for sounds in heard.values()] == [3 * count for count in counts]
    for batch, same in zip(data.in_order(4), clean.in_order(4), strict=True):
        assert torch.equal(batch.sound, same.sound)  # what is scored is never augmented
