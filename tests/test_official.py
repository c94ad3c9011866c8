"""Parity with the authors' release: its network, losses, schedule and sampling, from made-up weights and inputs.

tests/data/parity holds what the release's arithmetic gives; weights, inputs and noise follow from names (parity.py).
"""

import numpy as np
import pytest
import torch
from official_files import release_names
from parity import FOLDER, NAMES, SAMPLES, Fixture, draw, noise_stream, tables_of

from dheads_cli import registry
from dheads_cli.errors import DheadsError
from dheads_cli.model.build import build_unet
from dheads_cli.model.diffusion import cosine_schedule
from dheads_cli.model.official import official_sample, official_schedule, unet_from_state_dict
from dheads_cli.model.official_fit import fit_state_dict
from dheads_cli.recipe_model import Model

TOLERANCE = 1e-5  # relative, of float32


@pytest.fixture(scope="module", params=NAMES)
def fixture(request):
    return Fixture(request.param)


def relative_difference(found, expected):
    """||found - expected|| / ||expected||."""
    return ((found - expected).norm() / expected.norm()).item()


def test_the_network_gives_what_the_release_gives(fixture):
    out, expected = fixture.forward(), fixture.arrays["forward"]
    assert relative_difference(out, expected) < TOLERANCE
    assert (out - expected).abs().max() < TOLERANCE


def test_the_losses_are_the_release_s(fixture):
    assert fixture.losses() == pytest.approx(fixture.facts["losses"], rel=TOLERANCE)


@pytest.mark.parametrize(("name", "stabilize_every"), SAMPLES.items())
def test_sampling_gives_the_release_s_frames(fixture, name, stabilize_every):
    # The first step's x_0 is 20,291 (x_t - eps), clamped. In about one clip of three there is a pixel where both are so
    # near that the clamp does not bite, and the last bit of the network's output shows there and in its neighbours: the
    # release's own frames differ so much from those in float64. It is so in the stabilised samples: hence their own
    # bounds, and half of an 8-bit level for every pixel.
    frames = fixture.sample(name, stabilize_every)
    assert frames.shape == (1, 4, 3, 32, 32)
    difference = (frames - fixture.arrays[name]).abs()  # of values that reach 1
    bound = TOLERANCE if stabilize_every is None else 10 * TOLERANCE
    assert relative_difference(frames, fixture.arrays[name]) < bound
    assert difference.flatten().quantile(0.95) < TOLERANCE
    assert difference.max() < 0.5 / 127.5


def test_stabilizing_changes_the_frames_it_should(fixture):
    clips = [fixture.sample("sample", every) for every in (None, 2)]
    differ = [not torch.equal(a, b) for a, b in zip(clips[0].unbind(1), clips[1].unbind(1), strict=True)]
    assert differ == [False, False, True, True]


@pytest.mark.parametrize("n_steps", [1000, 200, 100, 25])
def test_the_schedule_s_tables_are_the_release_s_to_the_bit(n_steps):
    stored = np.load(FOLDER / "schedules.npz")
    for name, table in tables_of(official_schedule(n_steps=n_steps)).items():
        assert np.array_equal(table.numpy(), stored[f"{n_steps}/{name}"]), name


@pytest.mark.parametrize("n_steps", [1000, 200, 100, 25])
def test_the_exact_schedule_is_near_the_release_s(n_steps):
    exact, official = cosine_schedule(1000).respace(n_steps), official_schedule(n_steps=n_steps)
    assert exact.timesteps == official.timesteps
    for ours, theirs in zip(exact.posterior_mean_weights(), official.posterior_mean_weights(), strict=True):
        assert (ours - theirs).abs().max() < 6e-4


@pytest.mark.parametrize("n_steps", range(1, 13))
def test_every_number_of_steps_has_finite_frames(n_steps):
    unet = Fixture("adagn_rgb").unet
    frames = official_sample(unet, torch.zeros(1, 3, 32, 32), torch.zeros(1, 2, 32), n_steps, noise_stream("any"))
    assert frames.isfinite().all()
    assert frames.abs().max() <= 1


def test_where_float32_has_no_answer_the_exact_schedule_is_given():
    for n_steps in (1, 2, 6):  # the release divides by 1 - beta = 0, or by n_steps - 1 = 0
        exact = cosine_schedule(1000).respace(n_steps)
        assert torch.equal(official_schedule(n_steps=n_steps).alphas_cumprod, exact.alphas_cumprod.float())
    seven = official_schedule(n_steps=7)
    assert torch.equal(seven.alphas_cumprod, torch.cumprod(1 - seven.betas, 0))
    assert seven.betas.max() < 1


