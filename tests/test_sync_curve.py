"""SyncNet's procedure, on embeddings whose offset is known."""

import pytest
import torch
from torch.nn import functional as F

from dheads_cli.model.sync_curve import MAX_SHIFT, sync_of


def embeddings(n: int = 60) -> torch.Tensor:
    return F.normalize(torch.randn(n, 32, generator=torch.Generator().manual_seed(0)), dim=1)


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("ahead", [-5, -1, 0, 2, 15])
def test_the_offset_is_positive_where_the_sound_comes_first(ahead: int, zeros: bool) -> None:
    what = embeddings(80)
    lips, sound = what[15:65], what[15 + ahead : 65 + ahead]  # what is heard now is seen `ahead` frames later
    found = sync_of(lips, sound, zeros_beyond=zeros)
    assert found is not None
    assert found.offset == ahead
    if not zeros:
        assert found.distance == pytest.approx(0, abs=1e-6)
        assert found.confidence == pytest.approx(2**0.5, abs=0.1)  # of vectors that have nothing in common


def test_agreement_is_confidence_in_step_and_nothing_out_of_it() -> None:
    what = embeddings()
    in_step, apart = sync_of(what, what), sync_of(what[:50], what[5:55])
    assert in_step.agreement == in_step.confidence > 1
    assert apart.confidence > 1
    assert abs(apart.agreement) < 0.1


def test_with_zeros_beyond_the_mean_is_that_of_the_authors_code() -> None:
    lips, sound = torch.randn(2, 24, 8, generator=torch.Generator().manual_seed(1)).unbind()
    padded = F.pad(sound, (0, 0, MAX_SHIFT, MAX_SHIFT))
    rows = [
        torch.linalg.vector_norm(lips[i] - padded[i : i + 2 * MAX_SHIFT + 1], dim=1) for i in range(len(lips))
    ]
    expected = torch.stack(rows).mean(0)
    found = sync_of(lips, sound, zeros_beyond=True)
    torch.testing.assert_close(found.curve, expected)
    assert found.offset == MAX_SHIFT - int(expected.argmin())
    assert found.confidence == pytest.approx(float(expected.median() - expected.min()))


def test_a_clip_that_leaves_a_shift_without_a_pair_is_none() -> None:
    what = embeddings()
    assert sync_of(what[:15], what[:15]) is None
    assert sync_of(what[:16], what[:16]) is not None
