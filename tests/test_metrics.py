"""Metrics, each on clips whose score is known beforehand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from clips import N_FRAMES, FakeClip, built_or_skip, face
from numpy.typing import NDArray

from dheads_cli.conformance import assert_conforms
from dheads_cli.data.mouth import mouth_opening
from dheads_cli.errors import DheadsError
from dheads_cli.protocols import Metric
from dheads_components.metrics.blinks import Blinks
from dheads_components.metrics.csim import CSIM, FaceNetwork, find_weights
from dheads_components.metrics.drift import Drift
from dheads_components.metrics.liveliness import Liveliness
from dheads_components.metrics.lmd import LMD
from dheads_components.metrics.mouth import Mouth
from dheads_components.metrics.mse import MSE
from dheads_components.metrics.psnr import PSNR
from dheads_components.metrics.sharpness import Sharpness
from dheads_components.metrics.ssim import SSIM


def speech(seed: int = 0, n_frames: int = N_FRAMES) -> NDArray[np.float64]:
    """A mouth opening that varies as in speech, without repeating itself."""
    steps = np.random.RandomState(seed).rand(n_frames + 2)
    return 0.3 * (steps[:-2] + steps[1:-1] + steps[2:]) / 3


def clips_of(opening: NDArray[np.float64], real: NDArray[np.float64]) -> tuple[FakeClip, FakeClip]:
    return FakeClip(face(opening)), FakeClip(face(real))


@pytest.mark.parametrize(
    "metric", [Mouth(), LMD(), SSIM(), PSNR(), MSE(), Sharpness(), Liveliness(), Blinks(), Drift(csim=False)]
)
def test_metrics_keep_the_contract(metric: Metric) -> None:
    assert_conforms("metrics", metric)


def test_opening_is_in_interocular_distances() -> None:
    assert mouth_opening(face(np.array([0.0, 0.25, 0.5]), size_px=64)) == pytest.approx([0, 0.25, 0.5], abs=1e-5)


def test_the_same_mouth_correlates_wholly() -> None:
    values = Mouth().update(*clips_of(speech(), speech()))
    assert values["mouth r"] == pytest.approx(1)
    assert values["mouth lag [frames]"] == 0
    assert values["mouth amplitude"] == pytest.approx(1)
    assert "mouth note" not in values


def test_a_mouth_two_frames_late_has_lag_two() -> None:
    trace = speech(n_frames=N_FRAMES + 2)
    values = Mouth().update(*clips_of(trace[:-2], trace[2:]))
    assert values["mouth lag [frames]"] == 2
    assert values["mouth best r"] == pytest.approx(1)
    assert values["mouth r"] < 0.8
    early = Mouth().update(*clips_of(trace[2:], trace[:-2]))
    assert early["mouth lag [frames]"] == -2


def test_an_inverted_mouth_correlates_negatively() -> None:
    assert Mouth().update(*clips_of(0.4 - speech(), speech()))["mouth r"] == pytest.approx(-1)


def test_half_the_movement_is_half_the_amplitude() -> None:
    values = Mouth().update(*clips_of(speech() / 2 + 0.1, speech()))
    assert values["mouth r"] == pytest.approx(1)
    assert values["mouth amplitude"] == pytest.approx(0.5, abs=1e-4)


def test_a_still_mouth_scores_zero_and_says_why() -> None:
    metric = Mouth()
    values = metric.update(*clips_of(np.full(N_FRAMES, 0.2), speech()))
    assert (values["mouth r"], values["mouth best r"], values["mouth lag [frames]"]) == (0, 0, 0)
    assert "generated mouth does not move" in str(values["mouth note"])
    metric.update(*clips_of(speech(), speech()))
    assert metric.compute()["mouth r"] == pytest.approx(0.5)
    assert metric.compute()["mouth r min"] == 0


def test_frames_without_a_face_are_left_out_of_r() -> None:
    clip, reference = clips_of(speech(), speech())
    clip.landmarks[10:20] = np.nan
    reference.landmarks[40:45] = np.nan
    values = Mouth().update(clip, reference)
    assert values["mouth r"] == pytest.approx(1)
    assert values["face found"] == pytest.approx(65 / 75)
    clip.landmarks[3:] = np.nan
    values = Mouth().update(clip, reference)
    assert values["mouth r"] == 0
    assert "in 3 frames only" in str(values["mouth note"])


def test_mouth_sums_up_over_clips() -> None:
    metric = Mouth()
    for opening in (speech(), speech(), 0.4 - speech()):
        metric.update(*clips_of(opening, speech()))
    totals = metric.compute()
    assert totals["mouth r"] == pytest.approx(1 / 3)
    assert totals["mouth r median"] == pytest.approx(1)
    assert totals["mouth r min"] == pytest.approx(-1)


def test_landmark_distance_forgets_where_the_face_is() -> None:
    real = FakeClip(face(speech()))
    moved = FakeClip(real.landmarks + np.float32(5))
    assert LMD().update(moved, real) == pytest.approx({"LMD [px]": 0, "M-LMD [px]": 0}, abs=1e-5)


def test_one_landmark_astray_has_a_known_distance() -> None:
    real, astray = FakeClip(), FakeClip()
    astray.landmarks[:, 60, 0] += 68
    # The point lies 68 - 68/n from its place, the n - 1 others 68/n from theirs.
    values = LMD().update(astray, real)
    assert values["LMD [px]"] == pytest.approx(2 * 67 / 68, rel=1e-5)
    assert values["M-LMD [px]"] == pytest.approx(2 * 68 * 19 / 20**2, rel=1e-5)


def test_a_clip_without_faces_is_left_out_of_lmd_and_says_so() -> None:
    metric, clip = LMD(), FakeClip()
    clip.landmarks[:] = np.nan
    assert "left out" in str(metric.update(clip, FakeClip())["LMD note"])
    assert metric.compute() == {}


def uniform(level: int) -> FakeClip:
    return FakeClip(frames=np.full((N_FRAMES, 32, 32, 3), level, np.uint8))


def test_ssim_of_equal_frames_is_one_and_of_uniform_ones_follows_the_formula() -> None:
    noise = FakeClip(frames=np.random.RandomState(0).randint(0, 256, (N_FRAMES, 32, 32, 3)).astype(np.uint8))
    assert SSIM().update(noise, noise)["SSIM"] == pytest.approx(1)
    c_1 = (0.01 * 255) ** 2
    expected = (2 * 100 * 150 + c_1) / (100**2 + 150**2 + c_1)
    # float32 variances of a flat picture are not quite 0.
    assert SSIM().update(uniform(100), uniform(150))["SSIM"] == pytest.approx(expected, rel=1e-3)


def test_psnr_follows_the_formula_and_is_infinite_without_noise() -> None:
    metric = PSNR()
    assert metric.update(uniform(100), uniform(110))["PSNR [dB]"] == pytest.approx(10 * math.log10(255**2 / 100))
    assert metric.update(uniform(100), uniform(100))["PSNR [dB]"] == math.inf
    assert metric.compute()["PSNR [dB]"] == math.inf


def test_mse_is_of_0_to_255_values_over_frames_pixels_and_channels() -> None:
    metric, one_channel = MSE(), uniform(100)
    assert metric.update(uniform(90), uniform(110))["MSE"] == 400
    one_channel.frames[::3, ..., 1] += 60  # a third of the frames, a third of the channels
    assert metric.update(one_channel, uniform(100))["MSE"] == pytest.approx(60**2 / 9)
    assert metric.update(uniform(0), uniform(255))["MSE"] == 255**2  # no wrapping round in uint8
    assert metric.compute()["MSE"] == pytest.approx((400 + 400 + 255**2) / 3)


def test_mse_and_psnr_agree_on_one_clip() -> None:
    rng = np.random.RandomState(0)
    clips = [FakeClip(frames=rng.randint(0, 256, (N_FRAMES, 32, 32, 3)).astype(np.uint8)) for _ in range(2)]
    psnr, mse = PSNR().update(*clips)["PSNR [dB]"], MSE().update(*clips)["MSE"]
    assert psnr == pytest.approx(10 * math.log10(255**2 / mse))


def test_csim_says_which_file_is_missing_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match=r"pip install 'dheads\[csim\]'"):
        find_weights(str(tmp_path / "none.dat"))


def test_csim_refuses_another_file(tmp_path: Path) -> None:
    (tmp_path / "weights.dat").write_bytes(b"something else")
    with pytest.raises(DheadsError, match="sha256"):
        find_weights(str(tmp_path / "weights.dat"))


class MeanColour:
    """In the place of dlib's network: counts how many pictures it is shown."""

    n_shown = 0

    def compute_face_descriptor(self, chips: list[NDArray[np.uint8]]) -> list[NDArray[np.float64]]:
        self.n_shown += len(chips)
        return [np.full(128, chip.mean()) for chip in chips]


