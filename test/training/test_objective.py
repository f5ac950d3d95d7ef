# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from diception_ros.imaging import Canvas
from diception_ros.model import Diception
from diception_ros.tasks import TASKS
from diception_ros.training.data import Batches, Encoder
from diception_ros.training.network import build, place_points
from diception_ros.training.objective import Encoded, Noising, Objective
from diception_ros.training.recipe import Phase, Recipe
from diception_ros.training.targets import prompts
from diception_ros.training.train import first_model

from .conftest import SIZE

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def model(recipe: MakeRecipe) -> Diception:
    return first_model(recipe())


@pytest.fixture
def batch(recipe: MakeRecipe, model: Diception) -> Encoded:
    shares = {"depth": 1.0, "point": 1.0, "pose": 1.0}
    return Encoder(model)(Batches(recipe(batch=6, phases=(Phase(1, shares),)), TASKS)[0])


def test_noise_passes_through_the_untrained_network(model: Diception) -> None:
    noise = torch.randn(2, 16, 4, 4, generator=torch.Generator().manual_seed(1))
    embeds, pooled = model.prompts.lookup(["", "[[image2depth]]"])
    tokens = model.point_tokens(None, None, 2)
    with torch.no_grad():
        time = torch.full((2,), 1000.0)
        velocity = model.velocity(noise, torch.zeros_like(noise), time, embeds, pooled, tokens)
    assert np.corrcoef(velocity.flatten(), noise.flatten())[0, 1] > 0.95
    assert set(model.prompts.names) == set(prompts())


@pytest.mark.parametrize(
    ("canvas", "order"), [((128, 128), "row-col"), ((256, 192), "row-col"), ((256, 192), "col-row")]
)
def test_points_start_near_the_code_of_the_place_they_lie_in(
    recipe: MakeRecipe, canvas: tuple[int, int], order: str
) -> None:
    model = first_model(recipe(canvas=canvas))
    if order == "col-row":
        model.info = replace(model.info, point_order=order)
        place_points(model, 0)
    high, side = (pixels // 16 for pixels in canvas)
    codes = model.transformer.pos_embed.cropped_pos_embed(2 * high, 2 * side)[0]
    rows, columns = torch.meshgrid(torch.arange(high), torch.arange(side), indexing="ij")
    places = [(rows + 0.5) / high, (columns + 0.5) / side]
    at = torch.stack(places if order == "row-col" else places[::-1], -1).reshape(-1, 1, 2)
    labels = torch.ones(len(at), 1, dtype=torch.long)
    with torch.no_grad():
        tokens = model.point_embedder(at, labels)[:, 0] - model.point_embedder.seg_embeddings.weight
        nearest = torch.cdist(tokens, codes).argmin(1)
    off = (nearest // side - rows.ravel()).abs() + (nearest % side - columns.ravel()).abs()
    assert (off <= 1).float().mean() > 0.8


def test_the_loss_is_that_of_the_formula(model: Diception, batch: Encoded) -> None:
    """With the network's own answer put in by hand at sigma 1, where x is all noise."""
    objective = Objective(model, Noising(full_noise=1.0, serving_noise=1.0))
    noise = objective.serving.expand_as(batch.targets)
    embeds, pooled = model.prompts.lookup(batch.prompts)
    tokens = model.point_tokens(batch.points, batch.labels, 6)
    with torch.no_grad():
        time = torch.full((6,), 1000.0)
        answer = model.velocity(noise, batch.images, time, embeds, pooled, tokens)
        expected = (answer - (noise - batch.targets)).square().mean()
        torch.testing.assert_close(objective(batch, (0, 0)), expected)
        doubled = replace(batch, weights=2 * batch.weights)
        torch.testing.assert_close(objective(doubled, (0, 0)), 2 * expected)


def test_points_are_fed_in_the_bundles_axis_order(model: Diception, batch: Encoded) -> None:
    """As serving feeds them; what examples hold is always row, column."""
    objective, fed = Objective(model, Noising()), []
    point_tokens = model.point_tokens
    model.point_tokens = lambda points, *more: fed.append(points) or point_tokens(points, *more)
    click = Canvas(SIZE, SIZE).points_to_model([(12.0, 25.0)], [1], (SIZE, SIZE))[0]
    asked = replace(batch, points=torch.from_numpy(click).expand(6, -1, -1))
    for order in ("row-col", "col-row"):
        model.info = replace(model.info, point_order=order)
        served = Canvas(SIZE, SIZE).points_to_model([(12.0, 25.0)], [1], (SIZE, SIZE), order)[0]
        objective(asked, (0,))
        np.testing.assert_array_equal(fed[-1][0], served)


def test_the_same_seed_draws_the_same(model: Diception, batch: Encoded) -> None:
    objective = Objective(model, Noising(full_noise=0.0, serving_noise=0.5))
    with torch.no_grad():
        first, again, other = (objective(batch, seed) for seed in ((1, 2), (1, 2), (1, 3)))
    assert first == again and first != other


def test_dropped_conditions_are_those_of_the_unconditional_branch(
    model: Diception, batch: Encoded
) -> None:
    """Empty prompt and zero point tokens: whatever was asked, the loss is the same."""
    objective = Objective(model, Noising(dropout=1.0))
    kept = Objective(model, Noising(dropout=0.0))
    other = replace(batch, prompts=batch.prompts[::-1], points=1 - batch.points)
    with torch.no_grad():
        for block in model.transformer.transformer_blocks:  # open what starts closed
            torch.nn.init.normal_(block.norm1.linear.weight, std=0.02)
        assert objective(batch, (0,)) == objective(other, (0,))
        assert kept(batch, (0,)) != kept(other, (0,))


def test_a_new_network_is_a_function_of_its_seed(model: Diception, recipe: MakeRecipe) -> None:
    again = first_model(recipe())
    other = build(model.vae, model.info, 1, recipe().network)
    name = "transformer_blocks.0.attn.to_q.weight"
    assert torch.equal(model.transformer.get_parameter(name), again.transformer.get_parameter(name))
    assert not torch.equal(
        model.transformer.get_parameter(name), other.transformer.get_parameter(name)
    )
