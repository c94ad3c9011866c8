"""The U-Net: sizes of the paper's networks, and that every condition reaches the output."""

import pytest
import torch

from dheads_cli import registry
from dheads_cli.model.unet import UNet, sinusoidal_embedding


def unet(**changes):
    settings = {
        "channels": 32, "channel_mult": [1, 2], "n_res_blocks": 1, "attention_levels": [], "head_dim": 32,
        "n_heads": None, "dropout": 0.0, "patch_size": 1, "n_motion_frames": 2, "grayscale_motion": False,
        "noised_motion": False, "identity_last": False, "time_max_period": 1e4, "size": 32,
        "learned_variance": True, "n_window": 5, "audio_dim": 8,
        "conditioning": registry.build("conditioning", "adagn"),
    }  # fmt: skip
    return UNet(**{**settings, **changes})


@pytest.mark.parametrize(
    ("attention_levels", "grayscale", "n_tensors", "n_parameters"),
    [([2], False, 324, 215_748_614), ([2], True, 324, 215_739_398), ([], False, 294, 203_929_094)],
)
def test_full_size_networks_have_the_published_sizes(attention_levels, grayscale, n_tensors, n_parameters):
    with torch.device("meta"):
        model = unet(
            channels=256, channel_mult=[1, 2, 3], n_res_blocks=2, attention_levels=attention_levels, head_dim=64,
            dropout=0.1, grayscale_motion=grayscale, audio_dim=256,
        )  # fmt: skip
    assert len(list(model.parameters())) == n_tensors
    assert sum(parameter.numel() for parameter in model.parameters()) == n_parameters


def inputs(motion_channels=6, size=32):
    generator = torch.Generator().manual_seed(0)
    frames = [torch.randn(2, c, size, size, generator=generator) for c in (3, 3, motion_channels)]
    return frames[0], torch.tensor([3, 871]), frames[1], frames[2], torch.randn(2, 5, 8, generator=generator)


@pytest.mark.parametrize("patch_size", [1, 2, 4])
@pytest.mark.parametrize("learned_variance", [True, False])
def test_the_output_has_the_inputs_size(patch_size, learned_variance):
    model = unet(patch_size=patch_size, learned_variance=learned_variance)
    assert model(*inputs()).shape == (2, 6 if learned_variance else 3, 32, 32)


def test_grayscale_and_absent_motion_frames_fit():
    assert unet(grayscale_motion=True)(*inputs(2)).shape == (2, 6, 32, 32)
    assert unet(n_motion_frames=0)(*inputs(0)).shape == (2, 6, 32, 32)


def test_a_fresh_network_predicts_zero():
    assert unet()(*inputs()).abs().max() == 0


def test_every_condition_reaches_the_output():
    torch.manual_seed(0)
    model = unet(noised_motion=True, attention_levels=[1])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1)
    given = [*inputs(), torch.tensor([0.3, 0.3])]
    base = model(*given)
    for i, changed in enumerate([*given]):
        other = list(given)
        other[i] = changed + (1 if changed.dtype == torch.int64 else 0.1)
        assert (model(*other) - base).abs().max() > 1e-6, f"input {i} changes nothing"


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="attention heads"):
        unet(head_dim=128)


def test_time_embeddings_are_cosines_then_sines():
    embedding = sinusoidal_embedding(torch.tensor([0, 1]), 8)
    torch.testing.assert_close(embedding[0], torch.tensor([1.0, 1, 1, 1, 0, 0, 0, 0]))
    assert embedding[1, 0].item() == pytest.approx(torch.tensor(1.0).cos().item())
    assert embedding[1, 4].item() == pytest.approx(torch.tensor(1.0).sin().item())