def test_a_picture_is_embedded_once_however_often_it_is_asked_for() -> None:
    asked = MeanColour()
    network = FaceNetwork(asked)
    gray = {level: np.full((150, 150, 3), level, np.uint8) for level in range(6)}
    assert network([gray[3], gray[1], gray[3]])[:, 0].tolist() == [3, 1, 3]
    assert network([gray[1].copy(), gray[2]])[:, 0].tolist() == [1, 2]
    assert asked.n_shown == 3


def test_the_embeddings_that_are_kept_have_a_limit() -> None:
    asked = MeanColour()
    network = FaceNetwork(asked, kept=2)
    gray = [np.full((150, 150, 3), level, np.uint8) for level in range(3)]
    assert network(gray)[:, 0].tolist() == [0, 1, 2]  # more at once than are kept
    assert network(gray[1:])[:, 0].tolist() == [1, 2]
    assert network(gray[:1])[:, 0].tolist() == [0]
    assert asked.n_shown == 4


def csim() -> CSIM:
    """The metric, or a skip where the extra dheads[csim] is not installed."""
    return built_or_skip(lambda: CSIM(stride=40))


def test_csim_keeps_the_contract() -> None:
    assert_conforms("metrics", csim())


def test_csim_of_the_identity_frame_itself_is_one() -> None:
    metric = csim()
    assert metric.update(uniform(90), FakeClip())["CSIM"] == pytest.approx(1)
    assert metric.compute()["CSIM"] == pytest.approx(1)
    assert "sha256" in metric.weights


def test_csim_has_its_ceiling_and_another_speaker_as_its_floor() -> None:
    metric, rng = csim(), np.random.RandomState(0)
    for speaker in ("s1", "s2"):
        noise = FakeClip(frames=rng.randint(0, 256, (N_FRAMES, 32, 32, 3)).astype(np.uint8), speaker=speaker)
        values = metric.update(noise, noise)
        assert values["CSIM"] == pytest.approx(values["CSIM of real"])
        assert ("CSIM of others" in metric.compute()) == (speaker == "s2")  # one speaker alone has no others
    one, other = metric._clips
    expected = (one.identity @ other.mean_real + other.identity @ one.mean_real) / 2
    assert metric.compute()["CSIM of others"] == pytest.approx(expected)
    assert metric.compute()["CSIM / real"] == pytest.approx(1)
