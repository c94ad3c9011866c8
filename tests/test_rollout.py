"""Self-rollout: the frames a network draws itself in training are those it would draw in sampling."""

import itertools
from dataclasses import replace

import pytest
import torch
from corpus import make_corpus
from test_dataset import Loudness, training_set
from test_generate import SCHEDULE, Recorder, counting_sampler
from test_train import bytes_of, recipe, stop_at_3
from test_unet import unet

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import Parts
from dheads_cli.model.diffusion import Objective, cosine_schedule
from dheads_cli.model.generate import Continuity, NoiseStreams, from_uint8, generate, to_uint8
from dheads_cli.model.rollout import Rollout
from dheads_cli.model.timesteps import Uniform
from dheads_cli.run.batch_parts import Part, cut
from dheads_cli.run.train import rollout_of, train
from dheads_cli.run.training_loss import TrainingLoss

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("corpus") / "c", {"train": 4, "val": 2}, n_frames=12)


def rolled_out(model, sampler, exists, windows=None, before=None, n_clips=1):
    identity = torch.full((n_clips, 3, 32, 32), -1.0)
    before = before or [torch.full_like(identity, level) for level in (0.0, 0.2)]
    windows = windows or [torch.full((n_clips, 5, 8), float(k)) for k in range(exists.shape[1])]
    rollout = Rollout(sampler, "identity_residual", Continuity(motion_noise=0.0), torch.float32)
    noise = NoiseStreams(range(n_clips), torch.device("cpu"))
    return rollout(model, SCHEDULE, identity, before, windows, exists, noise)


def test_each_frame_is_drawn_after_the_ones_drawn_before_it():
    model = Recorder()
    last = rolled_out(model, counting_sampler(), torch.ones(1, 3, dtype=torch.bool))  # draws 0.1, 0.2, 0.3
    shown = [[round(motion[0, 3 * i].mean().item(), 2) for i in range(2)] for motion in model.motion]
    assert shown == [pytest.approx(pair, abs=0.005) for pair in ([0.0, 0.2], [0.2, 0.1], [0.1, 0.2])]
    assert [audio.mean().item() for audio in model.audio] == [0, 1, 2]
    assert [frame.mean().item() for frame in last] == pytest.approx([0.2, 0.3], abs=0.005)


def test_drawn_frames_are_rounded_to_8_bit_and_carry_no_gradient():
    last = rolled_out(Recorder(), counting_sampler(), torch.ones(1, 2, dtype=torch.bool))
    for frame in last:
        levels = (frame + 1) * 127.5
        torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
        assert not frame.requires_grad
        (frame * torch.ones(1, requires_grad=True)).sum().backward()  # and can be trained on


def test_a_frame_before_the_clip_s_beginning_is_the_identity_frame():
    exists = torch.tensor([[False, True], [True, True]])
    last = rolled_out(Recorder(), counting_sampler(), exists, n_clips=2)
    assert (last[0][0] == -1).all()
    assert last[0][1].mean().item() == pytest.approx(0.1, abs=0.005)
    assert last[1].mean(dim=(1, 2, 3)).tolist() == pytest.approx([0.2, 0.2], abs=0.005)


def test_a_rollout_from_the_beginning_equals_sampling_frame_for_frame():
    torch.manual_seed(0)
    model = unet(dropout=0.5, learned_variance=False).train()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    identity = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    windows = list(torch.randn(1, 2, 5, 8, generator=torch.Generator().manual_seed(2)))
    sampler, schedule = registry.build("samplers", "ddim", {"steps": 2}), cosine_schedule(100)
    rollout = Rollout(sampler, "identity_residual", Continuity(motion_noise=0.0), torch.float32)
    noise = NoiseStreams([3, 4], torch.device("cpu"))
    exists = torch.ones(2, 1, dtype=torch.bool)
    own = rollout(model, schedule, identity, [identity] * 2, windows, exists, noise)[-1]
    assert model.training  # dropout was off only while it drew
    sampled = generate(
        model.eval(), schedule, sampler, "identity_residual", identity, windows,
        continuity=Continuity(), noise=NoiseStreams([3, 4], torch.device("cpu")),
    )  # fmt: skip
    assert torch.equal(own, from_uint8(to_uint8(next(sampled))))


