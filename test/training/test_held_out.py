# SPDX-License-Identifier: Apache-2.0
"""Evaluation's scenes: things that training never shows, in worlds that it might."""

import numpy as np
import pytest

from diception_ros.training import cache
from diception_ros.training.scenes import (
    known_instances,
    make_frame,
    sample_world,
    unseen_frame,
)
from diception_ros.training.scenes.held_out import MODELS, unseen_scene
from diception_ros.training.scenes.objects import MODELS as TRAINED
from diception_ros.training.scenes.world import distance_to

FIRST = cache.HELD_OUT


def test_no_kind_is_one_of_trainings() -> None:
    assert len(MODELS) >= 5
    assert not set(MODELS) & set(TRAINED)


@pytest.mark.parametrize("name", MODELS)
def test_a_thing_stands_on_the_floor(name: str) -> None:
    for seed in range(4):
        solids = MODELS[name](np.random.default_rng(seed))
        lowest = min(s.centre[2] - (np.abs(s.rotation) @ s.half)[2] for s in solids)
        assert -0.05 < lowest < 0.05  # ends of slanted bars sink in a little


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 8))
def test_an_unseen_scene_is_the_world_of_its_seed_and_one_to_four_things(seed: int) -> None:
    world, (more, camera) = sample_world(seed), unseen_scene(seed)
    assert [s.instance for s in more.solids[: len(world.solids)]] == [
        s.instance for s in world.solids
    ]
    added = more.solids[len(world.solids) :]
    last = known_instances(world)
    assert {s.instance for s in added} == set(range(last + 1, known_instances(more) + 1))
    assert 1 <= known_instances(more) - last <= 4
    assert {s.category for s in added} == {0}
    assert all(distance_to(s, camera.position) > 0.1 for s in added)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 6))
def test_a_held_out_thing_is_in_view(seed: int) -> None:
    frame = unseen_frame(seed, 64, 64)
    new = frame.instances > known_instances(sample_world(seed))
    assert new.mean() > 0.004
    assert not frame.categories[new].any()


def test_an_unseen_scene_is_a_function_of_its_seed_at_any_size() -> None:
    small, large = unseen_frame(FIRST + 2, 32, 32), unseen_frame(FIRST + 2, 96, 96)
    np.testing.assert_array_equal(small.rgb, unseen_frame(FIRST + 2, 32, 32).rgb)
    # The middle of every third pixel of the large one is the middle of one of the small one.
    assert (large.instances[1::3, 1::3] == small.instances).mean() > 0.99


def test_the_cache_takes_held_out_things_from_their_first_seed_on() -> None:
    np.testing.assert_array_equal(
        cache.frame_of(FIRST, 32).instances, unseen_frame(FIRST, 32, 32).instances
    )
    np.testing.assert_array_equal(
        cache.frame_of(FIRST - 1, 32).rgb, make_frame(FIRST - 1, 32, 32).rgb
    )
    last = known_instances(sample_world(FIRST))
    assert cache.frame_of(FIRST, 32).instances.max() > last


def test_the_evaluation_scenes_stay_as_they_are() -> None:
    """At 64 x 64: pixels of each held-out thing, mean depth."""
    for seed, areas, depth in ((FIRST, [27, 198, 15], 2.0374), (FIRST + 7, [25, 21, 67], 5.0382)):
        frame = unseen_frame(seed, 64, 64)
        found = np.bincount(frame.instances.ravel())[known_instances(sample_world(seed)) + 1 :]
        np.testing.assert_allclose(found, areas, atol=2)
        assert np.nanmean(frame.depth) == pytest.approx(depth, abs=5e-3)


def test_shards_are_filled_once_and_say_how_fast(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(cache, "SHARD", 2)
    assert cache.fill(tmp_path, FIRST, 3, 16).startswith("4 frames in ")
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["010000000.npz", "010000002.npz"]
    frame = cache.unpack(cache.load(tmp_path / "010000002.npz"), 1)
    np.testing.assert_array_equal(frame.rgb, unseen_frame(FIRST + 3, 16, 16).rgb)
    assert cache.fill(tmp_path, FIRST, 3, 16).startswith("0 frames in ")
