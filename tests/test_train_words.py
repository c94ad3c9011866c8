"""Word recognisers: they learn, resume byte for byte, and their audio encoders go on into talking-head models."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import dheads
from corpus import SIZE, make_corpus, write_corpus
from word_corpus import TONES_HZ, make_word_clip, make_word_corpus

from dheads_cli.data import media
from dheads_cli.data.manifest import MANIFEST, read_rows, write_rows
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_model
from dheads_cli.model.checkpoint import load_hearing, load_model, load_tensors
from dheads_cli.model.speech import encode_speech
from dheads_cli.model.words import build_recogniser
from dheads_cli.recipe import Preprocess, Recipe
from dheads_cli.recipe_io import load_any_recipe, recipe_to_yaml
from dheads_cli.recipe_words import WordsRecipe
from dheads_cli.run.preprocess import preprocess
from dheads_cli.run.train import train, training_sets
from dheads_cli.run.train_words import train_words, words_of
from dheads_cli.run.training_state import begin_or_resume
from dheads_cli.run.word_report import make_report

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

GRID = Path(__file__).parent / "data/grid"
LOGMEL = {"use": "logmel", "embed_dim": 16, "hidden_dim": 16}
RECURRENT = {"use": "waveform_gru", "embed_dim": 8, "history_frames": 1}


def recipe(folder: Path, encoder: Any = LOGMEL, steps: int = 4, *, n_frames: int = 5, **changes: Any) -> WordsRecipe:
    settings = {
        "steps": steps, "batch_size": 4, "lr": 1e-2, "ema_decay": 0.5, "log_every": 2, "checkpoint_every": 100,
        "threads": 1, "precision": "float32", "jitter_frames": 1, "noise_max": 0.001,
    }  # fmt: skip
    return WordsRecipe.model_validate({
        "task": "words", "name": "small",
        "data": {"path": str(folder)},
        "model": {"n_frames": n_frames, "audio_encoder": encoder},
        "train": {**settings, **changes},
    })  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_word_corpus(tmp_path_factory.mktemp("words") / "c")


@pytest.fixture(scope="module")
def heard(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the paper's encoder, hardly trained."""
    run = tmp_path_factory.mktemp("runs") / "heard"
    train_words(recipe(folder, RECURRENT), run, device="cpu")
    return run


def test_tones_are_told_apart(folder: Path, tmp_path: Path) -> None:
    done = train_words(recipe(folder, steps=60), tmp_path / "run", device="cpu")
    report = json.loads((tmp_path / "run/words.json").read_text())
    assert report == done["words"]
    assert {split: each["accuracy"] for split, each in report["splits"].items()} == {"test": 1.0, "val": 1.0}
    assert report["splits"]["test"]["n"] == 6
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert log[-1]["val_accuracy"] == 1.0
    assert {"loss", "accuracy", "grad_norm"} <= log[0].keys()
    again = train_words(recipe(folder, steps=60), tmp_path / "run", device="cpu")  # at its end: scored again
    assert again["words"] == report


def test_an_untrained_recogniser_does_not_tell_them_apart(folder: Path, tmp_path: Path) -> None:
    done = train_words(recipe(folder, steps=1, lr=1e-9), tmp_path / "run", device="cpu")
    assert done["words"]["splits"]["test"]["accuracy"] < 0.7


@pytest.mark.parametrize("encoder", [LOGMEL, RECURRENT])
def test_a_resumed_run_equals_an_unbroken_one_byte_for_byte(folder: Path, tmp_path: Path, encoder: Any) -> None:
    unbroken, resumed = tmp_path / "unbroken", tmp_path / "resumed"
    train_words(recipe(folder, encoder), unbroken, device="cpu")
    train_words(recipe(folder, encoder, steps=2), resumed, device="cpu")
    assert load_tensors(resumed / "resume.safetensors")[1]["step"] == 2
    train_words(recipe(folder, encoder), resumed, device="cpu")
    for name in ("resume.safetensors", "checkpoints/step-000004.safetensors", "words.json"):
        assert (resumed / name).read_bytes() == (unbroken / name).read_bytes()


def test_a_checkpoint_says_which_words_it_knows(folder: Path, heard: Path, tmp_path: Path) -> None:
    _, info = load_tensors(heard / "checkpoints/step-000004.safetensors")
    assert info["vocabulary"] == sorted(TONES_HZ)
    clips = [make_word_clip(number, split, ("low",)) for number, split in enumerate(["train", "val"])]
    other = write_corpus(tmp_path / "c", clips)
    shutil.copytree(heard, tmp_path / "run")
    with pytest.raises(DheadsError, match=r"holds a run of another vocabulary than .*/c gives now"):
        train_words(recipe(other, RECURRENT, steps=5), tmp_path / "run", device="cpu")


