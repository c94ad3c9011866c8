"""`dheads drift`: joined sentences, every second's values, and trends with known answers."""

import json

import numpy as np
import pytest
import torch
from corpus import FPS, RATE, SIZE, make_corpus
from PIL import Image
from test_train import recipe

from dheads_cli import registry
from dheads_cli.data.long_clips import join_clips, plan_long_clips
from dheads_cli.data.media import read_video
from dheads_cli.data.shards import Corpus
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_model
from dheads_cli.model.checkpoint import save_tensors
from dheads_cli.run.drift import REPORT, drift, measure, scored, variants_of
from dheads_cli.run.drift_series import Gauges, frame_difference, line_slope, mouth_correlation, trend_of

# 30 frames a clip: s0 has clips 0, 2, ... and s1 the others.
N_CLIPS, N_FRAMES = 20, 30


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus") / "c", {"test": N_CLIPS}, n_frames=N_FRAMES)


def test_long_clips_take_speakers_in_turn_and_no_sentence_twice(folder):
    corpus = Corpus(folder)
    plan = plan_long_clips(corpus, "test", None, seconds=5.0, n_clips=9, fps=FPS)  # 125 frames: five clips
    assert [refs[0].speaker for refs in plan] == ["s0", "s1", "s0", "s1"]  # ten clips each: two long ones
    assert all(len(refs) == 5 for refs in plan)
    used = [ref.id for refs in plan for ref in refs]
    assert len(set(used)) == len(used)
    assert [len(plan_long_clips(corpus, "test", None, 5.0, n, FPS)) for n in (1, 3)] == [1, 3]


def test_too_little_speech_is_said_with_what_there_is(folder):
    with pytest.raises(DheadsError, match=r"no speaker .* has 60 s of speech; s\d has most, 12 s: lower --seconds"):
        plan_long_clips(Corpus(folder), "test", None, 60.0, 1, FPS)
    with pytest.raises(DheadsError, match="no clips of speaker 's9'"):
        plan_long_clips(Corpus(folder), "test", "s9", 5.0, 1, FPS)


def test_joined_sentences_keep_each_frame_with_its_sound(folder):
    corpus = Corpus(folder)
    refs = corpus.clips("test")[0:6:2]
    joined = join_clips(corpus, refs, "s0-0", 70)
    clips = [corpus.load(ref) for ref in refs]
    hop = round(RATE / FPS)
    assert joined.joins == (30, 60)
    assert len(joined.frames) == len(joined.landmarks) == 70
    assert len(joined.waveform) == 70 * hop
    for k, (number, frame) in {0: (0, 0), 29: (0, 29), 30: (1, 0), 69: (2, 9)}.items():
        assert np.array_equal(joined.frames[k], clips[number].frames[frame])
        assert np.array_equal(joined.landmarks[k], clips[number].landmarks[frame])
        own = clips[number].waveform[frame * hop : (frame + 1) * hop]
        assert np.array_equal(joined.waveform[k * hop : (k + 1) * hop], own)


def test_the_slope_of_a_line_is_its_own_whatever_is_missing():
    values = 0.5 - 0.02 * np.arange(20)
    values[[3, 17]] = np.nan
    assert line_slope(values) == pytest.approx(-0.02)
    assert line_slope(np.array([1.0, np.nan])) == 0


def test_a_trend_is_the_mean_of_its_clips_slopes_within_student_s_interval():
    # Slopes a minute of 0.6, 1.2 and 1.8: mean 1.2, standard error 0.6 / sqrt 3, Student's t of two degrees 4.3027.
    trend = trend_of([np.arange(30) * slope for slope in (0.01, 0.02, 0.03)])
    half = 4.3027 * 0.6 / 3**0.5
    assert (trend.slope, trend.low, trend.high) == pytest.approx((1.2, 1.2 - half, 1.2 + half), abs=1e-3)
    assert trend.is_steady  # three clips that disagree so much prove nothing
    assert (trend.first, trend.last) == pytest.approx((0.04, 0.54))


def test_clips_that_agree_on_a_slope_are_not_steady_and_one_clip_has_no_interval():
    falling = [1 - 0.01 * np.arange(30) + shift for shift in (0.0, 0.1)]
    falling[1][-1] += 0.001
    assert trend_of(falling).is_steady is False
    assert trend_of(falling[:1]).low is None


