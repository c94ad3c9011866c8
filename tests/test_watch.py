"""Watching a model in training: mouths measured as evaluation does, pictures that can be looked at, nothing lost."""

import io
import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from corpus import FPS, RATE, SIZE, make_clip, make_corpus
from numpy.typing import NDArray
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy_training import learn
from toy_training import recipe as toy_recipe

from dheads_cli.data.mouth import mouth_opening, pearson
from dheads_cli.data.provenance import made_here, read_provenance
from dheads_cli.data.shards import Corpus
from dheads_cli.model.build import build_model
from dheads_cli.model.checkpoint import load_tensors
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_section import Component
from dheads_cli.run.train import train
from dheads_cli.run.training_log import Drawn
from dheads_cli.run.training_loop import Pictures
from dheads_cli.run.watch import (
    beginning,
    best_before,
    cost_in_words,
    in_words,
    measured,
    mouth_r,
    other_clip,
    watch_of,
    with_fewer_steps,
)
from dheads_cli.run.watch_pictures import grid_png, talking_gif, write_talking

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class DarkMouth:
    """Finds the made-up faces' mouth: its dark rows; no face where there are none."""

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        landmarks = np.full((len(frames), 68, 2), np.nan, np.float32)
        for k, frame in enumerate(frames):
            rows = np.flatnonzero(frame[:, SIZE // 2, 0] < 60)
            if len(rows):
                landmarks[k] = 0
                landmarks[k, 42:48, 0] = 10  # eyes 10 px apart
                landmarks[k, 60:64, 1], landmarks[k, 64:68, 1] = rows[0], rows[-1] + 1
        return landmarks

    def all_faces(self, image: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        raise NotImplementedError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("corpus") / "c", {"train": 3, "val": 4}, n_frames=12)


def recipe(folder: Path, **changes: object) -> Recipe:
    settings = {
        "steps": 2, "batch_size": 2, "checkpoint_every": 2, "log_every": 1, "sample_every": 1, "threads": 1,
        "precision": "float32", "watch_clips": 2, "watch_s": 0.4,
    }  # fmt: skip
    return Recipe.model_validate({
        "name": "small",
        "data": {"path": str(folder)},
        "model": {
            "size": SIZE, "channels": 32, "channel_mult": [1], "n_res_blocks": 1, "head_dim": 32,
            "audio_encoder": {"use": "logmel", "embed_dim": 8},
        },
        "train": {**settings, **changes},
        "sample": {"sampler": {"use": "ddim", "steps": 1}},
    })  # fmt: skip


def test_r_is_that_of_the_drawn_mouth_and_the_real_landmarks() -> None:
    clips = [make_clip(number, "val") for number in (1, 2)]
    faithful, swapped = [clip.frames for clip in clips], [clip.frames for clip in clips[::-1]]
    own, other = mouth_r(faithful, clips, DarkMouth()), mouth_r(swapped, clips, DarkMouth())
    assert own == pytest.approx([1, 1], abs=0.1)  # whole pixels, beside landmarks between them
    expected = pearson(mouth_opening(DarkMouth()(clips[1].frames)), mouth_opening(clips[0].landmarks))
    assert other[0] == pytest.approx(expected)
    assert expected < 0.9


def test_without_a_face_there_is_no_r_and_it_is_said() -> None:
    clip = make_clip(1, "val")
    blob = np.full_like(clip.frames, 128)
    assert mouth_r([blob, clip.frames], [clip, clip], DarkMouth())[0] is None
    values = measured([None, None], [None, None])
    assert values == {"mouth_clips": 0.0}
    assert in_words(values, 2, None) == "mouth r not measured: no face is found in what is drawn"
    values = measured([None, 0.5, 0.75], [])
    assert values == {"mouth_clips": 2.0, "mouth_r": 0.625, "mouth_r_lowest": 0.5}
    assert in_words(values, 3, None) == "mouth r 0.62 (lowest 0.50, no face in 1 of 3)"


def test_one_line_says_whether_the_model_listens_what_was_best_and_what_it_cost() -> None:
    said = in_words(measured([0.9, 0.5], [0.25, None]), 2, (0.8, 500))
    assert said == "mouth r 0.70 (lowest 0.50), shuffled 0.25; best before 0.80 at step 500"
    assert cost_in_words(14.4, 0.03) == "drawn in 14 s, 3% of the time"
    assert "watch_s" in cost_in_words(14.4, 0.5)


def test_the_best_is_the_highest_of_as_many_clips_as_were_ever_measured(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert best_before(log, 9) is None
    rows = [(1, 1, 0.99), (2, 4, 0.7), (3, 4, 0.8), (4, 4, 0.6), (5, 4, 0.9)]
    lines = [{"step": step, "mouth_clips": n, "mouth_r": r} for step, n, r in rows] + [{"step": 4, "loss": 1.0}]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert best_before(log, 5) == (0.8, 3)


def test_the_other_sound_is_of_the_same_speaker_where_there_is_one(folder: Path) -> None:
    corpus = Corpus(folder)
    val = {ref.id: ref for ref in corpus.clips("val")}
    other = {name: other_clip(ref, list(val.values())).id for name, ref in val.items()}
    assert other == {"s1/clip3": "s1/clip5", "s1/clip5": "s1/clip3", "s0/clip4": "s0/clip6", "s0/clip6": "s0/clip4"}
    assert other_clip(val["s1/clip3"], [val["s1/clip3"], val["s0/clip4"]]).id == "s0/clip4"


def test_a_sampler_takes_no_more_steps_than_watching_may() -> None:
    def steps(sampler: object, most: int) -> object:
        return with_fewer_steps(Component.model_validate(sampler), most).model_dump()

    assert steps({"use": "ddim", "steps": 3}, 25) == {"use": "ddim", "steps": 3}
    assert steps({"use": "ddim", "steps": 100, "eta": 0.5}, 25) == {"use": "ddim", "steps": 25, "eta": 0.5}
    assert steps("ddpm", 25) == {"use": "ddpm", "steps": 25}  # by default it takes 200


def test_a_beginning_has_the_sound_of_its_frames() -> None:
    clip = beginning(make_clip(1, "val"), 5)
    assert (len(clip.frames), len(clip.landmarks), len(clip.waveform)) == (5, 5, round(5 / FPS * RATE))


def test_the_video_has_the_real_clip_left_the_drawn_one_right_and_the_sound(tmp_path: Path) -> None:
    clips = [make_clip(number, "val", n_frames=10) for number in (1, 2)]
    drawn = [255 - clip.frames for clip in clips]
    write_talking(tmp_path / "talking.mp4", clips, drawn, made_here("tiny", 3).tags("step 5"))
    assert read_provenance(tmp_path / "talking.mp4") == made_here("tiny", 3)
    with av.open(str(tmp_path / "talking.mp4")) as file:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]).astype(float)
    with av.open(str(tmp_path / "talking.mp4")) as file:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    assert frames.shape == (20, 256, 512, 3)
    shown = np.concatenate([np.concatenate([clip.frames for clip in clips]), np.concatenate(drawn)], axis=2)
    assert np.abs(frames[:, 4::8, 4::8] - shown).mean() < 12  # of 255: what chroma at half the width costs
    wave = np.concatenate([clip.waveform for clip in clips])
    loudness = [np.abs(each[: len(wave)].reshape(-1, 640)).mean(axis=1) for each in (sound, wave)]  # a frame each
    assert np.corrcoef(*loudness)[0, 1] > 0.9


def test_the_gif_moves_at_the_clips_rate_with_the_real_above_the_drawn() -> None:
    clips = [make_clip(number, "val", n_frames=10) for number in (1, 2, 3)]
    drawn = [255 - clip.frames for clip in clips]
    with Image.open(io.BytesIO(talking_gif(clips, drawn))) as gif:
        assert (gif.format, gif.size, gif.info["loop"], gif.info["duration"]) == ("GIF", (2 * SIZE, 2 * SIZE), 0, 40)
        n_frames = 0
        for n_frames in range(getattr(gif, "n_frames", 1)):
            gif.seek(n_frames)
            shown = np.asarray(gif.convert("RGB")).astype(float)
            expected = np.vstack([np.hstack([each[i][n_frames] for i in (0, 1)]) for each in (
                [clip.frames for clip in clips], drawn)])  # fmt: skip
            assert np.abs(shown - expected).mean() < 8
    assert n_frames == 9


def test_the_grid_has_real_frames_above_drawn_ones() -> None:
    clips = [make_clip(number, "val", n_frames=10) for number in (1, 2)]
    with Image.open(io.BytesIO(grid_png(clips, [255 - clip.frames for clip in clips]))) as grid:
        shown = np.asarray(grid)
    assert shown.shape == (4 * SIZE, 3 * SIZE, 3)  # frames 0, 4, 8
    assert (shown[:SIZE, SIZE : 2 * SIZE] == clips[0].frames[4]).all()
    assert (shown[3 * SIZE :, :SIZE] == 255 - clips[1].frames[0]).all()


def events_of(run: Path) -> EventAccumulator:
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0, "scalars": 0})
    return events.Reload()


