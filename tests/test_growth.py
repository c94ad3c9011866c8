"""Growth: the weights of a small model do, on larger frames, what they did before."""

from pathlib import Path

import pytest
import torch

from dheads_cli.model.build import build_model
from dheads_cli.model.checkpoint import load_model, load_weights
from dheads_cli.model.growth import growth_of
from dheads_cli.recipe_model import Model


def enlarged(frames: torch.Tensor) -> torch.Tensor:
    return frames.repeat_interleave(2, -1).repeat_interleave(2, -2)


def test_a_grown_network_draws_on_enlarged_frames_what_the_small_one_draws(tmp_path: Path) -> None:
    tiny = load_model("tiny", torch.device("cpu"))
    model = Model.model_validate({**tiny.recipe.model.model_dump(), "size": 128, "patch_size": 4})
    large = build_model(model, torch.device("cpu"))
    load_weights("tiny", large.own_modules(), tiny.recipe.model_copy(update={"model": model}))
    draws = torch.Generator().manual_seed(0)
    frames = [torch.randn(2, n, 64, 64, generator=draws) for n in (3, 3, 6)]
    t, audio = torch.tensor([5, 700]), torch.randn(2, 5, tiny.parts.audio_encoder.embed_dim, generator=draws)
    with torch.no_grad():
        before = tiny.parts.unet(frames[0], t, *frames[1:], audio)
        after = large.unet.eval()(enlarged(frames[0]), t, *map(enlarged, frames[1:]), audio)
    torch.testing.assert_close(after, enlarged(before), atol=1e-5, rtol=0)


def test_told_the_same_level_for_each_motion_frame_a_network_draws_what_it_drew_when_told_one() -> None:
    tiny = load_model("tiny", torch.device("cpu"))
    model = tiny.recipe.model.model_copy(update={"motion_noise_per_frame": True})
    each = build_model(model, torch.device("cpu"))
    load_weights("tiny", each.own_modules(), tiny.recipe.model_copy(update={"model": model}))
    draws = torch.Generator().manual_seed(0)
    frames = [torch.randn(2, n, 64, 64, generator=draws) for n in (3, 3, 6)]
    t, audio = torch.tensor([5, 700]), torch.randn(2, 5, tiny.parts.audio_encoder.embed_dim, generator=draws)
    level = torch.tensor([0.1, 0.6])
    with torch.no_grad():
        before = tiny.parts.unet(frames[0], t, *frames[1:], audio, level)
        after = each.unet.eval()(frames[0], t, *frames[1:], audio, level[:, None].expand(-1, 2))
        oldest_alone = each.unet(frames[0], t, *frames[1:], audio, torch.stack([level, 0 * level], dim=1))
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0)
    assert (oldest_alone - before).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("size", "patch_size", "factor"), [(128, 4, 2), (64, 2, 1), (128, 2, 1), (64, 4, 1), (32, 1, 1)]
)
def test_only_frames_and_patches_that_widen_together_grow(size: int, patch_size: int, factor: int) -> None:
    def model(size: int, patch_size: int) -> Model:
        return Model.model_validate({"size": size, "patch_size": patch_size})

    assert growth_of(model(64, 2), model(size, patch_size)) == factor
