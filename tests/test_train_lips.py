"""Lip-readers: they learn with and without words' times, resume byte for byte, and say how good they are."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import dheads
from corpus import make_corpus, write_corpus
from lip_corpus import N_FRAMES, SENTENCE, SPANS, make_lip_clip, make_lip_corpus

from dheads_cli.data.lip_clips import UNKNOWN, LipSet, frame_labels, spoken_clips
from dheads_cli.data.shards import Corpus
from dheads_cli.data.sync_clips import SyncViews
from dheads_cli.errors import DheadsError
from dheads_cli.model.checkpoint import load_hearing, load_tensors
from dheads_cli.model.lips import LipReader, build_lip_reader, load_lip_reader
from dheads_cli.model.sentence import labels_of
from dheads_cli.recipe_io import load_any_recipe, recipe_to_yaml
from dheads_cli.recipe_lips import LipsModel, LipsRecipe
from dheads_cli.run.lip_report import of_clips
from dheads_cli.run.train_lips import LipLoss, train_lips

CPU = torch.device("cpu")
LABELS = labels_of(SENTENCE)
MODEL = {"sentence": SENTENCE, "channels": 2, "embed_dim": 8, "hidden_dim": 8, "layers": 1, "dropout": 0.0}


def recipe(folder: Path | list[str], steps: int = 4, **changes: Any) -> LipsRecipe:
    settings = {
        "steps": steps, "batch_size": 4, "lr": 1e-2, "ema_decay": 0.5, "log_every": 2, "checkpoint_every": 100,
        "threads": 1, "precision": "float32",
    }  # fmt: skip
    return LipsRecipe.model_validate({
        "task": "lips", "name": "small", "data": {"path": folder if isinstance(folder, list) else str(folder)},
        "model": MODEL, "train": {**settings, **changes},
    })  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lip_corpus(tmp_path_factory.mktemp("lips") / "c")


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    run = tmp_path_factory.mktemp("runs") / "done"
    return run, train_lips(recipe(folder), run, device="cpu")


def test_mouths_are_read_after_training_and_not_before(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder, steps=40, lr=2e-2, warp=0, blur=0, batch_size=8)
    told = train_lips(settings, tmp_path / "run", device="cpu")["lips"]
    assert told == json.loads((tmp_path / "run/lips.json").read_text())
    assert told["chance"] == 0.5
    everyone = told["splits"]["val"][""]
    assert (everyone["n"], everyone["wer"], everyone["places"]) == (8, 0.0, [1.0, 1.0])
    assert told["splits"]["val"]["s0"]["wer_of_other"] == 0.5  # the other says one word of the two
    assert told["splits"]["val"].keys() == {"", "s0", "s1"}
    before = train_lips(recipe(folder, steps=1, lr=1e-9), tmp_path / "fresh", device="cpu")["lips"]
    assert before["splits"]["val"][""]["wer"] > 0.2


def test_a_resumed_run_equals_an_unbroken_one_byte_for_byte(
    folder: Path, done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    train_lips(recipe(folder, steps=2), tmp_path / "run", device="cpu")
    train_lips(recipe(folder), tmp_path / "run", device="cpu")
    for name in ("resume.safetensors", "checkpoints/step-000004.safetensors", "lips.json"):
        assert (tmp_path / "run" / name).read_bytes() == (done[0] / name).read_bytes()


def test_several_corpora_are_learned_from_and_each_is_judged(folder: Path, tmp_path: Path) -> None:
    longer = [make_lip_clip(i, ["train", "val"][i % 2], ("low", "wide")) for i in range(4)]
    longer = [
        replace(clip, frames=clip.frames.repeat(2, axis=0), landmarks=clip.landmarks.repeat(2, axis=0))
        for clip in longer
    ]
    other = write_corpus(tmp_path / "other", longer)
    both = recipe([str(folder), str(other)], steps=2)
    report = train_lips(both, tmp_path / "run", device="cpu")["lips"]
    assert {name: each[""]["n"] for name, each in report["splits"].items()} == {"c, val": 8, "other, val": 2}
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert {"loss", "loss/c", "loss/other"} <= log[0].keys()
    assert log[1]["val_loss"] == pytest.approx((log[1]["val_loss/c"] + log[1]["val_loss/other"]) / 2)


def test_frozen_convolutions_stay_as_they_are_and_go_with_the_checkpoint(
    folder: Path, done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    train_lips(recipe(folder, lips_weights=str(done[0]), freeze_lips=True), tmp_path / "run", device="cpu")
    name = "checkpoints/step-000004.safetensors"
    before, after = (load_tensors(run / name)[0] for run in (done[0], tmp_path / "run"))
    assert before.keys() == after.keys()
    for weight, tensor in before.items():
        assert torch.equal(tensor, after[weight]) == weight.startswith("lips."), weight
    train_lips(recipe(folder, lips_weights=str(done[0])), tmp_path / "free", device="cpu")
    free = load_tensors(tmp_path / "free" / name)[0]
    assert not torch.equal(before["lips.0.weight"], free["lips.0.weight"])


def test_weights_that_have_no_such_convolutions_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match=r"train\.lips_weights: .*tiny\.safetensors: \d+ of its weights do not fit"):
        train_lips(recipe(folder, lips_weights="tiny"), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_other_commands_say_that_it_is_a_lip_reader(done: tuple[Path, dict[str, Any]]) -> None:
    run = done[0]
    reader, its_recipe, path = load_lip_reader(run)
    assert (its_recipe.name, path.name, reader.lips.training) == ("small", "step-000004.safetensors", False)
    with pytest.raises(DheadsError, match="holds no audio encoder: its task is 'lips'"):
        load_hearing(run, CPU)
    with pytest.raises(DheadsError, match="is of the task 'video', not 'lips'"):
        load_lip_reader("tiny")
    assert "holds a lip-reader, which makes no samples" in dheads("eval", run).stderr


def test_a_clip_is_read_where_it_says_a_sentence_of_the_pattern(folder: Path, tmp_path: Path) -> None:
    clips = [make_lip_clip(number, "train", ("low", "wide")) for number in range(4)]
    for clip, text in zip(clips, ("low wide", "low", "wide low", None), strict=True):
        clip.info["text"] = text
    corpus = Corpus(write_corpus(tmp_path / "c", clips))
    assert [clip.words for clip in spoken_clips(corpus, corpus.clips("train"), SENTENCE)] == [["low", "wide"]]
    other = Corpus(make_corpus(tmp_path / "d", {"train": 1}))
    with pytest.raises(DheadsError, match="no clip of the split 'train' says a sentence of the pattern"):
        spoken_clips(other, other.clips("train"), SENTENCE)
    slow = Corpus(write_corpus(tmp_path / "e", [replace(clips[0], fps=20.0)]))
    with pytest.raises(DheadsError, match="has 20 frames/s, but lips are read at 25"):
        spoken_clips(slow, slow.clips("train"), SENTENCE)


def test_frames_have_the_word_that_is_said_in_their_middle() -> None:
    words = [{"word": "low", "start": 0.04, "end": 0.10}, {"word": "wide", "start": 0.10, "end": 0.13}]
    assert frame_labels(words, LABELS, 5).tolist() == [0, 1, 3, 0, 0]  # frame 2's middle is 0.10 s
    assert frame_labels(None, LABELS, 2).tolist() == [UNKNOWN, UNKNOWN]


def lip_set(folder: Path, split: str = "train") -> LipSet:
    corpus = Corpus(folder)
    clips = spoken_clips(corpus, corpus.clips(split), SENTENCE)
    views = SyncViews(1, flip=0.5, warp=1.0, light=1.0, blur=0.5)
    return LipSet(corpus, clips, LABELS, views=views, speaker_balance=0.5, cache_bytes=1e9, seed=3)


def test_a_part_of_a_batch_is_as_it_is_in_the_whole(folder: Path) -> None:
    data = lip_set(folder)
    whole, part = data.batch(7, 6), data.batch(7, 6, range(2, 4))
    for name in ("mouths", "labels", "sentences", "lengths"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[2:4]), name
    assert whole.mouths.shape == (6, N_FRAMES, 48, 48)
    timed = whole.labels[(whole.labels != UNKNOWN).all(dim=1)][0]
    assert (timed[slice(*SPANS[0])] > 0).all()
    assert (timed[:4] == 0).all()


class Knowing(LipReader):
    """Reads given logits."""

    def logits(self, mouths: torch.Tensor) -> torch.Tensor:
        return mouths[..., 0, 0][:, None].repeat(1, 1, 1) if mouths.dim() == 3 else mouths[:, :, 0, : 1 + len(LABELS)]


def test_the_loss_is_none_where_all_is_known_and_right_with_times_and_without(folder: Path) -> None:
    data = lip_set(folder)
    batch = next(iter(data.in_order(8)))
    by_time = {clip.ref.id: clip.labels for clip in data.clips if (clip.labels != UNKNOWN).any()}
    rows = []
    for clip in data.clips:
        twin = next(other for other in data.clips if other.words == clip.words and other.ref.id in by_time)
        rows.append(twin.labels)
    logits = 50 * torch.nn.functional.one_hot(torch.stack(rows), 48).float()
    sure = replace(batch, mouths=logits[:, :, None].expand(-1, -1, 48, -1))
    made = build_lip_reader(LipsModel.model_validate(MODEL))
    loss_of = LipLoss(Knowing(made.lips, made.reading, made.sentence), CPU, torch.float32)
    told = loss_of(sure, 0)
    assert told["loss"].abs().max() < 1e-3
    timed = (batch.labels != UNKNOWN).any(dim=1)
    assert told["accuracy"].tolist() == timed.float().tolist()
    wrong = replace(sure, mouths=sure.mouths.roll(1, dims=0).roll(1, dims=3))
    assert (loss_of(wrong, 0)["loss"] > 1).all()


def test_a_report_counts_words_by_place_and_against_another_clip() -> None:
    said = [["low", "wide"], ["high", "wide"]]
    told = of_clips(said, [["low", "narrow"], ["high", "wide"]])
    assert (told["wer"], told["places"], told["wer_of_other"]) == (0.25, [1.0, 0.5], 0.75)
    assert of_clips(said[:1], [[]]) == {"n": 1, "wer": 1.0, "places": [0.0, 0.0], "wer_of_other": None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train": {"freeze_lips": True}}, "needs lips_weights or weights"),
        ({"train": {"augment": {"gain": {}}}}, "a lip-reader hears none"),
        ({"model": {"sentence": [["a", "b"], ["b"]]}}, "a word must stand in one place, and once: b"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LipsRecipe.model_validate({"task": "lips", "name": "x", "model": MODEL, **changes})


def test_recipe_check_tries_the_convolutions(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path = tmp_path / "lips.yaml"
    path.write_text(recipe_to_yaml(recipe(tmp_path / "c", lips_weights=str(done[0]))))
    checked = dheads("recipe", "check", path, "--device", "cpu")
    assert "step-000004.safetensors fits" in checked.stdout
    assert "for 4 words" in checked.stdout


def test_the_shipped_recipe_has_grid_s_words() -> None:
    settings = load_any_recipe("lips/grid").recipe
    assert isinstance(settings, LipsRecipe)
    assert [len(words) for words in settings.model.sentence] == [4, 4, 4, 25, 10, 4]
    sizes = {name: sum(each.numel() for each in module.parameters())
             for name, module in build_lip_reader(settings.model).own_modules().items()}  # fmt: skip
    assert sizes["reading"] < 700_000
