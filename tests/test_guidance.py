"""Condition dropout, and guidance against known answers: scores by autograd, the means of guided Gaussians."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from dheads_cli import registry
from dheads_cli.data.batch import Batch
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import Parts, build_unet
from dheads_cli.model.diffusion import PREDICTIONS, Denoised, Objective, cosine_schedule
from dheads_cli.model.generate import Continuity, NoiseStreams, generate
from dheads_cli.model.guidance import ConditionDropout, Conditions, Guidance
from dheads_cli.model.timesteps import Uniform
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_io import load_recipe, overridden
from dheads_cli.recipe_model import Model
from dheads_cli.run.training_loss import TrainingLoss


def conditions(n: int = 3) -> Conditions:
    """Random conditions; the older motion frame is the identity frame, standing for one that is missing."""
    draws = torch.Generator().manual_seed(0)
    identity, before = torch.rand(2, n, 3, 8, 8, generator=draws) * 2 - 1
    return Conditions(identity, [identity.clone(), before], torch.randn(n, 5, 4, generator=draws))


def test_without_audio_the_window_is_silent_zeros_of_the_samples_that_lose_it():
    given = conditions()
    left = given.without("audio", torch.tensor([True, False, True]))
    assert not left.audio[[0, 2]].any()
    assert torch.equal(left.audio[1], given.audio[1])
    assert left.identity is given.identity
    assert left.motion is given.motion


def test_without_motion_all_motion_frames_are_the_identity_frame():
    given = conditions()
    left = given.without("motion")
    assert all(torch.equal(frame, given.identity) for frame in left.motion)
    assert torch.equal(left.audio, given.audio)


def test_without_identity_it_is_gray_also_where_it_stands_for_missing_motion_frames():
    given = conditions()
    left = given.without("identity", torch.tensor([False, True, False]))
    assert not left.identity[1].any()
    assert not left.motion[0][1].any()
    assert torch.equal(left.motion[1], given.motion[1])
    for kept in (0, 2):
        assert torch.equal(left.identity[kept], given.identity[kept])
        assert torch.equal(left.motion[0][kept], given.identity[kept])


@pytest.mark.parametrize("order", [("identity", "motion"), ("motion", "identity")])
def test_without_identity_and_motion_nothing_of_either_is_left(order):
    left = conditions()
    for condition in order:
        left = left.without(condition)
    assert not any(frame.any() for frame in (left.identity, *left.motion))


def test_dropout_takes_its_shares_independently_and_repeats_itself():
    given = Conditions(torch.ones(4000, 3, 1, 1), [], torch.ones(4000, 1, 1))
    dropout = ConditionDropout(audio=0.1, identity=0.4)
    left, again = (dropout(given, partial(torch.rand, generator=torch.Generator().manual_seed(5))) for _ in range(2))
    no_audio, no_identity = left.audio[:, 0, 0] == 0, left.identity[:, 0, 0, 0] == 0
    assert no_audio.float().mean() == pytest.approx(0.1, abs=0.02)
    assert no_identity.float().mean() == pytest.approx(0.4, abs=0.03)
    assert (no_audio & no_identity).float().mean() == pytest.approx(0.04, abs=0.012)
    assert torch.equal(left.audio, again.audio)
    assert torch.equal(left.identity, again.identity)


def test_no_dropout_draws_nothing():
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    given = conditions()
    assert ConditionDropout()(given, partial(torch.rand, generator=generator)) is given
    assert torch.equal(generator.get_state(), before)


class Frozen:
    """Hearing that a batch's embeddings need no more."""

    sample_rate, embed_dim, stride_frames, context_frames = 16000, 4, 10, 0


