"""Re-anchoring: colours outside the mouth come back to the identity frame's."""

import torch

from dheads_cli.model.anchor import MOUTH, anchored


def box() -> tuple[slice, slice]:
    top, bottom, left, right = (round(share * 64) for share in MOUTH)
    return slice(top, bottom), slice(left, right)


def outside(frame: torch.Tensor) -> torch.Tensor:
    """[B, 3, H, W] -> [B, 3, pixels outside the mouth]."""
    mask = torch.ones(64, 64, dtype=torch.bool)
    mask[box()] = False
    return frame[:, :, mask]


def pictures(seed: int) -> torch.Tensor:
    return (torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 0.1).clamp(-1, 1)


def test_a_frame_that_lost_contrast_and_colour_gets_both_back():
    identity = pictures(0)
    drifted = 0.6 * identity + torch.tensor([0.1, -0.05, 0.2])[:, None, None]
    torch.testing.assert_close(anchored(drifted, identity, 1.0), identity, atol=1e-5, rtol=0)


def test_a_share_moves_it_by_that_share_of_the_way():
    identity, frame = pictures(0), pictures(1) + 0.2
    before = outside(frame).mean(2) - outside(identity).mean(2)
    after = outside(anchored(frame, identity, 0.25)).mean(2) - outside(identity).mean(2)
    torch.testing.assert_close(after, 0.75 * before, atol=1e-5, rtol=0)


def test_an_open_mouth_moves_nothing_else():
    identity = pictures(0)
    frame = identity.clone()
    frame[:, :, *box()] = -1
    torch.testing.assert_close(outside(anchored(frame, identity, 1.0)), outside(identity), atol=1e-5, rtol=0)


def test_a_frame_of_one_colour_stays_finite():
    assert torch.isfinite(anchored(torch.zeros(1, 3, 64, 64), pictures(0)[:1], 1.0)).all()
