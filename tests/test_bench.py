"""`dheads bench`: what it measures, and that its ratios follow from its times. No bounds on the times themselves."""

import io
import json
import math
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dheads_cli import console
from dheads_cli.data import media
from dheads_cli.data.corpora import ClipSource
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_model
from dheads_cli.model.checkpoint import load_model, save_tensors
from dheads_cli.recipe import Guidance, Preprocess, Recipe
from dheads_cli.recipe_model import Model
from dheads_cli.run import bench_parts
from dheads_cli.run.animate import animate
from dheads_cli.run.bench import bench, load_weights, rows
from dheads_cli.run.bench_animate import AnimateLoop, Pass, timed, write_speech
from dheads_cli.run.bench_parts import Timing, interleave
from dheads_cli.run.bench_preprocess import detector_rate, estimate_lrw_hours, preprocessing_rate, usable_clips
from dheads_cli.run.device_speed import Clock, convolution
from dheads_cli.run.doctor import FACE
from dheads_cli.run.identity import find_face

CPU = torch.device("cpu")
CLIP = Path(__file__).parent / "data/grid/s1/bbaf2n.mp4"
SETTINGS = Model(
    size=32, channels=32, channel_mult=[1, 1], n_res_blocks=1, head_dim=32, audio_encoder="logmel",
    prediction="identity_residual", learned_variance=False,
)  # fmt: skip
STEPS, BATCH = 2, 3


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with an audio encoder of its own, float32 so that every machine measures the same."""
    recipe = Recipe(
        name="small",
        model=SETTINGS,
        sample={"sampler": {"use": "ddim", "steps": STEPS}, "batch_size": BATCH},
        train={"batch_size": BATCH, "precision": "float32"},
    )
    torch.manual_seed(0)
    parts = build_model(SETTINGS, CPU)
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, module in parts.trained_modules().items()
        for name, tensor in module.state_dict().items()
    }
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_tensors(path, tensors, {"recipe": recipe.model_dump(mode="json"), "step": 7})
    return path


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("speech") / "speech.wav"
    write_speech(path, seconds=0.16)  # 4 frames
    return path


@pytest.fixture(scope="module")
def report(checkpoint: Path, speech: Path) -> tuple[dict[str, Any], str]:
    """What a short run found, and what it printed under --json."""
    console.configure(json=True)
    try:
        with redirect_stdout(io.StringIO()) as printed:
            found = bench(model=str(checkpoint), device="cpu", seconds=0.01, speech=speech)
    finally:
        console.configure()
    return found, printed.getvalue()


def test_json_is_the_report(report: tuple[dict[str, Any], str]) -> None:
    found, printed = report
    assert json.loads(printed).items() >= json.loads(json.dumps(found)).items()


def test_the_network_is_a_share_of_the_peak(report: tuple[dict[str, Any], str]) -> None:
    peak, forwards = report[0]["peak"], report[0]["forward"]
    assert {each["precision"] for each in forwards} == peak.keys() >= {"float32"}
    for precision in peak:
        one, several = (each for each in forwards if each["precision"] == precision)
        assert (one["batch_size"], several["batch_size"]) == (1, BATCH)
        assert several["gflop"] == pytest.approx(BATCH * one["gflop"])
        for each in (one, several):
            assert 0 < each["fastest_s"] <= each["median_s"]
            assert each["gflops"] == pytest.approx(each["gflop"] / each["fastest_s"])
            assert each["share_of_peak"] == pytest.approx(each["gflops"] / peak[precision]["gflops"])


def test_the_loop_has_parts_and_an_overhead(report: tuple[dict[str, Any], str]) -> None:
    loop = report[0]["animate"]
    assert loop["forwards_per_frame"] == STEPS
    assert loop["frames_per_s"] == pytest.approx(1 / loop["median_s"])
    assert loop["overhead"] > -1
    assert loop["overhead_over_own_forwards"] > 0  # the network is a part of the loop
    assert set(loop["shares"]) == {"audio", "network", "sampler", "video"}
    assert all(share > 0 for share in loop["shares"].values())


def test_training_is_measured_in_samples(report: tuple[dict[str, Any], str]) -> None:
    step = report[0]["train"]
    assert (step["batch_size"], step["precision"]) == (BATCH, "float32")
    assert step["samples_per_s"] == pytest.approx(BATCH / step["median_s"])


def test_what_was_left_out_is_said(report: tuple[dict[str, Any], str]) -> None:
    found, printed = report
    assert found["preprocess"] is None
    assert "--corpus" in " ".join(json.loads(printed)["skipped"])


def test_the_table_has_a_row_for_each_measurement(report: tuple[dict[str, Any], str]) -> None:
    rates = {
        "detector_frames_per_s": 40.0, "alone_frames_per_s": 30.0, "together_frames_per_s": 60.0,
        "frames_per_clip": 30.0, "alone_clips_per_h": 3600.0, "together_clips_per_h": 7200.0, "estimated_lrw_h": 9.0,
    }  # fmt: skip
    rounds = {"detector": [40.0], "alone": [30.0], "together": [60.0]}
    preprocess = {"workers": 2, "share_of_detector": 0.75, "share_of_detector_alone": 0.75, "rounds": rounds, **rates}
    table = {row[0]: row[1:] for row in rows(report[0] | {"preprocess": preprocess})}
    for what in ("convolution peak, float32", "network, float32, batch 1", "training step, float32, batch 3"):
        assert what in table
    assert table["preprocessing, 2 workers"] == [
        "16.7 ms", "16.7 ms", "60 frames/s", "75% of 2 x the detector (aim: 90%); 7200 clips/h",
    ]  # fmt: skip
    assert table["LRW on 16 such cores"] == [
        "", "", "9 h", "an estimate: 538766 clips of 29 frames at this speed a core",
    ]  # fmt: skip


def test_lrw_s_time_follows_from_the_speed_of_a_core() -> None:
    assert estimate_lrw_hours(frames_per_s=2 * 538_766, n_workers=2) == pytest.approx(29 / 16 / 3600)


def test_shipped_weights_that_are_not_there_are_told_so(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match=r"tiny\.safetensors: the shipped model's weights are not there.*--model"):
        load_weights(tmp_path / "tiny.safetensors", CPU)


def test_the_measured_loop_is_that_of_animate(checkpoint: Path, speech: Path, tmp_path: Path) -> None:
    animate(FACE, speech, str(tmp_path / "animate.mp4"), model=str(checkpoint), device="cpu")
    trained = load_model(checkpoint, CPU)
    crop = find_face(media.read_image(FACE), FACE, trained.recipe.preprocess, SETTINGS.size, None).crop
    loop = AnimateLoop(trained, crop, speech, tmp_path / "bench.mp4", 256, 1e9, Clock(CPU))
    loop()
    assert loop.passes[0].n_forwards == STEPS * loop.n_frames
    expected = media.read_video(tmp_path / "animate.mp4", 25).frames
    assert (media.read_video(tmp_path / "bench.mp4", 25).frames == expected).all()


def test_guided_evaluations_count_as_the_forwards_they_hold(checkpoint: Path, speech: Path, tmp_path: Path) -> None:
    trained = load_model(checkpoint, CPU)
    guidance = Guidance(audio=2.0, interval=[0.5, 1.0])  # one of the two steps
    sample = trained.recipe.sample.model_copy(update={"guidance": guidance})
    trained = replace(trained, recipe=trained.recipe.model_copy(update={"sample": sample}))
    crop = find_face(media.read_image(FACE), FACE, trained.recipe.preprocess, SETTINGS.size, None).crop
    loop = AnimateLoop(trained, crop, speech, tmp_path / "bench.mp4", 64, 1e9, Clock(CPU))
    loop()
    assert loop.passes[0].n_forwards == (STEPS + 1) * loop.n_frames


def test_a_pass_is_cut_to_the_time_there_is(checkpoint: Path, tmp_path: Path) -> None:
    write_speech(tmp_path / "speech.wav", seconds=2)
    trained = load_model(checkpoint, CPU)
    crop = find_face(media.read_image(FACE), FACE, trained.recipe.preprocess, SETTINGS.size, None).crop
    loop = AnimateLoop(trained, crop, tmp_path / "speech.wav", tmp_path / "out.mp4", 64, 1e-9, Clock(CPU))
    assert loop.n_frames == 1


class CountedClock(Clock):
    """A clock that is one second later each time it is read."""

    def __init__(self) -> None:
        super().__init__(CPU)
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_measurements_take_turns() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in ("a", "b")}
    with console.progress("test") as bar:
        timings = interleave(calls, seconds=2 * bench_parts.ROUNDS, clock=CountedClock(), bar=bar)
    assert order == ["a", "a", "b", "b"] * bench_parts.ROUNDS
    assert timings["a"].rounds == [[1.0, 1.0]] * bench_parts.ROUNDS


def test_a_slow_measurement_gets_fewer_rounds() -> None:
    with console.progress("test") as bar:
        timings = interleave({"slow": lambda: None}, seconds=1 / (2 * bench_parts.SLOW), clock=CountedClock(), bar=bar)
    assert timings["slow"].rounds == [[1.0]]


def test_a_timing_is_of_all_rounds() -> None:
    timing = Timing([[3.0, 1.0], [2.0]])
    assert (timing.fastest, timing.median) == (1.0, 2.0)


def test_the_parts_of_a_pass_add_up() -> None:
    done = Pass(total=10.0, audio=1.0, network=6.0, draw=8.0, n_forwards=4)
    assert done.shares == pytest.approx({"audio": 0.1, "network": 0.6, "sampler": 0.1, "video": 0.2})


def test_waiting_for_items_is_timed() -> None:
    done = Pass()
    assert list(timed("abc", CountedClock(), done, "draw")) == ["a", "b", "c"]
    assert done.draw == 4  # the end, too, has to be waited for


def test_a_convolution_s_flop_are_those_torch_counts() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    call, flop = convolution((2, 32, 8), torch.float32, CPU)
    with FlopCounterMode(display=False) as counter:
        call()
    assert counter.get_total_flops() == flop


def test_the_model_that_is_trained_is_a_copy(checkpoint: Path) -> None:
    trained = load_model(checkpoint, CPU)
    before = {name: tensor.clone() for name, tensor in trained.parts.unet.state_dict().items()}
    step = bench_parts.training_step(trained, CPU)()
    assert isinstance(step, dict)
    assert math.isfinite(step["loss"])
    for name, tensor in trained.parts.unet.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not trained.parts.unet.training


@pytest.fixture(scope="module")
def short_clips(tmp_path_factory: pytest.TempPathFactory) -> list[ClipSource]:
    """A folder's one usable clip, 16 frames of a real one, found behind a damaged one."""
    folder = tmp_path_factory.mktemp("corpus") / "s1"
    folder.mkdir()
    (folder / "damaged.mp4").write_bytes(b"no video")
    frames, sound = media.read_video(CLIP, 25).frames[:16], media.read_audio(CLIP, 16000)[: 16 * 640]
    with media.VideoWriter(folder / "usable.mp4", 25, (360, 288), sound) as writer:
        for frame in frames:
            writer.write(frame)
    return usable_clips(folder.parent, Preprocess(size=64))


def test_clips_that_preprocessing_skips_are_not_measured(short_clips: list[ClipSource]) -> None:
    assert [clip.id for clip in short_clips] == ["s1/usable"]


def test_preprocessing_and_its_detector_have_speeds(short_clips: list[ClipSource]) -> None:
    assert detector_rate(short_clips, Preprocess(size=64), seconds=0.01) > 0
    frames_per_s, clips_per_s = preprocessing_rate(short_clips, Preprocess(size=64), 1, seconds=0.01)
    assert frames_per_s > 0
    assert frames_per_s / clips_per_s == pytest.approx(16)


@pytest.mark.slow
def test_workers_are_measured_while_all_are_at_work(short_clips: list[ClipSource]) -> None:
    assert preprocessing_rate(short_clips, Preprocess(size=64), 2, seconds=0.01)[0] > 0


def test_a_folder_without_usable_clips_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "s1").mkdir()
    (tmp_path / "s1" / "damaged.mp4").write_bytes(b"no video")
    with pytest.raises(DheadsError, match="none of its first 1 clips can be used"):
        usable_clips(tmp_path, Preprocess())