def loss_and_batch() -> tuple[TrainingLoss, Batch]:
    """The loss of a network without hearing or memory of its own, and a batch whose frames are all alike."""
    torch.manual_seed(0)
    settings = Model(size=32, channels=32, channel_mult=[1], n_res_blocks=1, head_dim=32, dropout=0,
                     prediction="identity_residual", learned_variance=False)  # fmt: skip
    unet = build_unet(settings, registry.build("conditioning", "adagn"), 4)
    objective = Objective("identity_residual", 0, 0, 0)
    parts = Parts(unet, Frozen(), cosine_schedule(100))
    frame = torch.rand(4, 3, 32, 32) - 0.5
    batch = Batch(frame, frame, [frame, frame], torch.randn(4, 5, 4), None, torch.zeros(4, 1, 32, 32), torch.zeros(4))
    return TrainingLoss(parts, objective, torch.device("cpu"), torch.float32, 0, Uniform(100)), batch


def test_a_dropped_identity_frame_is_not_what_the_output_is_added_to():
    loss_of, batch = loss_and_batch()  # the untrained network's output is 0: it predicts the identity frame it is given
    with torch.no_grad():
        given = loss_of(batch, 1)["simple"]
        dropped = replace(loss_of, dropout=ConditionDropout(identity=1.0))(batch, 1)["simple"]
    assert given.tolist() == [0] * 4
    torch.testing.assert_close(dropped, (batch.x_0**2).mean(dim=(1, 2, 3)))


# Guidance


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_the_guided_score_is_that_of_the_sharpened_density(scale):
    schedule, t = cosine_schedule(100), 40
    abar = float(schedule.alphas_cumprod[t])
    x_t = torch.linspace(-2, 2, 48, dtype=torch.float64).view(1, 3, 4, 4).requires_grad_()
    with_audio, without = (0.3, 0.2), (-0.1, 0.5)  # mean and standard deviation of x_0

    def log_density(mean: float, std: float) -> Tensor:
        return torch.distributions.Normal(abar**0.5 * mean, (abar * std**2 + 1 - abar) ** 0.5).log_prob(x_t)

    def seen(mean: float, std: float) -> Tensor:
        """E[x_0 | x_t] by Tweedie's formula."""
        (score,) = torch.autograd.grad(log_density(mean, std).sum(), x_t)
        return (x_t + (1 - abar) * score) / abar**0.5

    x_0 = torch.cat([seen(*with_audio), seen(*without)])
    both = Denoised(x_0, (x_t - abar**0.5 * x_0) / (1 - abar) ** 0.5, None)
    guided = Guidance({"audio": scale}).combined(both)
    sharpened = scale * log_density(*with_audio) + (1 - scale) * log_density(*without)
    (score,) = torch.autograd.grad(sharpened.sum(), x_t)
    torch.testing.assert_close(-guided.eps / (1 - abar) ** 0.5, score)


@pytest.mark.parametrize("prediction", ["eps", "identity_residual"])
def test_guiding_x_0_and_guiding_eps_is_one_thing(prediction):
    draws = torch.Generator().manual_seed(0)
    output, x_t, identity = torch.randn(3, 6, 3, 4, 4, generator=draws, dtype=torch.float64)
    x_t, abar = x_t[:2].repeat(3, 1, 1, 1), torch.full((1, 1, 1, 1), 0.3, dtype=torch.float64)
    guidance = Guidance({"audio": 2.5, "motion": 0.5})
    guided = guidance.combined(PREDICTIONS[prediction](output, x_t, abar, identity))
    torch.testing.assert_close(0.3**0.5 * guided.x_0 + 0.7**0.5 * guided.eps, x_t[:2], atol=1e-5, rtol=0)


def test_the_variance_is_that_of_the_pass_with_all_conditions():
    seen = Denoised(torch.randn(4, 3, 1, 1), torch.randn(4, 3, 1, 1), torch.arange(4.0).view(4, 1, 1, 1))
    nu = Guidance({"audio": 2}).combined(seen).nu
    assert nu is not None
    assert nu.flatten().tolist() == [0, 1]


