# SPDX-License-Identifier: Apache-2.0
"""Scenes on the training device against the reference in training.scenes and training.targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from diception_ros.tasks import farthest_disparity
from diception_ros.training import targets
from diception_ros.training.live import paint
from diception_ros.training.live.batches import LiveBatches, mirrored, order
from diception_ros.training.live.cast import Caster, Views
from diception_ros.training.live.film import Film, jpeg
from diception_ros.training.live.worlds import CHUNK, pack_chunk, pack_world, stack
from diception_ros.training.recipe import Live, Phase, Recipe
from diception_ros.training.scenes import Frame, photos, render, sample_camera, sample_world
from diception_ros.training.scenes.plain import plain_world
from diception_ros.training.train import train

SIZE = 32
SEEDS = (0, 2, 3, 6, 33)
ALL = ("copy", "spot", "depth", "normal", "entity", "semantic", "point", "pose")


@pytest.fixture(scope="module")
def pair() -> tuple[list[Frame], Views]:
    """The same furnished rooms, places outdoors and bare rooms, rendered both ways."""
    worlds = [*(sample_world(seed) for seed in SEEDS), plain_world(1)]
    cameras = [sample_camera(world, seed) for seed, world in enumerate(worlds)]
    textures = [*photos()]
    frames = [render(w, c, SIZE, SIZE, textures) for w, c in zip(worlds, cameras, strict=True)]
    packed = stack([pack_world(w, c) for w, c in zip(worlds, cameras, strict=True)])
    return frames, Caster(torch.stack(textures), SIZE)(packed)


def last(image: torch.Tensor) -> np.ndarray:
    """(3, H, W) -> (H, W, 3)."""
    return image.permute(1, 2, 0).numpy()


def test_a_batch_of_worlds_renders_as_each_does_alone(pair: tuple[list[Frame], Views]) -> None:
    frames, views = pair
    assert any(np.isnan(frame.depth).any() for frame in frames), "no sky among these seeds"
    for row, frame in enumerate(frames):
        sky = np.isnan(frame.depth)
        np.testing.assert_array_equal(np.isinf(views.depth[row].numpy()), sky)
        # A ray that grazes an edge may go either way: sums differ in the last bit.
        close = np.isclose(views.depth[row].numpy()[~sky], frame.depth[~sky], rtol=1e-4)
        assert close.mean() > 0.995
        assert (views.instances[row].numpy() == frame.instances).mean() > 0.995
        assert (views.categories[row].numpy() == frame.categories).mean() > 0.995
        off = np.abs(last(views.normals[row]) - np.nan_to_num(frame.normals)).max(-1)
        assert (off < 1e-3).mean() > 0.995
        assert np.abs(last(views.rgb[row]) * 255 - frame.rgb).mean() < 1
    people = [len(frame.keypoints) for frame in frames]
    assert max(people) > 0
    for row, frame in enumerate(frames):
        for person, (_, points, visible) in enumerate(frame.keypoints):
            found = views.people[row, person].numpy()
            np.testing.assert_array_equal(found[:, 2] > 0, visible)
            np.testing.assert_allclose(found[visible, :2], points[visible], atol=1e-2)


@pytest.mark.gpu
def test_a_gpu_renders_what_the_cpu_renders() -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU, this torch sees none")
    packed = {name: value[:8] for name, value in pack_chunk("furnished", 0).items()}
    textures = torch.stack([*photos()])
    here = Caster(textures, SIZE)(packed)
    there = Caster(textures.cuda(), SIZE, compiled=True)(packed)
    assert torch.isclose(there.depth.cpu(), here.depth, rtol=1e-3).float().mean() > 0.995
    assert (there.instances.cpu() == here.instances).float().mean() > 0.995
    assert (there.rgb.cpu() - here.rgb).abs().mean() < 0.01


def test_batched_targets_are_those_of_the_reference(pair: tuple[list[Frame], Views]) -> None:
    frames, views = pair
    palette = paint.palette(views.instances)
    found = {
        "depth": paint.disparity(views.depth)[:, None].expand(-1, 3, -1, -1),
        "normal": paint.normal_colours(views.normals),
        "entity": paint.entity_colours(views.instances, palette),
    }
    for task, colours in found.items():
        for row, frame in enumerate(frames):
            off = np.abs(last(colours[row]) - targets.colours_of(frame, task))
            assert off.mean() < 2e-3, task
    bases = paint.farthest_disparity(views.depth)
    expected = [farthest_disparity(frame.depth) for frame in frames]
    np.testing.assert_allclose(bases.numpy(), expected, rtol=1e-3, atol=1e-5)
    assert max(expected) > 0.05
    mask = views.instances > 0
    for row in range(len(frames)):
        white = mask[row].numpy().astype(np.float32)[..., None].repeat(3, -1)
        np.testing.assert_allclose(
            last(paint.mask_colours(mask)[row]), targets.soft(white), atol=1e-5
        )


def test_the_innermost_pixel_is_as_far_from_the_edge_as_the_references() -> None:
    masks = np.zeros((3, 24, 32), bool)
    masks[0, 3:14, 5:30] = True
    masks[0, 6:9, 20:23] = False
    masks[1, :, 30:] = True  # at the border, which is an edge
    masks[2, 7, 9] = True
    found = paint.innermost(torch.from_numpy(masks)).tolist()
    for mask, at in zip(masks, found, strict=True):
        far = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_C, 3)
        row, column = divmod(at, mask.shape[1])
        assert far[row + 1, column + 1] == far.max()
    assert found[2] == 7 * 32 + 9


def test_skeletons_and_spots_are_drawn_as_opencv_draws_them() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(20, 100, (13, 2)).astype(np.float32)
    visible = np.arange(13) != 5
    frame = render(sample_world(0), sample_camera(sample_world(0), 0), 128, 128)
    frame = replace(frame, keypoints=((1, points, visible),))
    people = torch.zeros(1, 4, 13, 3)
    people[0, 0, :, :2], people[0, 0, :, 2] = torch.from_numpy(points), torch.from_numpy(visible)
    drawn = last(paint.skeletons(people, 128)[0])
    expected = targets.colours_of(frame, "pose")
    # OpenCV does not smooth edges in float pictures: the same strokes, a little apart.
    smooth = [cv2.GaussianBlur(picture, (0, 0), 1.5) for picture in (drawn, expected)]
    assert np.abs(smooth[0] - smooth[1]).mean() < 0.2 * expected.mean()
    places = torch.tensor([[[0.5, 0.25], [0.8, 0.9], [0, 0], [0, 0], [0, 0]]])
    labels = torch.tensor([[1, 0, 0, 0, 0]])
    spot = last(paint.spots(places, labels, 128)[0])
    assert np.abs(spot - targets.spots(places[0, :1].numpy(), (128, 128))).mean() < 2e-3


def test_jpeg_loses_what_the_real_one_loses() -> None:
    frame = render(sample_world(3), sample_camera(sample_world(3), 3), 64, 64, [*photos()])
    for quality in (30, 90):
        flags = [cv2.IMWRITE_JPEG_QUALITY, quality]
        real = cv2.imdecode(cv2.imencode(".jpg", frame.rgb[..., ::-1], flags)[1], 1)[..., ::-1]
        image = torch.from_numpy(frame.rgb.copy()).permute(2, 0, 1)[None] / 255
        ours = last(jpeg(image, torch.full((1, 1, 1, 1), float(quality)))[0]) * 255
        lost = np.abs(real.astype(float) - frame.rgb).mean()
        assert np.abs(ours - real).mean() < 0.5 * lost, quality


def live_recipe(recipe: Callable[..., Recipe], **changes: object) -> Recipe:
    live = Live(frames=CHUNK, first=CHUNK, a_step=0, workers=0, together=16)
    phases = (Phase(3, dict.fromkeys(ALL, 1.0)),)
    settings = {"sources": {Path("furnished"): 1.0}, "live": live, "phases": phases, "batch": 24}
    return recipe(**{**settings, **changes})


def test_batches_are_a_function_of_seed_and_number(recipe: Callable[..., Recipe]) -> None:
    made = LiveBatches(live_recipe(recipe), torch.device("cpu"))
    made.render(CHUNK)
    first, other, again = made.batch(0), made.batch(1), made.batch(0)
    torch.testing.assert_close(first.images, again.images)
    torch.testing.assert_close(first.targets, again.targets)
    assert not torch.equal(first.images, other.images)
    assert first.images.shape == first.targets.shape == (24, 3, SIZE, SIZE)
    assert first.prompts == again.prompts and len(set(first.prompts)) > 4
    for row, prompt in enumerate(first.prompts):
        used = first.labels[row] == 1
        assert used.any() == (prompt == "[[image2segmentation]]")
        at = (first.points[row][used] * SIZE).long()
        # Inside points lie on the mask, or in the middle of their spot.
        assert (first.targets[row, 0, at[:, 0], at[:, 1]] > -0.9).all()


def test_a_mirrored_target_is_that_of_the_mirrored_scene(
    pair: tuple[list[Frame], Views],
) -> None:
    _, views = pair
    flip = torch.ones(len(views.rgb), dtype=torch.bool)
    nowhere = torch.zeros(len(flip), 5, 2), torch.zeros(len(flip), 5, dtype=torch.long)
    other = views.instances.flip(-1)
    colours = paint.entity_colours(views.instances, paint.palette(views.instances))
    turned = mirrored(flip, "entity", views.rgb, colours, *nowhere)[1]
    torch.testing.assert_close(turned, paint.entity_colours(other, paint.palette(other)))
    normals = views.normals * torch.tensor([-1.0, 1, 1])[:, None, None]
    turned = mirrored(flip, "normal", views.rgb, paint.normal_colours(views.normals), *nowhere)[1]
    torch.testing.assert_close(turned, paint.normal_colours(normals.flip(-1)))


def test_a_photograph_keeps_the_geometry_and_changes_the_light() -> None:
    film = Film(torch.Generator().manual_seed(0))
    image = torch.zeros(2, 3, SIZE, SIZE)
    image[..., SIZE // 2 :] = 0.8
    taken = film.photograph(image)
    assert taken.shape == image.shape and taken.min() >= 0 and taken.max() <= 1
    edge = taken.mean((0, 1, 2)).diff().argmax()
    assert abs(int(edge) - (SIZE // 2 - 1)) <= 1
    assert not torch.equal(film.photograph(image), taken)


def test_sources_take_turns_by_their_weights() -> None:
    kinds = order(Live(frames=CHUNK * 14), {Path("furnished"): 1.0, Path("plain"): 0.4})
    assert kinds.count("plain") == 4 and kinds[0] == "furnished" and "plain" in kinds[:3]
    assert pack_chunk("plain", 0)["solid"].shape[0] == CHUNK


def test_a_resumed_training_sees_the_frames_of_the_whole_one(
    recipe: Callable[..., Recipe],
) -> None:
    """With a number of frames that is no multiple of what is rendered together."""
    live = Live(frames=CHUNK + 20, first=CHUNK, a_step=16, workers=0)
    made = live_recipe(recipe, live=live, phases=(Phase(3, {"depth": 1.0}),))
    whole = list(LiveBatches(made, torch.device("cpu")).from_number(0))
    resumed = LiveBatches(made, torch.device("cpu"))
    again = list(resumed.from_number(2))
    assert len(whole) == 3 and len(again) == 1 and resumed.pool.count == 2 * CHUNK
    torch.testing.assert_close(again[0].images, whole[2].images, rtol=0, atol=0)
    torch.testing.assert_close(again[0].targets, whole[2].targets, rtol=0, atol=0)


def test_processes_have_scenes_of_their_own(recipe: Callable[..., Recipe]) -> None:
    """Two have the chunks that one has in turn, and a resumed training the same ones again."""
    live = Live(frames=2 * CHUNK, first=2 * CHUNK, a_step=0, workers=0)
    made = live_recipe(recipe, live=live, phases=(Phase(2, {"depth": 1.0}),))

    def pool(*which: int) -> torch.Tensor:
        batches = LiveBatches(made, torch.device("cpu"), *which)
        list(batches.from_number(1))
        return batches.pool.disparity.split(CHUNK)

    alone, first, second = pool(), pool(0, 2), pool(1, 2)
    torch.testing.assert_close(first[0], alone[0], rtol=0, atol=0)
    torch.testing.assert_close(second[0], alone[1], rtol=0, atol=0)
    shown = {chunk.numpy().tobytes() for chunk in (*first, *second)}
    assert len(shown) == 4
    assert shown == {chunk.numpy().tobytes() for chunk in (*pool(0, 2), *pool(1, 2))}


def test_it_trains_and_goes_on(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    made = live_recipe(recipe, save_every=2)
    whole = train(made)
    assert whole.step == 3
    rows = (made.out / "log.csv").read_text().splitlines()
    assert len(rows) == 4
    longer = replace(made, phases=(Phase(4, dict.fromkeys(ALL, 1.0)),))
    assert train(longer).step == 4


def test_a_source_that_is_no_kind_of_scene_is_refused(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(ValueError, match=r"'live' renders furnished and plain .*found 'kitchen'"):
        live_recipe(recipe, sources={Path("kitchen"): 1.0})
    with pytest.raises(ValueError, match="live: together must divide 64, got 7"):
        Live(together=7)