def test_a_prefix_common_to_all_names_does_not_matter():
    fixture = Fixture("adagn_rgb")
    prefixed = {f"unet.{key}": tensor for key, tensor in fixture.state_dict.items()}
    ours, theirs = unet_from_state_dict(prefixed, head_dim=16).state_dict(), fixture.unet.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"input_blocks.0.0.weight": None}, "0 of its tensors are called input_blocks.0.0.weight"),
        ({"input_blocks.0.0.weight": torch.zeros(32, 5, 3, 3)}, "5 input channels"),
        ({"out.2.weight": torch.zeros(4, 32, 3, 3)}, "4 output channels"),
        ({"out.2.bias": None}, "1 of its tensors are missing (out.2.bias)"),
        ({"audio_embed.0.weight": torch.zeros(128, 64)}, "64 inputs are no odd number of embeddings of 32"),
        ({"middle_block.0.audio_emb_layers.1.weight": torch.zeros(50, 128)}, "50 rows are neither"),
        ({"middle_block.2.skip_connection.weight": torch.zeros(96, 96, 1, 1)}, "1 tensors have no place in it"),
        ({"middle_block.2.in_layers.2.bias": torch.zeros(7)}, "is [7], not [96]"),
        ({"time_embed.fc.2.weight": torch.zeros(64, 128)}, "time embeddings of 64, not 128"),
        ({"input_blocks.0.0.weight": torch.zeros(())}, "input_blocks.0.0.weight is [], not of 4 dimensions"),
        ({"middle_block.0.out_layers.0.weight": torch.zeros(9, 9)}, "is [9, 9], not of 1 dimensions"),
    ],
)
def test_shapes_that_do_not_add_up_are_refused(change, text):
    state_dict = dict(Fixture("adagn_rgb").state_dict)
    for key, tensor in change.items():
        if tensor is None:
            del state_dict[key]
        else:
            state_dict[key] = tensor
    with pytest.raises(DheadsError) as error:
        unet_from_state_dict(state_dict, head_dim=16)
    assert text in str(error.value)


CONFIGURATIONS = {
    "gray": {"grayscale_motion": True},
    "middle attention only": {"attention_levels": []},
    "attention on two levels": {"attention_levels": [1, 2]},
    "pre_gn": {"conditioning": "adagn_summed"},
    "post_gn": {"conditioning": "audio_scale"},
    "cross-attention": {"conditioning": "cross_attention_official"},
    "m_x = m_y = 1": {"n_motion_frames": 1, "audio_context": 1},
    "m_x = m_y = 0": {"n_motion_frames": 0, "audio_context": 0},
    "m_x = m_y = 4": {"n_motion_frames": 4, "audio_context": 4},
    "fixed variance": {"learned_variance": False},
    "one residual block, four levels": {"n_res_blocks": 1, "channel_mult": [1, 2, 2, 4]},
}


@pytest.mark.parametrize("changes", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
def test_every_configuration_follows_from_its_shapes(changes):
    settings = Model.model_validate({
        "size": 64, "channels": 32, "channel_mult": [1, 2, 3], "attention_levels": [2], "head_dim": 16,
        "identity_last": True, "time_max_period": 10.0, **changes,
    })  # fmt: skip
    torch.manual_seed(0)
    unet = build_unet(settings, registry.build("conditioning", settings.conditioning.use), 32).eval()
    with torch.no_grad():
        for parameter in unet.parameters():
            parameter.normal_(0, 0.05)
    state_dict = release_names(unet)
    fit = fit_state_dict(state_dict, 16, size=64)
    assert fit.settings == settings
    again = unet_from_state_dict(state_dict, head_dim=16)
    channels = settings.n_motion_frames * (1 if settings.grayscale_motion else 3)
    given = (
        draw("input:x_t", (2, 3, 64, 64)), torch.tensor([3, 871]), draw("input:identity", (2, 3, 64, 64)),
        draw("input:motion", (2, channels, 64, 64)), draw("input:audio", (2, 2 * settings.audio_context + 1, 32)),
    )  # fmt: skip
    with torch.no_grad():
        assert torch.equal(again(*given), unet(*given))


def test_nine_channels_are_one_rgb_or_three_gray_motion_frames():
    nine = {**Fixture("adagn_rgb").state_dict, "input_blocks.0.0.weight": torch.zeros(32, 9, 3, 3)}
    unet = unet_from_state_dict(nine, 16)
    assert (unet.n_motion_frames, unet.grayscale_motion) == (1, False)
    unet = unet_from_state_dict(nine, 16, grayscale_motion=True)
    assert (unet.n_motion_frames, unet.grayscale_motion) == (3, True)


def test_gray_motion_frames_are_shown_gray_in_sampling():
    shown = []
    eight = {**Fixture("adagn_rgb").state_dict, "input_blocks.0.0.weight": torch.zeros(32, 8, 3, 3)}
    unet = unet_from_state_dict(eight, 16)
    unet.register_forward_pre_hook(lambda module, given: shown.append(given[3]))
    identity = draw("input:identity", (2, 3, 32, 32))[:1].clamp(-1, 1)
    frames = official_sample(unet, identity, torch.zeros(1, 2, 32), 3, noise_stream("any"))
    luma = torch.tensor([0.2989, 0.587, 0.114]).view(1, 3, 1, 1)
    torch.testing.assert_close(shown[0], (identity * luma).sum(1, keepdim=True).expand(1, 2, 32, 32))
    torch.testing.assert_close(shown[-1][:, 1:], (frames[:, 0] * luma).sum(1, keepdim=True))


def test_wrong_head_widths_and_step_counts_are_told():
    fixture = Fixture("adagn_rgb")
    with pytest.raises(DheadsError, match="64 does not divide the 96 channels"):
        unet_from_state_dict(fixture.state_dict)
    frame, audio = torch.zeros(1, 3, 32, 32), torch.zeros(1, 1, 32)
    for n_steps, every, text in ((0, None, "n_steps"), (1001, None, "n_steps"), (2, 0, "stabilize_every")):
        with pytest.raises(DheadsError, match=text):
            official_sample(fixture.unet, frame, audio, n_steps, noise_stream("any"), stabilize_every=every)


def test_double_precision_and_numpy_noise_are_taken_as_float32():
    fixture = Fixture("adagn_rgb")
    plain = fixture.sample("sample")
    stream = noise_stream("sample")
    audio = draw("input:audio_sequence", (1, 4, 32)).double()
    identity = fixture.identity[:1].double()
    frames = official_sample(fixture.unet, identity, audio, 12, lambda shape: stream(shape).numpy())
    assert torch.equal(frames, plain)
