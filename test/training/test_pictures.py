# SPDX-License-Identifier: Apache-2.0
"""Errors of pictures, each against the score that it stands for."""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from diception_ros.evaluation.protocols.depth import align_disparity
from diception_ros.model import Diception
from diception_ros.model.autoencoder import decode_unclamped
from diception_ros.tasks import (
    TASKS,
    Keypoints,
    Refinement,
    disparity_from_depth,
    farthest_disparity,
)
from diception_ros.tasks.edges import SIDE, Guide
from diception_ros.tasks.pose import decode, encode
from diception_ros.training import cache
from diception_ros.training.data import Batches, Encoder
from diception_ros.training.guided import guided
from diception_ros.training.objective import Encoded, Noising, Objective
from diception_ros.training.pictures import (
    PictureError,
    colour_error,
    direction_error,
    disk_error,
    disparity_error,
    overlap_error,
)
from diception_ros.training.recipe import Phase, Recipe
from diception_ros.training.scenes import plain_frame
from diception_ros.training.targets import make_example
from diception_ros.training.train import first_model

MakeRecipe = Callable[..., Recipe]
NONE = torch.tensor([torch.nan])


def grey(values: np.ndarray) -> torch.Tensor:
    """(H, W) -> (1, 3, H, W)."""
    return torch.from_numpy(values.astype(np.float32)).expand(1, 3, -1, -1)


@pytest.fixture
def depth() -> np.ndarray:
    return np.random.default_rng(0).uniform(1, 6, (16, 16)).astype(np.float32)


def test_a_disparity_is_compared_as_the_protocol_does(depth: np.ndarray) -> None:
    truth = disparity_from_depth(depth).values
    base = torch.tensor([farthest_disparity(depth)])
    answer = 0.3 * truth + 0.4 + np.random.default_rng(1).normal(0, 0.01, truth.shape)
    aligned = align_disparity(answer.astype(np.float32), depth, depth > 0)
    expected = np.abs(np.log(aligned / depth)).mean()
    colours = colour_error(grey(answer), grey(truth), NONE)
    found = disparity_error(grey(answer), grey(truth), base) - 0.05 * colours
    assert expected > 0.01
    np.testing.assert_allclose(float(found), expected, rtol=1e-3)
    perfect = disparity_error(grey(truth), grey(truth), base)
    assert float(perfect) < 1e-5


def test_what_is_infinitely_far_is_left_out_of_depth(depth: np.ndarray) -> None:
    depth[:4] = np.nan
    truth = disparity_from_depth(depth).values
    assert farthest_disparity(depth) == 0
    answer = truth.copy()
    answer[:4] = 1.0
    colours = colour_error(grey(answer), grey(truth), NONE)
    found = disparity_error(grey(answer), grey(truth), torch.zeros(1))
    np.testing.assert_allclose(float(found), float(0.05 * colours), atol=1e-4)


def test_without_the_range_only_the_colours_count(depth: np.ndarray) -> None:
    truth = grey(disparity_from_depth(depth).values)
    torch.testing.assert_close(
        disparity_error(0.5 * truth, truth, NONE), colour_error(0.5 * truth, truth, NONE)
    )


def test_a_flat_answer_has_a_way_out(depth: np.ndarray) -> None:
    truth = grey(disparity_from_depth(depth).values)
    answer = torch.full_like(truth, 0.5, requires_grad=True)
    disparity_error(answer, truth, torch.tensor([0.1])).sum().backward()
    assert answer.grad is not None and answer.grad.isfinite().all() and answer.grad.abs().sum() > 0


@pytest.mark.parametrize("degrees", [0, 10, 90, 180])
def test_a_direction_is_compared_by_its_chord(degrees: float) -> None:
    angle = np.deg2rad(degrees)
    true = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1).expand(-1, -1, 4, 4)
    found = torch.tensor([np.sin(angle), 0, np.cos(angle)]).float().reshape(1, 3, 1, 1)
    error = direction_error(0.3 * found.expand_as(true) + 0.5, true / 2 + 0.5, NONE)
    np.testing.assert_allclose(float(error), 2 * np.sin(angle / 2), atol=2e-3)


def test_masks_are_compared_by_intersection_over_union() -> None:
    truth, answer = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    truth[..., :32], answer[..., 16:48] = 1, 1
    error = overlap_error(answer, truth, NONE) - colour_error(answer, truth, NONE) / 2
    np.testing.assert_allclose(float(error), 1 - 1 / 3, atol=0.01)
    nothing = torch.zeros_like(truth)
    assert float(overlap_error(nothing, nothing, NONE)) == 0


def test_the_best_single_colour_is_the_likelier_one_not_the_mean() -> None:
    """Of a pixel that is red in two pictures of three, and blue in the third."""
    red, blue = (torch.tensor(c).reshape(1, 3, 1, 1) for c in ([1.0, 0, 0], [0.0, 0, 1.0]))
    truths = torch.cat([red, red, blue])

    def cost(answer: torch.Tensor) -> float:
        return float(colour_error(answer.expand_as(truths), truths, NONE).mean())

    assert cost(red) < cost(truths.mean(0, keepdim=True)) < cost(blue)


