"""Motion frames on their way to the network: noise of known levels, a level a frame, missing patches."""

import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from test_generate import Recorder, counting_sampler, frames_of
from test_unet import inputs, unet

from dheads_cli.errors import DheadsError
from dheads_cli.model.motion_frames import LEVELS, add_noise, drop_patches, sampling_levels
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_io import recipe_from_json
from dheads_cli.run.frames import check_motion_noise

QUANTILES = torch.arange(1000, dtype=torch.float64) / 1000


def test_every_distribution_of_levels_rises_from_0_and_never_passes_its_maximum():
    for levels in LEVELS.values():
        sigma = levels(QUANTILES, 0.7)
        assert sigma[0] == 0
        assert all(a < b <= 0.7 for a, b in pairwise(sigma.tolist()))


def test_uniform_low_and_log_normal_levels_have_their_known_medians():
    half = torch.tensor([0.5], dtype=torch.float64)
    assert LEVELS["uniform"](half, 0.8).item() == pytest.approx(0.4)
    assert LEVELS["low"](half, 0.8).item() == pytest.approx(0.2)
    # The median of the normal would be 0.2; cut off at 0.8 = 0.2 exp(1.386), 8.3 % are gone: Phi^-1(0.4586) = -0.1039.
    assert LEVELS["log_normal"](half, 0.8).item() == pytest.approx(0.2 * math.exp(-0.1039), rel=1e-3)


def test_log_normal_levels_are_normal_in_their_logarithm_below_the_cut():
    logs = torch.log(LEVELS["log_normal"](QUANTILES[1:], 1.0) / 0.25)
    share_below_one_sigma = (logs < -1).double().mean().item()
    assert share_below_one_sigma == pytest.approx(0.1587 / 0.9172, abs=2e-3)


def test_each_motion_frame_gets_its_own_level_of_noise():
    level = torch.tensor([[0.0, 0.5], [0.25, 1.0]])
    noised = add_noise(torch.zeros(2, 6, 4, 4), level, torch.ones(2, 6, 4, 4))
    for sample in range(2):
        for frame in range(2):
            assert (noised[sample, 3 * frame : 3 * frame + 3] == level[sample, frame]).all()


def test_one_level_for_all_frames_equals_the_same_level_for_each():
    noise = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))  # two gray frames
    motion, level = torch.full((2, 2, 4, 4), 0.3), torch.tensor([0.1, 0.7])
    assert torch.equal(add_noise(motion, level, noise), add_noise(motion, level[:, None].expand(2, 2), noise))


def dropped(share: float, patch_px: int, size: int = 32, n_clips: int = 64) -> torch.Tensor:
    frames = torch.ones(n_clips, 6, size, size)
    uniform = partial(torch.rand, generator=torch.Generator().manual_seed(0))
    return drop_patches(frames, 2, share, patch_px, uniform) == 0


def test_dropped_patches_are_whole_squares_in_all_channels_of_one_frame():
    gone = dropped(0.25, 8)
    squares = gone.view(64, 2, 3, 4, 8, 4, 8)
    assert (squares == squares[:, :, :1, :, :1, :, :1]).all()
    assert (gone[:, 0] != gone[:, 3]).any()  # the other frame has its own


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_dropped_patches_is_the_one_asked_for(share):
    # 64 x 2 x 16 squares: three standard deviations are 0.029.
    assert dropped(share, 8).double().mean().item() == pytest.approx(share, abs=0.03)


def test_patches_that_do_not_fill_the_frame_are_cut_at_its_edge():
    assert dropped(1.0, 5, size=12).all()


def test_without_motion_frames_there_is_nothing_to_drop():
    frames = torch.zeros(2, 0, 8, 8)
    assert drop_patches(frames, 0, 0.5, 4, torch.rand).shape == frames.shape


def test_a_network_told_each_level_sees_which_frame_has_it():
    torch.manual_seed(0)
    model = unet(noised_motion=True, motion_noise_per_frame=True).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)  # what begins as zero would hide all
    given = inputs()

    def output(levels):
        with torch.no_grad():
            return model(*given, torch.tensor(levels))

    noisy_first, noisy_last = [[0.5, 0.0]] * 2, [[0.0, 0.5]] * 2
    assert not torch.allclose(output(noisy_first), output(noisy_last))
    with torch.no_grad():
        assert torch.equal(output([[0.0, 0.0]] * 2), model(*given))  # no level told means clean


def test_a_network_told_one_level_keeps_its_tensors_names_and_shapes():
    shapes = {name: tensor.shape for name, tensor in unet(noised_motion=True).state_dict().items()}
    assert shapes["motion_noise_embed.0.weight"] == (128, 32)  # channels -> 4 channels
    told_each = unet(noised_motion=True, motion_noise_per_frame=True).state_dict()
    differ = [name for name in told_each if told_each[name].shape != shapes[name]]
    assert told_each.keys() == shapes.keys()
    assert differ == ["motion_noise_embed.0.weight"]
    assert told_each[differ[0]].shape == (128, 64)


def test_sampling_gives_each_motion_frame_its_level_and_tells_the_network():
    model = Recorder()
    model.motion_noise_per_frame = True
    list(frames_of(model, counting_sampler(), n=1, motion_noise=(0.0, 0.5)))
    assert (model.motion[0][:, :3] == -1).all()
    assert 0.4 < (model.motion[0][:, 3:] + 1).std().item() < 0.6
    assert model.level[0].tolist() == [[0.0, 0.5]]


def test_one_number_is_the_level_of_every_frame():
    like = torch.zeros(3, 1)
    assert sampling_levels(0.25, 2, True, like).tolist() == [[0.25, 0.25]] * 3
    assert sampling_levels(0.25, 2, False, like).tolist() == [0.25] * 3
    assert sampling_levels((0.0, 0.0), 2, True, like) is None


def recipe(**model) -> Recipe:
    return Recipe.model_validate({"name": "small", "model": {"noised_motion": True, **model}})


@pytest.mark.parametrize(
    ("model", "levels", "said"),
    [
        ({}, [0.1, 0.3], "small is told one level for all motion frames"),
        ({"motion_noise_per_frame": True}, [0.1], "small has 2 motion frames: give one number, or one for each"),
        ({"noised_motion": False}, 0.3, "does not know model.noised_motion; use 0"),
    ],
)
def test_levels_that_the_network_cannot_be_told_are_refused(model, levels, said):
    with pytest.raises(DheadsError, match=said):
        check_motion_noise(recipe(**model), levels)


def test_a_level_for_each_frame_needs_a_network_that_is_told_any():
    text = '{"name": "a", "model": {"motion_noise_per_frame": true}}'
    with pytest.raises(DheadsError, match=r"model\.motion_noise_per_frame: needs noised_motion: true"):
        recipe_from_json(text, "a.json")