def test_training_shows_grid_and_talking_clip_in_the_folder_and_in_tensorboard(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    train(recipe(folder), run, device="cpu")
    pictures = {"grid-000001.png", "grid-000002.png", "talking-000001.mp4", "talking-000002.mp4"}
    assert pictures <= {path.name for path in run.iterdir()}
    assert "step 1: mouth r not measured: no face is found in what is drawn" in capsys.readouterr().err
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    watched = [line for line in lines if "mouth_clips" in line]
    assert [(line["step"], line["mouth_clips"]) for line in watched] == [(1, 0), (2, 0)]
    assert all(line["watch_s"] > 0 for line in watched)
    events = events_of(run)
    assert {"loss", "val_loss", "val_loss/t_000-249", "mouth_clips", "watch_s"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Images("talking")] == [1, 2]
    grid, talking = (events.Images(tag)[-1] for tag in ("grid", "talking"))
    assert grid.encoded_image_string == (run / "grid-000002.png").read_bytes()
    with Image.open(io.BytesIO(talking.encoded_image_string)) as gif:
        assert (gif.format, gif.size) == ("GIF", (talking.width, talking.height))


def test_watching_changes_nothing_in_training(folder: Path, tmp_path: Path) -> None:
    for name, every in (("watched", 1), ("alone", 0)):
        train(recipe(folder, sample_every=every, watch_clips=0), tmp_path / name, device="cpu")
    assert len(list((tmp_path / "watched").glob("grid-*.png"))) == 2  # and no talking clip: there is none to watch
    assert not list((tmp_path / "watched").glob("talking-*"))
    watched, alone = (load_tensors(tmp_path / name / "resume.safetensors")[0] for name in ("watched", "alone"))
    assert all(torch.equal(watched[name], tensor) for name, tensor in alone.items())


def test_a_still_face_has_r_0_with_any_sound(folder: Path, tmp_path: Path) -> None:
    settings = recipe(folder)
    model = settings.model.model_copy(update={"prediction": "identity_residual", "learned_variance": False})
    settings = settings.model_copy(update={"model": model})
    parts = build_model(model)  # its last layer is zero: it draws the identity frame
    parts.unet.eval()
    corpus = Corpus(folder)
    watch = replace(watch_of(settings, parts, corpus, corpus.clips("val"), tmp_path, 0), detector=DarkMouth())
    values = watch(1).values
    assert values.pop("watch_s") > 0
    assert values == {"mouth_clips": 2, "mouth_r": 0, "mouth_r_lowest": 0, "mouth_r_shuffled": 0}


def test_pictures_of_an_earlier_run_go_when_another_begins(folder: Path, tmp_path: Path) -> None:
    for name in ("grid-000009.png", "talking-000009.mp4", ".talking-000009.mp4.7.part"):
        (tmp_path / name).write_bytes(b"")
    corpus, parts = Corpus(folder), torch.nn.Module()
    settings = recipe(folder, watch_clips=0)
    watch_of(settings, parts, corpus, corpus.clips("val"), tmp_path, 3)  # type: ignore[arg-type]
    assert {path.name for path in tmp_path.iterdir()} == {"grid-000009.png", "talking-000009.mp4"}
    watch_of(settings, parts, corpus, corpus.clips("val"), tmp_path, 0)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def draw_number(run: Path, step: int) -> Drawn:
    (run / f"grid-{step}.png").write_bytes(png(step))
    return Drawn({"drawn": float(step)}, {"grid": png(step)})


def be_killed_at_4(corpus: Path, run: Path) -> None:
    """Train until killed in the middle of drawing."""

    def draw(step: int) -> Drawn:
        if step == 4:
            (run / "grid-4.png").write_bytes(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        return draw_number(run, step)

    learn(toy_recipe(corpus), run, pictures=Pictures(2, draw))


def test_killed_while_drawing_a_run_draws_that_step_again_and_once(tmp_path: Path) -> None:
    corpus, run = tmp_path / "corpus", tmp_path / "run"  # a checkpoint every 2 of 6 steps
    process = multiprocessing.get_context("spawn").Process(target=be_killed_at_4, args=(corpus, run))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    time.sleep(1.1)  # event files are told apart, and read in order, by the second they were begun
    learn(toy_recipe(corpus), run, pictures=Pictures(2, partial(draw_number, run)))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["drawn"] for line in lines if "drawn" in line] == [2, 4, 6]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    events = events_of(run)
    assert [event.step for event in events.Images("grid")] == [2, 4, 6]
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert (run / "grid-4.png").read_bytes() == png(4)
