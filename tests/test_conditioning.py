"""Conditionings against the formulas they stand for, with weights far from where training begins."""

import math

import pytest
import torch
from torch.nn import functional as F

from dheads_cli import registry
from dheads_cli.errors import DheadsError

CHANNELS, HEADS, SIZE, WIDTH, N_WINDOW, AUDIO_DIM = 64, 4, 6, 32, 5, 16


class Drawn:
    """One conditioning's modules with random weights, and random conditions."""

    def __init__(self, name):
        torch.manual_seed(0)
        component = registry.build("conditioning", name)
        self.embed = component.embed(N_WINDOW, AUDIO_DIM, WIDTH)
        self.layer = component.layer(CHANNELS, WIDTH, WIDTH)
        self.attention = component.attention(CHANNELS, HEADS, SIZE, WIDTH) if hasattr(component, "attention") else None
        for module in (self.embed, self.layer, self.attention):
            for parameter in module.parameters() if module is not None else ():
                torch.nn.init.normal_(parameter, std=0.3)
        self.h, self.time = torch.randn(3, CHANNELS, SIZE, SIZE), torch.randn(3, WIDTH)
        self.window = torch.randn(3, N_WINDOW, AUDIO_DIM)
        self.audio = self.embed(self.window)
        self.normalised = F.group_norm(self.h, 32, *self.layer.norm.parameters(), eps=1e-5)

    def linear(self, module, x):
        """Linear(SiLU(x)) as channels of a picture."""
        return (F.silu(x) @ module.weight.T + module.bias)[:, :, None, None]


def scale_and_shift(values):
    return values[:, :CHANNELS], values[:, CHANNELS:]


@pytest.mark.parametrize("name", ["adagn", "adagn_summed", "audio_scale", "cross_attention_official"])
def test_the_window_is_flattened_oldest_to_newest_into_an_mlp(name):
    drawn = Drawn(name)
    first, second = drawn.embed.mlp[0], drawn.embed.mlp[2]
    flat = torch.cat([drawn.window[:, k] for k in range(N_WINDOW)], dim=1)
    expected = F.silu(flat @ first.weight.T + first.bias) @ second.weight.T + second.bias
    torch.testing.assert_close(drawn.audio, expected[:, None])


def test_adagn_is_the_paper_s_section_3_3():
    drawn = Drawn("adagn")
    t_s, t_b = scale_and_shift(drawn.linear(drawn.layer.time, drawn.time))
    y_s, y_b = scale_and_shift(drawn.linear(drawn.layer.audio, drawn.audio[:, 0]))
    expected = (1 + y_s) * ((1 + t_s) * drawn.normalised + t_b) + y_b
    torch.testing.assert_close(drawn.layer(drawn.h, drawn.time, drawn.audio), expected)


def test_adagn_summed_scales_and_shifts_by_the_sum_of_both_embeddings():
    drawn = Drawn("adagn_summed")
    scale, shift = scale_and_shift(drawn.linear(drawn.layer.time, drawn.time + drawn.audio[:, 0]))
    torch.testing.assert_close(drawn.layer(drawn.h, drawn.time, drawn.audio), (1 + scale) * drawn.normalised + shift)


def test_audio_scale_multiplies_what_time_conditioned_and_its_scale_is_not_one_plus_s():
    drawn = Drawn("audio_scale")
    t_s, t_b = scale_and_shift(drawn.linear(drawn.layer.time, drawn.time))
    y_s = drawn.linear(drawn.layer.audio, drawn.audio[:, 0])
    expected = y_s * ((1 + t_s) * drawn.normalised + t_b)
    torch.testing.assert_close(drawn.layer(drawn.h, drawn.time, drawn.audio), expected)


@pytest.mark.parametrize("name", ["cross_attention", "cross_attention_official"])
def test_with_cross_attention_residual_blocks_hear_time_alone(name):
    drawn = Drawn(name)
    t_s, t_b = scale_and_shift(drawn.linear(drawn.layer.time, drawn.time))
    torch.testing.assert_close(
        drawn.layer(drawn.h, drawn.time, drawn.audio), (1 + t_s) * drawn.normalised + t_b
    )


def test_cross_attention_is_softmax_over_the_audio_tokens_after_self_attention():
    drawn = Drawn("cross_attention")
    block = drawn.attention
    x = block.self_attention(drawn.h, drawn.time, drawn.audio)
    q = torch.einsum("oc,bchw->bohw", block.q.weight[..., 0], block.norm(x)) + block.q.bias[:, None, None]
    k, v = (drawn.audio @ block.kv.weight.T + block.kv.bias).split(CHANNELS, dim=-1)  # [B, K, C]
    attended = torch.empty_like(x)
    width = CHANNELS // HEADS
    for head in range(HEADS):
        part = slice(head * width, (head + 1) * width)
        scores = torch.einsum("bchw,bkc->bkhw", q[:, part], k[..., part]) / math.sqrt(width)
        attended[:, part] = torch.einsum("bkhw,bkc->bchw", scores.softmax(dim=1), v[..., part])
    expected = x + torch.einsum("oc,bchw->bohw", block.proj.weight[..., 0], attended) + block.proj.bias[:, None, None]
    torch.testing.assert_close(block(drawn.h, drawn.time, drawn.audio), expected, rtol=1e-4, atol=1e-4)


def test_cross_attention_knows_the_place_of_a_frame_in_the_window():
    drawn = Drawn("cross_attention")
    swapped = drawn.embed(drawn.window.flip(1))
    before, after = (drawn.attention(drawn.h, drawn.time, audio) for audio in (drawn.audio, swapped))
    assert (before - after).abs().max() > 1e-3
    drawn.embed.position.data.zero_()
    before, after = (drawn.attention(drawn.h, drawn.time, drawn.embed(w)) for w in (drawn.window, drawn.window.flip(1)))
    torch.testing.assert_close(before, after)


def test_a_third_of_the_official_heads_never_hear_the_sound():
    drawn = Drawn("cross_attention_official")
    drawn.attention.proj.weight.data = torch.eye(CHANNELS)[..., None]
    drawn.attention.n_heads = 1
    one_head = [drawn.attention(drawn.h, drawn.time, audio) for audio in (drawn.audio, drawn.audio + 1)]
    assert (one_head[0] - one_head[1]).abs().amax(dim=(0, 2, 3)).min() > 0  # one head: q | k | v as meant
    drawn.attention.n_heads = HEADS
    heads = [drawn.attention(drawn.h, drawn.time, audio) for audio in (drawn.audio, drawn.audio + 1)]
    moved = (heads[0] - heads[1]).abs().amax(dim=(0, 2, 3)).view(HEADS, -1).amax(dim=1)
    assert (moved > 0).tolist() == [False, True, True, True]


def test_embeddings_of_another_width_can_not_be_summed():
    with pytest.raises(ValueError, match="audio embeddings of 16 can't be added to time embeddings of 32"):
        registry.build("conditioning", "adagn_summed").layer(CHANNELS, 32, 16)
    with pytest.raises(DheadsError, match="no option"):
        registry.build("conditioning", "adagn_summed", {"width": 3})