def test_a_run_begun_anew_has_no_report_of_the_old_one(folder: Path, heard: Path, tmp_path: Path) -> None:
    shutil.copytree(heard, tmp_path / "run")
    with pytest.raises(DheadsError, match=r"not finite at step \d+ \(loss nan"):
        train_words(recipe(folder, steps=50, lr=1e30), tmp_path / "run", device="cpu", restart=True)
    assert not (tmp_path / "run/words.json").exists()


def test_only_clips_with_measures_that_are_kept_are_heard(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "c")
    rows = read_rows(tmp_path / "c" / MANIFEST)
    write_rows(tmp_path / "c" / MANIFEST, [replace(row, quality={"n": float(k)}) for k, row in enumerate(rows)])
    corpus = Corpus(tmp_path / "c")
    all_words, some = words_of(corpus, "train", {}), words_of(corpus, "train", {"n": (None, 1.0)})
    assert {each.ref.id for each in some} == {row.id for row in rows[:2] if row.split == "train"}
    assert len(some) < len(all_words)


def test_a_corpus_without_word_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match="no clip of the split 'train' has words with their times"):
        train_words(recipe(make_corpus(tmp_path / "c", {"train": 1, "val": 1})), tmp_path / "run", device="cpu")


def test_other_commands_say_that_it_makes_no_video(heard: Path, tmp_path: Path) -> None:
    for words in (["sample", heard], ["animate", GRID / "../face.jpg", GRID / "s1/bbaf2n.mp4", "--model", heard]):
        ended = dheads(*words, *(["-o", tmp_path / "out.mp4"] if words[0] == "animate" else []))
        assert ended.code == 2
    assert "its task is 'words', but this takes a talking-head model" in dheads("sample", heard).stderr
    assert dheads("eval", heard).stderr.startswith(f"error: {heard}: holds a word recogniser, which makes no samples")


# A recogniser's audio encoder in another model


def video(folder: Path, steps: int = 2, encoder: Any = RECURRENT, **changes: Any) -> Recipe:
    settings = {
        "steps": steps, "batch_size": 8, "log_every": 1, "sample_every": 0, "threads": 1, "precision": "float32",
        "vlb_weight": 0.01,
    }  # fmt: skip
    model = {"size": SIZE, "patch_size": 4, "channels": 32, "channel_mult": [1], "n_res_blocks": 1, "head_dim": 32}
    return Recipe.model_validate({
        "name": "small", "data": {"path": str(folder)},
        "model": {**model, "audio_encoder": encoder},
        "train": {**settings, **changes},
    })  # fmt: skip


def hearing_of(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in load_tensors(path)[0].items() if name.startswith("audio_encoder.")}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


def test_a_frozen_encoder_stays_as_it_is_and_goes_with_the_checkpoint(
    folder: Path, heard: Path, tmp_path: Path
) -> None:
    weights = tmp_path / "weights"
    shutil.copytree(heard, weights)
    frozen = {"audio_encoder_weights": str(weights), "freeze_audio_encoder": True}
    unbroken, resumed = tmp_path / "unbroken", tmp_path / "resumed"
    train(video(folder, **frozen), unbroken, device="cpu")
    train(video(folder, steps=1, **frozen), resumed, device="cpu")
    learned = hearing_of(heard / "checkpoints/step-000004.safetensors")
    shutil.rmtree(weights)  # a run needs them to begin, and never again
    train(video(folder, **frozen), resumed, device="cpu")
    for name in ("resume.safetensors", "checkpoints/step-000002.safetensors"):
        assert (resumed / name).read_bytes() == (unbroken / name).read_bytes()
    assert same(hearing_of(unbroken / "checkpoints/step-000002.safetensors"), learned)
    encoder = load_model(unbroken, torch.device("cpu")).parts.audio_encoder
    assert not encoder.training  # type: ignore[attr-defined]
    assert torch.equal(encoder.convs[0].weight, learned["audio_encoder.convs.0.weight"])  # type: ignore[attr-defined]


def test_the_encoder_of_a_recogniser_or_of_a_talking_head_is_had_alone(
    folder: Path, heard: Path, tmp_path: Path
) -> None:
    frozen = {"audio_encoder_weights": str(heard), "freeze_audio_encoder": True}
    train(video(folder, steps=1, **frozen), tmp_path, device="cpu")
    learned = hearing_of(heard / "checkpoints/step-000004.safetensors")
    for run in (heard, tmp_path):
        encoder, component = load_hearing(run, torch.device("cpu"))
        assert component.use == "waveform_gru"
        assert not encoder.training  # type: ignore[attr-defined]
        assert same({f"audio_encoder.{n}": t for n, t in encoder.state_dict().items()}, learned)  # type: ignore[attr-defined]


