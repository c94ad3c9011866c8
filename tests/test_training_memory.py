"""Less memory for the same step: a batch computed in parts, activations computed again."""

from pathlib import Path
from typing import Any

import pytest
import torch
from corpus import SIZE
from toy_training import Numbers, Toy, learn, make_loss, recipe

from dheads_cli.errors import DheadsError
from dheads_cli.model.build import Parts, build_model, random_inputs
from dheads_cli.model.checkpoint import load_tensors
from dheads_cli.recipe import Recipe
from dheads_cli.run.batch_parts import Part, cut
from dheads_cli.run.training_loop import ALONE, backward, begin
from dheads_cli.run.training_state import fresh_state

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def gradients_of(settings: Recipe) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    toy = Toy()
    state = fresh_state(toy, settings)
    state.step = 1
    values = backward(settings, state, make_loss(toy), Numbers().batch(1, 8), ALONE)
    return values, {name: each.grad for name, each in state.parameters.items() if each.grad is not None}


def test_a_batch_in_parts_gives_the_losses_and_gradients_of_the_whole(tmp_path: Path) -> None:
    values, whole = gradients_of(recipe(tmp_path / "c"))
    assert set(whole) == {"net.0.weight", "net.0.bias"}
    for n_parts in (2, 8):
        in_parts = gradients_of(recipe(tmp_path / "c", accumulate=n_parts))
        assert in_parts[0] == pytest.approx(values, rel=1e-6)
        for name, gradient in whole.items():
            torch.testing.assert_close(in_parts[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_a_part_has_the_noise_that_its_samples_have_in_the_whole() -> None:
    def draw(part: Part) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        return part.randn(torch.Size([part.n, 3]), generator), part.uniform(generator)((part.n,))

    whole = Part(0, 6, 6)
    parts = [draw(part) for part in whole.split(3)]
    for k, drawn in enumerate(draw(whole)):
        assert torch.equal(torch.cat([part[k] for part in parts]), drawn)


def test_a_batch_is_cut_into_its_samples() -> None:
    batch = Numbers().batch(1, 6)
    assert cut(batch, Part(0, 6, 6)) is batch
    piece = cut(batch, Part(2, 3, 6))
    assert torch.equal(piece.x, batch.x[2:5])
    assert torch.equal(piece.motion[1], batch.motion[1][2:5])
    assert piece.index is None
    assert Part(4, 2, 8).within(Part(4, 4, 8)) == Part(0, 2, 4)


def test_a_run_goes_on_in_other_parts(tmp_path: Path) -> None:
    settings = [recipe(tmp_path / "c", steps, accumulate=parts) for steps, parts in ((4, 1), (2, 4), (4, 2))]
    for each, name in zip(settings, ("whole", "parts", "parts"), strict=True):
        learn(each, tmp_path / name)
    whole, parts = (load_tensors(tmp_path / name / "resume.safetensors")[0] for name in ("whole", "parts"))
    assert all(torch.allclose(whole[name], parts[name], rtol=1e-4, atol=1e-6) for name in whole)


def test_parts_that_do_not_divide_a_batch_are_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(DheadsError, match=r"can't be cut evenly by train\.accumulate=3: make it a multiple of 3"):
        begin(recipe(tmp_path / "c", accumulate=3), "cpu")


def step(parts: Parts, inputs: tuple[Any, ...], recompute: bool) -> tuple[list[torch.Tensor], int]:
    """The gradients of one training pass with dropout, and the bytes of all tensors kept for it but the weights."""
    parts.unet.recompute_activations = recompute
    parts.unet.zero_grad()
    weights = {each.untyped_storage().data_ptr() for each in parts.unet.parameters()}
    sizes: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(5)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = parts.unet(*inputs).square().mean()
    kept = sum(sizes.values())
    loss.backward()
    return [each.grad.clone() for each in parts.unet.parameters() if each.grad is not None], kept


def test_recomputed_activations_give_the_same_gradients_and_keep_less() -> None:
    settings = Recipe.model_validate({
        "name": "small",
        "model": {
            "size": SIZE, "channels": 32, "channel_mult": [1, 1], "n_res_blocks": 1, "head_dim": 32, "dropout": 0.3,
            "noised_motion": True, "audio_encoder": {"use": "logmel", "embed_dim": 8},
        },
    }).model  # fmt: skip
    parts = build_model(settings)
    parts.unet.train()
    draws = torch.Generator().manual_seed(0)
    with torch.no_grad():  # layers that begin as zero would hide what lies before them
        for parameter in parts.unet.parameters():
            parameter.normal_(0, 0.05, generator=draws)
    inputs = random_inputs(settings, 8, 2, torch.device("cpu"))
    plain, kept = step(parts, inputs, recompute=False)
    again, kept_less = step(parts, inputs, recompute=True)
    assert len(plain) == len(again) > 50
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))
    assert kept_less < 0.5 * kept, (kept_less, kept)