def test_a_disk_drawn_at_one_of_its_likely_places_is_better_than_a_faint_one_at_all() -> None:
    """Where it is at one of them in two pictures of three."""
    here, there = (
        torch.from_numpy(encode(Keypoints(np.float32([at]), np.ones(1, np.float32), (64, 64))))
        for at in ((20, 32), (44, 32))
    )
    truths = torch.stack([here, here, there]).permute(0, 3, 1, 2)

    def cost(answer: torch.Tensor) -> float:
        return float(disk_error(answer.expand_as(truths), truths, NONE).mean())

    sure, mean = truths[:1], truths.mean(0, keepdim=True)
    assert len(decode(mean[0].permute(1, 2, 0).numpy(), redness=0.7).points) == 0
    assert cost(sure) < cost(mean)
    few = 3e-4 * 64**2
    area = float(here[..., 0].sum())
    expected = 1 - few / (2 * area + few)
    colours = colour_error(truths[2:], sure, NONE) / 2
    np.testing.assert_allclose(
        float(disk_error(truths[2:], sure, NONE) - colours), expected, rtol=1e-4
    )


def test_every_prompt_gets_its_tasks_error(depth: np.ndarray) -> None:
    truth = grey(disparity_from_depth(depth).values).expand(7, -1, -1, -1)
    answer = (0.5 * truth + 0.2).roll(1, -1)
    prompts = [TASKS[name].prompt for name in ("depth", "normal", "entity", "point", "pose")]
    prompts += [TASKS["semantic"].prompt_for("person"), ""]
    bases = torch.full((7,), 0.1)
    found = PictureError()(answer, truth, truth, prompts, bases)
    alone = slice(0, 1)
    wanted = [
        float(error(answer[alone], truth[alone], bases[alone]))
        for error in (disparity_error, direction_error, overlap_error, disk_error)
    ]
    depth_, normal, mask, disks = wanted
    expected = torch.tensor([depth_, normal, 0.0, mask, disks, mask, 0.0])
    torch.testing.assert_close(found, expected)


def test_a_mask_is_compared_as_it_is_refined() -> None:
    """By the filter that serving uses, at the size at which that works."""
    image = np.full((SIDE, SIDE, 3), 80, np.uint8)
    image[40:90, 30:] = 170, 120, 90
    score = cv2.GaussianBlur(np.float32(np.roll(image[..., 0], 2, axis=1) > 128), (0, 0), 1)
    served = Guide(image).filtered(score, 3)
    answer, truth = grey(score), grey(image[..., 0] > 128)
    shown = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    found = guided(answer, shown, 3)
    np.testing.assert_allclose(found[0, 0].clamp(0, 1), served, atol=2e-3)
    prompts = [TASKS["point"].prompt]
    errors = PictureError(refinement=lambda task: Refinement(edges=3 * (task.name == "point")))
    wanted = overlap_error(grey(served), truth, NONE)
    found = errors(answer, truth, shown, prompts, NONE)
    torch.testing.assert_close(found, wanted, atol=5e-4, rtol=0)
    assert float(wanted) < float(overlap_error(answer, truth, NONE)) - 1e-3


def test_an_example_of_depth_knows_what_min_max_took_away() -> None:
    frame = plain_frame(cache.PLAIN.start, 32, 32)
    rng = np.random.default_rng(0)
    example = make_example(frame, "depth", rng)
    assert example.base > 0
    shape = example.colours[..., 0] + example.base
    ratios = shape * frame.depth
    np.testing.assert_allclose(ratios, ratios.mean(), rtol=1e-3)
    assert np.isnan(make_example(frame, "normal", rng).base)


@pytest.fixture
def model(recipe: MakeRecipe) -> Diception:
    return first_model(recipe())


@pytest.fixture
def batch(recipe: MakeRecipe, model: Diception) -> Encoded:
    shares = {"depth": 1.0, "point": 1.0, "normal": 1.0, "copy": 1.0}
    return Encoder(model)(Batches(recipe(batch=6, phases=(Phase(1, shares),)), TASKS)[0])


def test_the_loss_adds_the_decoded_answers_errors(model: Diception, batch: Encoded) -> None:
    full = Noising(full_noise=1.0, serving_noise=1.0)
    plain, both = Objective(model, full), Objective(model, full, picture=3.0)
    noise = both.serving.expand_as(batch.targets)
    embeds, pooled = model.prompts.lookup(batch.prompts)
    tokens = model.point_tokens(batch.points, batch.labels, 6)
    time = torch.full((6,), 1000.0)
    assert batch.pictures is not None and batch.bases is not None and batch.shown is not None
    pictures = batch.pictures / 2 + 0.5, batch.shown / 2 + 0.5
    with torch.no_grad():
        velocity = model.velocity(noise, batch.images, time, embeds, pooled, tokens)
        shown = decode_unclamped(model.vae, noise - velocity)
        errors = PictureError()(shown, *pictures, batch.prompts, batch.bases)
        found = both(batch, (0, 0)) - plain(batch, (0, 0))
    assert float(errors.mean()) > 0.01
    torch.testing.assert_close(found, 3 * errors.mean(), rtol=1e-3, atol=1e-4)


def test_the_errors_can_be_followed_back_to_the_network(model: Diception, batch: Encoded) -> None:
    alone = replace(batch, weights=torch.zeros_like(batch.weights))
    objective = Objective(model, Noising(full_noise=1.0, serving_noise=1.0), picture=1.0)
    objective(alone, (0, 0)).backward()
    gradient = model.transformer.proj_out.weight.grad
    assert gradient is not None and gradient.isfinite().all() and gradient.abs().sum() > 0


def test_answers_of_less_noise_are_not_judged(model: Diception, batch: Encoded) -> None:
    partly = Noising(full_noise=0.0)
    with torch.no_grad():
        plain = Objective(model, partly)(batch, (0, 0))
        torch.testing.assert_close(Objective(model, partly, picture=5.0)(batch, (0, 0)), plain)