def test_a_frozen_encoder_is_heard_as_in_a_recording(folder: Path, heard: Path) -> None:
    settings = video(folder, audio_encoder_weights=str(heard), freeze_audio_encoder=True)
    parts = build_model(settings.model, freeze_audio_encoder=True)
    begin_or_resume(Path("none"), settings, parts, restart=False)
    data = training_sets(settings, parts, "train")[0]
    clip = data.corpus.load(data.clips[0])
    whole = encode_speech(parts.audio_encoder, torch.from_numpy(clip.waveform), len(clip.frames), clip.fps)
    assert torch.equal(data.clip(data.clips[0]).sound, whole.half().float())  # as all frozen encoders
    assert data.batch(1, 2).audio_index is None


def test_an_encoder_that_is_only_begun_with_goes_on_learning(folder: Path, heard: Path, tmp_path: Path) -> None:
    train(video(folder, steps=1, audio_encoder_weights=str(heard)), tmp_path / "run", device="cpu")
    learned = hearing_of(heard / "checkpoints/step-000004.safetensors")
    now = hearing_of(tmp_path / "run/checkpoints/step-000001.safetensors")
    # Through layers that begin as zero no gradient comes in the first step, but batch norm has heard the batch.
    weight, mean = "audio_encoder.gru.weight_hh_l0", "audio_encoder.norms.0.running_mean"
    assert torch.equal(now[weight], learned[weight])
    assert not torch.equal(now[mean], learned[mean])
    assert f"exp_avg.{weight}" in load_tensors(tmp_path / "run/resume.safetensors")[0]
    with pytest.raises(DheadsError, match=r"another recipe \(train\.audio_encoder_weights differ\)"):
        train(video(folder, steps=2), tmp_path / "run", device="cpu")


def test_a_linear_probe_leaves_the_encoder_as_it_is(folder: Path, heard: Path, tmp_path: Path) -> None:
    frozen = {"audio_encoder_weights": str(heard), "freeze_audio_encoder": True}
    train_words(recipe(folder, RECURRENT, **frozen), tmp_path / "run", device="cpu")
    tensors, _ = load_tensors(tmp_path / "run/resume.safetensors")
    assert {name for name in tensors if name.startswith("raw.")} == {"raw.head.weight", "raw.head.bias"}
    now = hearing_of(tmp_path / "run/checkpoints/step-000004.safetensors")
    assert same(now, hearing_of(heard / "checkpoints/step-000004.safetensors"))


def test_a_frozen_encoder_is_computed_once_and_kept_beside_the_shards(
    folder: Path, heard: Path, tmp_path: Path
) -> None:
    shutil.copytree(folder, tmp_path / "c", ignore=shutil.ignore_patterns("embeddings"))
    frozen = {"audio_encoder_weights": str(heard), "freeze_audio_encoder": True, "augment": {"variants": 1, "gain": {}}}
    settings = recipe(tmp_path / "c", RECURRENT, **frozen)
    off = settings.model_copy(update={"data": settings.data.model_copy(update={"embeddings": "off"})})
    train_words(off, tmp_path / "off", device="cpu")
    assert not (tmp_path / "c/embeddings").exists()
    train_words(settings, tmp_path / "kept", device="cpu")
    kept = {path.name for path in (tmp_path / "c/embeddings").rglob("*.safetensors")}
    assert kept == {"train-000000.safetensors", "val-000000.safetensors"}
    assert len(list((tmp_path / "c/embeddings").rglob("train-*.safetensors"))) == 2  # clean, and augmented
    assert same(*(load_tensors(tmp_path / run / "resume.safetensors")[0] for run in ("off", "kept")))


