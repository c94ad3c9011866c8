"""Eye openness and head turn as conditions: how they are measured, mirrored, withheld, and reach the network."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from corpus import make_clip, write_corpus
from test_dataset import CHANGED, training_set
from test_guidance import loss_and_batch
from test_train import recipe
from test_unet import inputs, unet

from dheads_cli.data.align import MEAN_FACE
from dheads_cli.data.controls import EyesAndHead
from dheads_cli.data.head_pose import head_pose
from dheads_cli.model.build import build_model
from dheads_cli.model.checkpoint import find_checkpoint, load_model, load_weights
from dheads_cli.model.guidance import Conditions, Guidance
from dheads_cli.run.train import train

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

BOTH = ("eyes", "head")


def faces(left, right):
    """Landmarks [F, 68, 2] of a face at each openness of the eye on the picture's left and on its right."""
    points = np.tile(40 * MEAN_FACE + 10, (len(left), 1, 1)).astype(np.float32)
    for first, opennesses in ((36, left), (42, right)):
        corners = points[:, [first, first + 3]]
        level, width = corners[..., 1].mean(axis=1), corners[:, 1, 0] - corners[:, 0, 0]
        for i, third, side in ((1, 1, -1), (2, 2, -1), (4, 2, 1), (5, 1, 1)):
            points[:, first + i, 0] = corners[:, 0, 0] + third * width / 3
            points[:, first + i, 1] = level + side * 0.15 * width * np.asarray(opennesses)
    return points


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips of faces whose left eye closes in frames 3, 4, 5, the right one in frame 4, and whose nose turns."""
    clips = []
    for number, split in enumerate(["train", "train", "val"]):
        landmarks = faces(*([0.0 if k in closed else 1.0 for k in range(20)] for closed in ((3, 4, 5), (4,))))
        landmarks[:, 27:36, 0] += 0.1 * np.arange(20)[:, None]
        clips.append(replace(make_clip(number, split), landmarks=landmarks))
    return write_corpus(tmp_path_factory.mktemp("corpus") / "c", clips)


# Measures


def test_openness_is_a_share_of_the_clip_s_open_eye():
    measured = EyesAndHead.of(faces([2.0, 2.0, 1.0, 0.0, 2.0, 2.0, 9.0], [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]), shut=0.0)
    np.testing.assert_allclose(measured.eyes[:6, 0], [1, 1, 0.5, 0, 1, 1], atol=1e-5)
    np.testing.assert_allclose(measured.eyes[:, 1], [1, 1, 1, 0, 1, 1, 1], atol=1e-5)
    assert measured.eyes[6, 0] == 1.5


def test_the_aspect_ratio_of_a_shut_eye_counts_as_no_openness():
    measured = EyesAndHead.of(faces([1.0, 1.0, 0.3, 0.65, 1.0], [1.0] * 5), shut=0.3)
    np.testing.assert_allclose(measured.eyes[:, 0], [1, 1, 0, 0.5, 1], atol=1e-5)


def test_a_frame_without_a_face_has_no_values():
    landmarks = faces([1.0] * 4, [1.0] * 4)
    landmarks[2] = np.nan
    measured = EyesAndHead.of(landmarks)
    assert np.isnan(measured.eyes).all(axis=1).tolist() == [False, False, True, False]
    assert np.isnan(measured.head).all(axis=1).tolist() == [False, False, True, False]
    assert np.isnan(EyesAndHead.of(landmarks * np.nan).eyes).all()


def test_the_head_is_that_of_head_pose():
    landmarks = faces([1.0] * 3, [1.0] * 3)
    landmarks[:, 27:36, 0] += np.arange(3)[:, None]
    np.testing.assert_allclose(EyesAndHead.of(landmarks).head, head_pose(landmarks), atol=1e-4)


# Batches


def places(data, batch):
    """Clip, target's and identity frame's number of each sample, by its own draws."""
    found = []
    for i in range(len(batch.x_0)):
        heard = [
            (clip, k)
            for clip in map(data.clip, data.clips)
            for k in range(20)
            if torch.equal(clip.sound[k], batch.audio[i, 2])
        ]
        found.append(heard[0])
    return found


def test_a_batch_has_the_controls_of_its_targets(folder):
    data = training_set(folder, controls=BOTH)
    batch = data.batch(1, 40)
    assert batch.controls.shape == (40, 5)
    assert batch.controls.dtype == torch.float32
    for controls, (clip, k) in zip(batch.controls, places(data, batch), strict=True):
        assert controls[:2].tolist() == pytest.approx(clip.eyes_and_head.eyes[k].tolist())
        turns = (clip.eyes_and_head.head[k] - clip.eyes_and_head.head) / 30  # against each possible identity frame
        assert np.abs(turns - controls[2:].numpy()).max(axis=1).min() < 1e-6
    assert batch.controls[:, 0].min() < 0.3  # landmarks are stored as float16
    assert batch.controls[:, 0].max() == pytest.approx(1, abs=0.1)


def test_a_mirrored_sample_has_its_eyes_swapped_and_turns_the_other_way(folder):
    plain, mirrored = (training_set(folder, controls=BOTH, flip=flip).batch(1, 40).controls for flip in (0.0, 1.0))
    assert (plain[:, 0] != plain[:, 1]).any()
    assert plain[:, 2].abs().max() > 0.01
    torch.testing.assert_close(mirrored, plain[:, [1, 0, 2, 3, 4]] * torch.tensor([1.0, 1, -1, 1, -1]))


def test_controls_of_a_mirrored_face_are_those_of_its_mirrored_picture(folder):
    mirror = [*range(16, -1, -1), *range(26, 16, -1), *range(27, 31), *range(35, 30, -1), 45, 44, 43, 42, 47, 46]
    mirror += [39, 38, 37, 36, 41, 40, *range(54, 47, -1), *range(59, 54, -1), *range(64, 59, -1), 67, 66, 65]
    data = training_set(folder, controls=BOTH)
    clip = data.clip(data.clips[0])
    landmarks = clip.landmarks[:, mirror] * np.array([-1, 1], np.float32) + np.array([64, 0], np.float32)
    turned = EyesAndHead.of(landmarks)
    np.testing.assert_allclose(turned.eyes, clip.eyes_and_head.eyes[:, ::-1], atol=1e-4)
    np.testing.assert_allclose(turned.head, clip.eyes_and_head.head * (-1, 1, -1), atol=0.1)


def test_without_controls_batches_are_what_they_were(folder):
    plain, controlled = (training_set(folder, controls=names, **CHANGED).batch(3, 6) for names in ((), BOTH))
    assert plain.controls is None
    assert plain.start_controls == []
    for name, wanted in vars(plain).items():
        made = getattr(controlled, name)
        if isinstance(wanted, torch.Tensor):
            assert torch.equal(made, wanted), name
        elif name != "controls":
            assert all(map(torch.equal, made or [], wanted or [])), name


def test_each_control_is_withheld_in_its_share_of_the_samples(folder):
    kept = training_set(folder, controls=BOTH).batch(1, 400).controls
    batch = training_set(folder, controls=BOTH, control_drop=0.3, rollout_share=1.0, rollout_frames=2).batch(1, 400)
    gone = batch.controls.isnan()
    assert not kept.isnan().any()
    assert torch.equal(gone[:, 0], gone[:, 1])
    assert torch.equal(gone[:, 2], gone[:, 4])
    for share in (gone[:, 0], gone[:, 2]):
        assert share.float().mean().item() == pytest.approx(0.3, abs=0.07)
    assert (gone[:, 0] & gone[:, 2]).float().mean().item() == pytest.approx(0.09, abs=0.045)
    assert torch.equal(batch.controls[~gone], kept[~gone])
    assert all(torch.equal(each.isnan(), gone) for each in batch.start_controls)


def test_frames_that_the_network_draws_have_their_own_controls(folder):
    data = training_set(folder, controls=("eyes",), rollout_share=1.0, rollout_frames=2)
    batch = data.batch(1, 40)
    assert [each.shape for each in batch.start_controls] == [(40, 2)] * 2
    for i, (clip, k) in enumerate(places(data, batch)):
        for back, controls in zip((2, 1), batch.start_controls, strict=True):
            assert controls[i].tolist() == pytest.approx(clip.eyes_and_head.eyes[max(k - back, 0)].tolist())


# Network


def filled(model):
    torch.manual_seed(1)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def test_untrained_controls_change_nothing_to_the_bit():
    with torch.no_grad():
        plain, controlled = unet(), unet(n_controls=5)
        filled(plain)
        controlled.load_state_dict(plain.state_dict(), strict=False)
        told = torch.tensor([[0.2, 1.0, 0.5, 0.1, 0.0], [torch.nan] * 5])
        for controls in (None, told):
            assert torch.equal(controlled(*inputs(), None, controls), plain(*inputs()))


def test_the_other_weights_begin_alike_with_controls_and_without():
    states = []
    for n_controls in (0, 5):
        torch.manual_seed(3)
        states.append(unet(n_controls=n_controls).state_dict())
    assert all(torch.equal(each, states[1][name]) for name, each in states[0].items())


def test_each_control_reaches_the_output_and_a_withheld_one_does_not():
    model = filled(unet(n_controls=2))
    told = torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]])
    with torch.no_grad():
        base, all_left = model(*inputs(), None, told), model(*inputs())
        closed = model(*inputs(), None, told - torch.tensor([1.0, 0.0]))
        assert torch.equal(model(*inputs(), None, told * torch.nan), all_left)
    assert (closed[0] - base[0]).abs().max() > 1e-4
    assert torch.equal(closed[1], base[1])
    assert ((base - all_left).abs().amax(dim=(1, 2, 3)) > 1e-4).all()


def test_a_loss_learns_the_controls():
    loss_of, batch = loss_and_batch()
    model = filled(unet(learned_variance=False, audio_dim=4, n_controls=2))
    loss_of = replace(loss_of, parts=replace(loss_of.parts, unet=model))
    with_eyes = replace(batch, controls=torch.tensor([[1.0, 1.0]] * 4))
    losses = [loss_of(each, 1)["loss"].mean() for each in (batch, with_eyes)]
    assert losses[0] != losses[1]
    losses[1].backward()
    assert all(parameter.grad is not None for parameter in model.control_embed.parameters())


def test_guidance_leaves_the_controls_in_all_passes():
    frame, told = torch.zeros(2, 3, 4, 4), torch.tensor([[0.1], [0.2]])
    passes = Guidance({"audio": 2.0}).passes(Conditions(frame, [frame], torch.ones(2, 5, 3), told))
    assert torch.equal(passes.controls, torch.cat([told, told]))


# Training


def with_controls(folder: Path, controls: list[str], **changes):
    made = recipe(folder, **changes)
    return made.model_copy(update={"model": made.model.model_copy(update={"controls": controls})})


def test_training_with_controls_resumes_to_the_same_bytes(folder, tmp_path):
    for name, all_steps in (("whole", [4]), ("resumed", [2, 4])):
        for steps in all_steps:
            train(with_controls(folder, ["head"], steps=steps, lr_final=1.0), tmp_path / name, device="cpu")
    runs = [(tmp_path / name / "resume.safetensors").read_bytes() for name in ("whole", "resumed")]
    assert runs[0] == runs[1]
    trained = load_model(tmp_path / "whole", torch.device("cpu"))
    assert trained.parts.unet.n_controls == 3


@pytest.mark.parametrize(("before", "after"), [([], ["eyes"]), ([], ["head", "eyes"]), (["head"], ["eyes", "head"])])
def test_a_model_with_fewer_controls_is_a_beginning(folder, tmp_path, before, after):
    train(with_controls(folder, before, steps=2), tmp_path / "run", device="cpu")
    was = load_model(tmp_path / "run", torch.device("cpu")).parts.unet
    wanted = with_controls(folder, after, steps=2)
    parts = build_model(wanted.model, torch.device("cpu"))
    load_weights(find_checkpoint(tmp_path / "run"), parts.own_modules(), wanted)
    model = parts.unet.eval()
    assert model.control_embed[0].weight.abs().sum() > 0  # else it could not learn
    size, draws = wanted.model.size, torch.Generator().manual_seed(0)
    frames = [torch.randn(2, n, size, size, generator=draws) for n in (3, 3, 3 * wanted.model.n_motion_frames)]
    n_window = 2 * wanted.model.audio_context + 1
    audio = torch.randn(2, n_window, parts.audio_encoder.embed_dim, generator=draws)
    head = torch.tensor([[0.2, 0.1, 0.0], [torch.nan] * 3])
    told = {"eyes": torch.tensor([[0.3, 0.5], [1.0, 0.0]]), "head": head}
    given = (frames[0], torch.tensor([3, 71]), frames[1], frames[2], audio, None)
    with torch.no_grad():
        before_ = was(*given, torch.cat([told[name] for name in before], 1) if before else None)
        after_ = model(*given, torch.cat([told[name] for name in after], 1))
    torch.testing.assert_close(after_, before_, atol=1e-6, rtol=0)
