"""recipes/paper at full size, on torch's meta device: the paper's numbers, and every row of its ablations."""

from collections import Counter
from typing import Any

import pytest
import torch

from dheads_cli import registry
from dheads_cli.data.corpora import CREMA_TEST_ACTORS
from dheads_cli.model.build import build_component, build_unet
from dheads_cli.model.unet import UNet
from dheads_cli.recipe import Recipe
from dheads_cli.recipe_files import shipped_recipes
from dheads_cli.recipe_io import load_recipe
from dheads_cli.run.ablate_report import PAPER
from dheads_cli.run.training_changes import differences

PAPERS = [name for name in shipped_recipes() if name.startswith("paper/")]
ABLATIONS = [name for name in PAPERS if name.startswith("paper/ablation-")]
AUDIO_DIM, TIME_DIM, WIDTH = 256, 1024, 256


def recipe(name: str, *overrides: str) -> Recipe:
    return load_recipe(name, overrides).recipe


def build(recipe: Recipe) -> UNet:
    with torch.device("meta"):
        return build_unet(recipe.model, build_component("conditioning", recipe.model.conditioning), AUDIO_DIM)


def size(recipe: Recipe) -> tuple[int, int]:
    """Parameters, tensors."""
    parameters = list(build(recipe).parameters())
    return sum(parameter.numel() for parameter in parameters), len(parameters)


def test_embeddings_are_256_wide() -> None:
    encoder: Any = registry.build("audio_encoders", recipe("paper/lrw").model.audio_encoder.use)
    assert encoder.embed_dim == AUDIO_DIM


@pytest.mark.parametrize(
    ("name", "overrides", "n_parameters", "n_tensors"),
    [
        ("paper/crema", (), 203_929_094, 294),
        ("paper/crema", ("model.attention_levels=[2]",), 215_748_614, 324),
        ("paper/lrw", ("model.attention_levels=[2]",), 215_739_398, 324),
    ],
)
def test_networks_have_the_authors_number_of_parameters(
    name: str, overrides: tuple[str, ...], n_parameters: int, n_tensors: int
) -> None:
    assert size(recipe(name, *overrides)) == (n_parameters, n_tensors)


@pytest.mark.parametrize(("name", "n_tensors"), [("adagn-summed", 282), ("cross-attention-official", 318)])
def test_other_conditionings_have_the_authors_number_of_tensors(name: str, n_tensors: int) -> None:
    assert size(recipe(f"paper/ablation-{name}", "model.attention_levels=[2]"))[1] == n_tensors


@pytest.mark.parametrize("name", PAPERS)
def test_every_recipe_takes_its_inputs_at_full_size(name: str) -> None:
    chosen = recipe(name)
    model, unet = chosen.model, build(chosen)
    motion = model.n_motion_frames * (1 if model.grayscale_motion else 3)
    with torch.device("meta"), torch.no_grad():
        frame = torch.randn(2, 3, 128, 128)
        window = torch.randn(2, 2 * model.audio_context + 1, AUDIO_DIM)
        out = unet(frame, torch.tensor([3, 871]), frame, torch.randn(2, motion, 128, 128), window)
    assert out.shape == (2, 6, 128, 128)
    if model.conditioning.use == "adagn":
        first_convolution = 9 * WIDTH * (motion - 6)  # crema has two motion frames in colour
        audio_embedding = 2 * AUDIO_DIM * TIME_DIM * (model.audio_context - 2)
        n_parameters = sum(parameter.numel() for parameter in unet.parameters())
        assert n_parameters == 203_929_094 + first_convolution + audio_embedding


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_differs_in_what_it_is_named_after(name: str) -> None:
    lrw = recipe("paper/lrw").model_dump(mode="json")
    changed = set(differences(lrw, recipe(name).model_dump(mode="json"))) - {"name", "description"}
    stem = name.removeprefix("paper/ablation-")
    allowed = {"mx": {"model.n_motion_frames"}, "my": {"model.audio_context", "model.grayscale_motion"}}
    assert changed <= allowed.get(stem[:2], {"model.conditioning"})
    assert bool(changed) == (stem != "my2-gray")  # the paper's choice
    assert recipe(name).name == f"ablation-{stem}"  # its run folder


def test_every_row_of_the_paper_has_one_recipe() -> None:
    models = [recipe(name).model for name in ABLATIONS]
    two_frames = [model for model in models if model.n_motion_frames == 2]
    adagn = [model for model in two_frames if model.conditioning.use == "adagn"]
    assert Counter((model.audio_context, model.grayscale_motion) for model in adagn) == Counter(list(PAPER))
    assert sorted({model.n_motion_frames for model in models}) == [0, 2, 3]
    others = {model.conditioning.use for model in two_frames} - {"adagn"}
    assert others == {"adagn_summed", "audio_scale", "cross_attention_official", "cross_attention"}
    assert len(models) == len(PAPER) + 2 + len(others)


@pytest.mark.parametrize("n_motion_frames", [1, 4])
def test_other_numbers_of_motion_frames_are_a_set_away(n_motion_frames: int) -> None:
    parameters, _ = size(recipe("paper/ablation-mx3", f"model.n_motion_frames={n_motion_frames}"))
    assert parameters == 203_929_094 + 9 * WIDTH * (n_motion_frames - 6)


def test_crema_holds_out_the_paper_s_actors() -> None:
    assert set(recipe("paper/crema").preprocess.test_speakers) == CREMA_TEST_ACTORS


def test_steps_are_the_paper_s_epochs() -> None:
    for name, epochs, n_clips in (("paper/crema", 3000, 7442 - 820), ("paper/lrw", 112, 488_766)):
        train = recipe(name).train
        assert train.steps == round(epochs * n_clips / train.batch_size)
        assert train.lr_final == pytest.approx(0.8**18, rel=0.01)
