"""Condition dropout: what stands for a condition that is taken away, and when it is."""

from dataclasses import replace

import pytest
import torch

from dheads_cli import registry
from dheads_cli.data.dataset import Batch
from dheads_cli.model.build import Parts, build_unet
from dheads_cli.model.diffusion import Objective, cosine_schedule
from dheads_cli.model.guidance import ConditionDropout, Conditions
from dheads_cli.recipe import Model
from dheads_cli.run.train import TrainingLoss


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
    left, again = (dropout(given, torch.Generator().manual_seed(5)) for _ in range(2))
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
    assert ConditionDropout()(given, generator) is given
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
    return TrainingLoss(parts, objective, torch.device("cpu"), torch.float32, 0), batch


def test_a_dropped_identity_frame_is_not_what_the_output_is_added_to():
    loss_of, batch = loss_and_batch()  # the untrained network's output is 0: it predicts the identity frame it is given
    with torch.no_grad():
        given = loss_of(batch, 1)["simple"]
        dropped = replace(loss_of, dropout=ConditionDropout(identity=1.0))(batch, 1)["simple"]
    assert given.tolist() == [0] * 4
    torch.testing.assert_close(dropped, (batch.x_0**2).mean(dim=(1, 2, 3)))
