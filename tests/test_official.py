"""Parity with the authors' release: its network, losses, schedule and sampling, from made-up weights and inputs.

tests/data/parity holds what the release's arithmetic gives; weights, inputs and noise follow from names (parity.py).
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from parity import draw, noise_stream, weight

from dheads_cli.errors import DheadsError
from dheads_cli.model.diffusion import cosine_schedule
from dheads_cli.model.official import official_losses, official_sample, official_schedule, unet_from_state_dict

FOLDER = Path(__file__).parent / "data" / "parity"
NAMES = ("adagn_rgb", "cross_attention_rgb")
TOLERANCE = 1e-5  # relative, of float32


class Fixture:
    """One configuration: what the release gave, and the same network here."""

    def __init__(self, name):
        self.facts = json.loads((FOLDER / f"{name}.json").read_text())
        self.arrays = np.load(FOLDER / f"{name}.npz")
        self.state_dict = {key: weight(key, shape) for key, shape in self.facts["state_dict_keys"].items()}
        self.unet = unet_from_state_dict(self.state_dict, head_dim=16)
        self.identity = draw("input:identity", (2, 3, 32, 32)).clamp(-1, 1)
        self.motion = draw("input:motion", (2, 6, 32, 32)).clamp(-1, 1)
        self.audio = draw("input:audio", (2, 5, 32))


@pytest.fixture(scope="module", params=NAMES)
def fixture(request):
    return Fixture(request.param)


def relative_difference(found, expected):
    """||found - expected|| / ||expected||."""
    expected = torch.as_tensor(expected)
    return ((found - expected).norm() / expected.norm()).item()


def test_the_network_gives_what_the_release_gives(fixture):
    with torch.no_grad():
        out = fixture.unet(
            draw("input:x_t", (2, 3, 32, 32)), torch.tensor(fixture.facts["t"]), fixture.identity, fixture.motion,
            fixture.audio,
        )  # fmt: skip
    assert relative_difference(out, fixture.arrays["forward"]) < TOLERANCE
    assert (out - torch.from_numpy(fixture.arrays["forward"])).abs().max() < TOLERANCE


def test_the_losses_are_the_release_s(fixture):
    losses = official_losses(
        fixture.unet, draw("input:x_0", (2, 3, 32, 32)).clamp(-1, 1), draw("input:eps", (2, 3, 32, 32)),
        torch.tensor(fixture.facts["loss_t"]), fixture.identity, fixture.motion, fixture.audio,
        torch.tensor(fixture.facts["mouth_landmarks"]),
    )  # fmt: skip
    assert losses == pytest.approx(fixture.facts["losses"], rel=TOLERANCE)


@pytest.mark.parametrize(("name", "stabilize_every"), [("sample", None), ("sample_stabilized", 2)])
def test_sampling_gives_the_release_s_frames(fixture, name, stabilize_every):
    # The first step's x_0 is 20,291 (x_t - eps), clamped. In about one clip of three there is a pixel where both are so
    # near that the clamp does not bite, and the last bit of the network's output shows there and in its neighbours: the
    # release's own frames differ so much from those in float64. Hence a bound for nearly all pixels, and half of an
    # 8-bit level for every one.
    frames = official_sample(
        fixture.unet, fixture.identity[:1], draw("input:audio_sequence", (1, 4, 32)), 12, noise_stream(name),
        stabilize_every=stabilize_every,
    )  # fmt: skip
    assert frames.shape == (1, 4, 3, 32, 32)
    difference = (frames - torch.from_numpy(fixture.arrays[name])).abs()  # of values that reach 1
    assert difference.flatten().quantile(0.95) < TOLERANCE
    assert difference.max() < 0.5 / 127.5


def test_stabilizing_changes_the_frames_it_should(fixture):
    audio = draw("input:audio_sequence", (1, 4, 32))
    clips = [
        official_sample(fixture.unet, fixture.identity[:1], audio, 12, noise_stream("sample"), stabilize_every=every)
        for every in (None, 2)
    ]
    differ = [not torch.equal(a, b) for a, b in zip(clips[0].unbind(1), clips[1].unbind(1), strict=True)]
    assert differ == [False, False, True, True]


@pytest.mark.parametrize("n_steps", [1000, 200, 100, 25])
def test_the_schedule_s_tables_are_the_release_s_to_the_bit(n_steps):
    tables, schedule = np.load(FOLDER / "schedules.npz"), official_schedule(n_steps=n_steps)
    of_x_0, of_x_t = schedule.posterior_mean_weights()
    abar = schedule.alphas_cumprod
    ours = {
        "timesteps": torch.tensor(schedule.timesteps), "beta": schedule.betas, "alpha_bar": abar,
        "log_beta_tilde_clipped": schedule.posterior_variance.log(), "coef1_q": of_x_0, "coef2_q": of_x_t,
        "coef2_x0": (1 / abar - 1).sqrt(),
    }  # fmt: skip
    for name, table in ours.items():
        assert np.array_equal(table.numpy(), tables[f"{n_steps}/{name}"]), name
    np.testing.assert_allclose((1 / abar).sqrt().numpy(), tables[f"{n_steps}/coef1_x0"], rtol=2e-7)


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