def test_a_batch_to_roll_out_begins_where_the_drawn_frames_do(folder):
    data = training_set(folder, rollout_share=1.0, rollout_frames=3)
    clips = {ref.id: data.clip(ref) for ref in data.clips}
    batch = data.batch(1, 24)
    plain = training_set(folder).batch(1, 24)
    assert torch.equal(batch.x_0, plain.x_0)
    assert torch.equal(batch.motion_noise, plain.motion_noise)  # the other draws are the same
    assert [len(each) for each in (batch.start, batch.start_audio, batch.start_index)] == [2, 3, 0]
    for i in range(24):
        clip, k = next(
            (clip, k)
            for clip, k in itertools.product(clips.values(), range(12))
            if torch.equal(from_uint8(torch.from_numpy(clip.frames[k : k + 1]))[0], batch.x_0[i])
            and torch.equal(batch.audio[i, 2], clip.sound[k])
        )
        assert batch.start_exists[i].tolist() == [k - 3 >= 0, k - 2 >= 0, k - 1 >= 0]
        for place, frame in zip((k - 5, k - 4), batch.start, strict=True):
            real = from_uint8(torch.from_numpy(clip.frames[place : place + 1]))[0] if place >= 0 else batch.identity[i]
            assert torch.equal(frame[i], real)
        for place, window in zip((k - 3, k - 2, k - 1), batch.start_audio, strict=True):
            assert torch.equal(window[i, 2], clip.sound[max(place, 0)])  # its middle


def test_a_trained_encoder_hears_each_drawn_frame_as_it_would_hear_a_target(folder):
    encoder, frozen = Loudness(), training_set(folder, rollout_share=1.0, rollout_frames=2)
    trained = training_set(folder, encoder, frozen=False, rollout_share=1.0, rollout_frames=2)
    heard, wanted = trained.batch(3, 8), frozen.batch(3, 8)
    for sound, places, window in zip(heard.start_audio, heard.start_index, wanted.start_audio, strict=True):
        embeddings = encoder(sound, 5 + 2 * encoder.context_frames)
        found = embeddings.gather(1, places[:, :, None])
        torch.testing.assert_close(found, window, atol=2e-4, rtol=0)  # frozen ones are kept as float16


class Hears(Loudness):
    """A frozen encoder of the width that the network here takes."""

    embed_dim = 8


def test_a_part_of_a_batch_draws_what_the_whole_batch_does(folder):
    torch.manual_seed(0)
    model = unet(learned_variance=False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.02)
    batch = training_set(folder, rollout_share=1.0, rollout_frames=2).batch(1, 4)
    batch = replace(batch, start_audio=[window.expand(-1, -1, 8) for window in batch.start_audio])
    rollout = Rollout(
        registry.build("samplers", "ddim", {"steps": 1}), "identity_residual", Continuity(0.0), torch.float32
    )
    loss_of = TrainingLoss(
        Parts(model, Hears(), cosine_schedule(100)), Objective("identity_residual", 0, 0, 0), torch.device("cpu"),
        torch.float32, 0, Uniform(100), rollout=rollout,
    )  # fmt: skip
    whole = loss_of.motion_frames(batch, batch.identity, 7, Part(0, 4, 4))
    for part in Part(0, 4, 4).split(2):
        piece = cut(batch, part)
        for ours, theirs in zip(loss_of.motion_frames(piece, piece.identity, 7, part), whole, strict=True):
            torch.testing.assert_close(ours, part.of(theirs), atol=1.01 / 127.5, rtol=0)  # sums of another order
    assert not torch.equal(whole[-1], batch.motion[-1])
    plain = replace(batch, start_exists=None)
    assert all(map(torch.equal, loss_of.motion_frames(plain, batch.identity, 7, Part(0, 4, 4)), batch.motion))


def test_the_share_of_steps_is_the_one_asked_for_from_the_step_asked_for(folder):
    data = training_set(folder, rollout_share=0.25, rollout_frames=2, rollout_from_step=400)
    rolls = [data._rolls_out(step) for step in range(2400)]
    assert not any(rolls[:400])
    assert sum(rolls[400:]) == pytest.approx(500, abs=3 * (2000 * 0.25 * 0.75) ** 0.5)


ROLLED = {"rollout_share": 0.5, "rollout_frames": 2, "rollout_sampler": {"use": "ddim", "steps": 1}}


def test_a_resumed_run_that_rolls_out_equals_an_unbroken_one_byte_for_byte(folder, tmp_path):
    data = training_set(folder, rollout_share=0.5, rollout_frames=2)
    assert {data._rolls_out(step) for step in (4, 5, 6)} == {True, False}  # both kinds come after the break
    runs = tmp_path / "whole", tmp_path / "resumed"
    stop_at_3(folder, runs[1], **ROLLED)
    for run in runs:
        train(recipe(folder, **ROLLED), run, device="cpu")
    assert bytes_of(runs[0]) == bytes_of(runs[1])


def test_a_network_without_motion_frames_can_not_roll_out(folder, tmp_path):
    model = recipe(folder).model.model_copy(update={"n_motion_frames": 0})
    settings = recipe(folder, **ROLLED).model_copy(update={"model": model})
    with pytest.raises(DheadsError, match=r"train\.rollout_share: the network sees no motion frames"):
        rollout_of(settings, torch.float32)