class Gaussian(nn.Module):
    """An exact network for Gaussian frames: each condition that is there adds to their mean; notes its batches."""

    n_motion_frames, grayscale_motion, motion_noise_per_frame, std = 1, False, False, 0.05

    def __init__(self, prediction: str = "eps", **means: float):
        super().__init__()
        self.prediction, self.means, self.batches = prediction, means, []
        self.motion: list[Tensor] = []

    def forward(self, x_t, t, identity, motion, audio, level, controls):
        self.batches.append(len(x_t))
        self.motion.append(motion)
        there = {"audio": audio, "identity": identity, "motion": motion - identity}
        mean = torch.full((len(x_t),), self.means.get("always", 0.0))
        for name, shown in there.items():
            mean += self.means.get(name, 0.0) * shown.flatten(1).any(1)
        mean = mean.view(-1, 1, 1, 1)
        abar = SCHEDULE.alphas_cumprod[t].view(-1, 1, 1, 1).float()
        x_0 = mean + abar**0.5 * self.std**2 / (abar * self.std**2 + 1 - abar) * (x_t - abar**0.5 * mean)
        return x_0 - identity if self.prediction == "identity_residual" else (x_t - abar**0.5 * x_0) / (1 - abar) ** 0.5


SCHEDULE = cosine_schedule(1000)
ALL = {"audio": 2.0, "identity": 0.5, "motion": 3.0}


def frames_of(
    unet: Gaussian, sampler: str = "dpmpp_2m", seeds=(0,), n: int = 2, scales=None, interval=(0.0, 1.0), **continuity
):
    """[F, B, 3, 16, 16]: frames drawn by one of the samplers, in 8 steps."""
    identity = torch.full((len(seeds), 3, 16, 16), -0.25)
    windows = [torch.full((len(seeds), 5, 2), 1.0)] * n
    guidance = None if scales is None else Guidance(scales, interval)
    drawn = generate(
        unet, SCHEDULE, registry.build("samplers", sampler, {"steps": 8}), unet.prediction, identity, windows,
        continuity=Continuity(**continuity), noise=NoiseStreams(seeds, torch.device("cpu")), guidance=guidance,
    )  # fmt: skip
    return torch.stack(list(drawn))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpmpp_2m", "unipc", "heun"])
@pytest.mark.parametrize("prediction", ["eps", "identity_residual"])
def test_with_every_sampler_a_guided_gaussian_is_the_one_of_the_guided_mean(sampler, prediction):
    means = {"always": -0.1, "audio": 0.1, "identity": 0.2, "motion": 0.04}
    guided = frames_of(Gaussian(prediction, **means), sampler, scales=ALL)
    # The first frame has no motion to be guided by: the identity frame stands for all that was before it.
    for frame, mean in ((0, -0.1 + 2 * 0.1 + 0.5 * 0.2), (1, -0.1 + 2 * 0.1 + 0.5 * 0.2 + 3 * 0.04)):
        exact = frames_of(Gaussian(prediction, always=mean), sampler)[frame]
        torch.testing.assert_close(guided[frame], exact, atol=2e-3, rtol=0)  # eps is float32
        assert guided[frame].mean().item() == pytest.approx(mean, abs=4 * 0.05 / (3 * 16 * 16) ** 0.5)


def test_scales_of_1_are_free_and_change_no_byte():
    plain, ones = Gaussian(audio=0.1), Gaussian(audio=0.1)
    drawn = frames_of(plain, seeds=(1, 2), motion_noise=0.3)
    again = frames_of(ones, seeds=(1, 2), motion_noise=0.3, scales={"audio": 1.0, "identity": 1.0, "motion": 1.0})
    assert torch.equal(drawn, again)
    assert plain.batches == ones.batches == [2] * 16


def test_each_guided_condition_adds_a_pass_to_the_one_batch():
    for scales, passes in (({"audio": 2.0, "motion": 1.0}, 2), (ALL, 4)):
        unet = Gaussian(audio=0.1)
        frames_of(unet, seeds=(1, 2), scales=scales)
        assert unet.batches == [2 * passes] * 16