def test_frame_differences_are_in_levels_and_leave_out_joins():
    frames = np.zeros((50, 4, 4, 3), np.uint8)
    frames[25:] += np.arange(0, 250, 10, dtype=np.uint8)[:, None, None, None]  # 10 levels a frame in the second second
    assert frame_difference(frames, 25) == pytest.approx([0, 9.6])  # 25 pairs, the first of them without a step
    frames[25:] = 200
    assert frame_difference(frames, 25, joins=[25]).tolist() == [0, 0]


def test_the_mouth_s_correlation_is_one_with_itself_and_unknown_where_the_real_one_is_still():
    landmarks = np.zeros((50, 68, 2), np.float32)
    landmarks[:, 42:48, 0] = 20  # px between the eyes
    landmarks[:25, [67, 66, 65], 1] = 2 + np.sin(np.arange(25))[:, None]
    values = mouth_correlation(landmarks, landmarks, 25)
    assert values[0] == pytest.approx(1)
    assert np.isnan(values[1])
    unseen = np.full_like(landmarks, np.nan)
    assert mouth_correlation(unseen, landmarks, 25)[0] == 0


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory):
    """Fresh weights: the network adds nothing to the identity frame, so every clip stands still."""
    torch.manual_seed(0)
    settings = recipe(folder)
    path = tmp_path_factory.mktemp("model") / "still.safetensors"
    still = settings.model.model_copy(update={"prediction": "identity_residual", "learned_variance": False})
    settings = settings.model_copy(update={"model": still})
    modules = build_model(still).own_modules()
    tensors = {f"{prefix}.{name}": each for prefix, m in modules.items() for name, each in m.state_dict().items()}
    save_tensors(path, tensors, {"recipe": settings.model_dump(mode="json"), "step": 0})
    return path


class StillFace:
    """Finds the same face in every frame."""

    def __call__(self, frames):
        points = np.random.default_rng(0).uniform(0.3, 0.7, (68, 2)).astype(np.float32) * frames.shape[1]
        return np.broadcast_to(points, (len(frames), 68, 2))


def test_a_model_that_stands_still_is_steady_in_each_way_to_sample(folder, model, tmp_path):
    tries = ["sample.motion_noise=0", "sample.sampler={use: ddpm, steps: 1}  sample.stabilize_every=5"]
    cpu, corpus = torch.device("cpu"), Corpus(folder)
    variants = variants_of([str(model)], ["sample.sampler.steps=1"], tries, cpu)
    plan = plan_long_clips(corpus, "test", None, 5.0, 2, FPS)
    real = [join_clips(corpus, refs, f"{refs[0].speaker}-{i}", 125) for i, refs in enumerate(plan)]
    gauges = Gauges(StillFace(), registry.build("metrics", "drift", {"csim": False}), scored(real))
    report = measure(variants, real, gauges, tmp_path, {"seed": 0})
    assert [row["label"] for row in report["rows"]] == [
        "real", "small motion_noise=0", "small sampler={use: ddpm, steps: 1} stabilize_every=5"
    ]  # fmt: skip
    for row in report["rows"][1:]:
        trends = row["trends"]
        assert trends["frame difference"]["first"] == trends["frame difference"]["slope"] == 0
        assert trends["colour"]["last"] == trends["mouth r"]["last"] == 0  # the identity's colours; a still mouth
        assert trends["sharpness"]["last"] == pytest.approx(1)
        assert [len(clip["frame difference"]) for clip in row["seconds"]] == [5, 5]
    assert report["rows"][0]["trends"]["frame difference"]["first"] > 0  # real mouths move
    assert json.loads((tmp_path / REPORT).read_text()) == report
    assert [len(read_video(tmp_path / f"{n:02d}" / "s0-0.mp4", FPS).frames) for n in (0, 1)] == [125, 125]
    strip = Image.open(tmp_path / "strip-s0-0.png")
    assert strip.size == (3 * SIZE, 3 * SIZE)  # identity, 1 s, the end; real, two ways


def test_a_report_that_is_there_is_kept(folder, model, tmp_path):
    (tmp_path / REPORT).write_text("mine")
    with pytest.raises(DheadsError, match=r"drift\.json: is there already"):
        drift([str(model)], seconds=10, data=folder, out=tmp_path, device="cpu")


def test_a_model_of_another_size_is_refused(folder, tmp_path):
    with pytest.raises(DheadsError, match=f"holds {SIZE} px .* but tiny takes 64 px"):
        drift(["tiny"], seconds=10, data=folder, out=tmp_path / "d", device="cpu")


def test_a_clip_too_short_for_a_slope_is_refused(tmp_path):
    with pytest.raises(DheadsError, match="--seconds 5: too short for a slope"):
        drift(["tiny"], seconds=5, out=tmp_path / "d")