@pytest.mark.parametrize(
    ("encoder", "weights", "message"),
    [
        ({"use": "waveform_gru", "embed_dim": 12}, "heard", "8 of its audio encoder's weights do not fit"),
        ({"use": "logmel"}, "heard", "do not fit model.audio_encoder 'logmel', audio_encoder.convs.0.bias first"),
        ("whisper", "heard", "'whisper' brings its own weights: leave it out"),
        (RECURRENT, "tiny", "holds no audio encoder: its model has one that brings its own weights"),
        (RECURRENT, "nowhere", "model 'nowhere': no such file or run folder"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    folder: Path, heard: Path, tmp_path: Path, encoder: Any, weights: str, message: str
) -> None:
    weights = str(heard) if weights == "heard" else weights
    with pytest.raises(DheadsError, match=message):
        train(video(folder, encoder=encoder, audio_encoder_weights=weights), tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_recipe_check_tries_the_weights_that_training_begins_with(heard: Path, tmp_path: Path) -> None:
    def check(weights: Any, embed_dim: int = 8) -> Any:
        encoder = RECURRENT | {"embed_dim": embed_dim}
        path = tmp_path / "words.yaml"
        path.write_text(recipe_to_yaml(recipe(tmp_path / "c", encoder, audio_encoder_weights=str(weights))))
        return dheads("recipe", "check", path, "--device", "cpu")

    assert "step-000004.safetensors fits" in check(heard).stdout
    assert "no such file or run folder" in check(tmp_path / "later").stdout  # as a corpus that is not there yet
    assert (check(heard, 12).code, "do not fit model.audio_encoder" in check(heard, 12).stderr) == (2, True)


# Corpora and recipes


def test_an_lrw_folder_is_learned_from_end_to_end(tmp_path: Path) -> None:
    for word, source in (("ABOUT", GRID / "s1/bbaf2n.mp4"), ("BECAUSE", GRID / "s2/bbaf1n.mp4")):
        frames, sound = media.read_video(source, 25).frames, media.read_audio(source, 16000)
        for split in ("train", "val"):
            path = tmp_path / f"lrw/{word}/{split}/{word}_00001.mp4"
            path.parent.mkdir(parents=True)
            with media.VideoWriter(path, 25, (360, 288), sound[: 29 * 640]) as writer:
                for frame in frames[:29]:
                    writer.write(frame)
            path.with_suffix(".txt").write_text(f"Text:  {word}\n")
    preprocess(tmp_path / "lrw", tmp_path / "c", Preprocess(size=32, workers=1))
    done = train_words(recipe(tmp_path / "c", steps=30, n_frames=29), tmp_path / "run", device="cpu")
    assert done["words"]["n_classes"] == 2
    assert done["words"]["splits"]["val"] == {
        "n": 2, "accuracy": 1.0, "groups": {},
        "words": {word: {"n": 1, "accuracy": 1.0, "taken_for": {}} for word in ("about", "because")},
    }  # fmt: skip


@pytest.mark.parametrize(("name", "n_words"), [("audio/words-lrw", 500), ("audio/words-grid", 51)])
def test_shipped_recipes_build_the_paper_s_encoder(name: str, n_words: int) -> None:
    settings = load_any_recipe(name).recipe
    assert isinstance(settings, WordsRecipe)
    cpu = torch.device("cpu")
    recogniser = build_recogniser(settings.model, n_words, cpu, freeze_audio_encoder=False)
    sizes = {
        name: sum(parameter.numel() for parameter in module.parameters())
        for name, module in recogniser.trained_modules().items()
    }
    assert sizes == {"head": 257 * n_words, "audio_encoder": 1_490_896}


def test_lrw_is_heard_ten_times() -> None:
    train_section = load_any_recipe("audio/words-lrw").recipe.train
    assert train_section.steps == round(10 * 488_766 / train_section.batch_size)


def test_only_the_middle_frames_are_averaged() -> None:
    settings = load_any_recipe("audio/words-grid").recipe
    assert isinstance(settings, WordsRecipe)
    recogniser = build_recogniser(settings.model, 3, torch.device("cpu"), freeze_audio_encoder=True)
    assert recogniser.hears_embeddings
    embeddings = torch.randn(2, 11, 256)
    changed = embeddings.clone()
    changed[:, [0, 1, 2, 8, 9, 10]] = 7.0
    assert torch.equal(recogniser.logits(embeddings), recogniser.logits(changed))
    assert torch.allclose(recogniser.logits(embeddings), recogniser.head(embeddings[:, 3:8].mean(dim=1)))


def test_a_report_counts_words_and_places_in_the_sentence() -> None:
    vocabulary = ["a", "b", "bin", "two"]
    report = make_report(5, vocabulary, {"test": [0, 0, 1, 2, 3]}, {"test": [0, 1, 1, 2, 2]})["splits"]["test"]
    assert (report["n"], report["accuracy"]) == (5, 0.6)
    assert report["groups"] == {"command": 1.0, "letter": pytest.approx(2 / 3), "digit": 0.0}
    assert report["words"]["a"] == {"n": 2, "accuracy": 0.5, "taken_for": {"b": 1}}
    assert make_report(5, ["about"], {"test": [0]}, {"test": [0]})["splits"]["test"]["groups"] == {}