def test_steps_outside_the_interval_are_not_guided_and_cost_one_pass():
    high = Gaussian(audio=0.1)
    options = {"sampler": "ddim", "seeds": (1, 2), "scales": {"audio": 3.0}, "motion_noise": 0.3}
    upper = frames_of(high, **options, interval=(0.5, 1.0))
    assert high.batches == [4, 4, 4, 4, 2, 2, 2, 2] * 2  # of 8 even steps the upper half; the highest comes first
    plain = frames_of(Gaussian(audio=0.1), **options | {"scales": None})
    lower = frames_of(Gaussian(audio=0.1), **options, interval=(0.0, 0.5))
    assert (lower - plain).mean().item() == pytest.approx(0.2, abs=0.02)  # low steps decide where so narrow a bell is
    assert 0.001 < (upper - plain).mean() < 0.02
    assert torch.equal(frames_of(Gaussian(audio=0.1), **options, interval=(0.001, 0.002)), plain)  # no step is in there


def test_all_passes_see_the_same_noise_on_motion_frames():
    unet = Gaussian()
    frames_of(unet, n=1, scales={"audio": 2.0, "motion": 2.0}, motion_noise=0.5)
    assert all(torch.equal(motion[0], motion[1]) and torch.equal(motion[0], motion[2]) for motion in unet.motion)
    assert 0.4 < (unet.motion[0] + 0.25).std().item() < 0.6


def test_a_guided_clip_does_not_depend_on_its_batch():
    alone = frames_of(Gaussian(audio=0.1, motion=0.1), seeds=(7,), scales=ALL, motion_noise=0.2)
    together = frames_of(Gaussian(audio=0.1, motion=0.1), seeds=(3, 7), scales=ALL, motion_noise=0.2)
    assert torch.equal(alone[:, 0], together[:, 1])


# Recipes


def test_an_interval_that_begins_above_its_end_is_refused():
    with pytest.raises(DheadsError, match=r"sample\.guidance\.interval.*must begin at the lower step: \[0\.5, 1\.0\]"):
        overridden(a_recipe(train={"audio_drop": 0.1}), ["sample.guidance.interval=[1, 0.5]"], "sample")


def a_recipe(**sections: dict) -> Recipe:
    return Recipe.model_validate({"name": "small", **sections})


@pytest.mark.parametrize("condition", ["audio", "identity", "motion"])
def test_a_model_never_trained_without_a_condition_is_not_guided_by_it(condition):
    with pytest.raises(DheadsError) as caught:
        overridden(a_recipe(), [f"sample.guidance.{condition}=2"], "sample")
    assert str(caught.value) == (
        f"--set sample.guidance.{condition}=2: sample.guidance.{condition}: must be 1 (off): "
        f"the model is never trained without {condition} (train.{condition}_drop is 0)"
    )
    trained = a_recipe(train={f"{condition}_drop": 0.1})
    changed = overridden(trained, [f"sample.guidance.{condition}=2"], "sample")
    assert getattr(changed.sample.guidance, condition) == 2


def test_a_model_without_motion_frames_is_not_guided_by_them():
    recipe = a_recipe(model={"n_motion_frames": 0}, train={"motion_drop": 0.1})
    with pytest.raises(DheadsError, match=r"guidance\.motion: must be 1 \(off\): model\.n_motion_frames is 0"):
        overridden(recipe, ["sample.guidance.motion=2"], "sample")


def test_a_recipe_whose_guidance_was_not_trained_for_is_refused_in_its_line(tmp_path):
    path = tmp_path / "guided.yaml"
    path.write_text("name: guided\nsample:\n  guidance:\n    audio: 2.0\n")
    with pytest.raises(DheadsError, match=r"guided\.yaml:4:\d+: sample\.guidance\.audio: must be 1 \(off\)"):
        load_recipe(str(path))
