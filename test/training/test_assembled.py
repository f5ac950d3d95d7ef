# SPDX-License-Identifier: Apache-2.0
"""Things of no kind that stand in training's scenes."""

import numpy as np
import pytest

from diception_ros.training import cache
from diception_ros.training.live.worlds import ASSEMBLED_KIND, pack_chunk
from diception_ros.training.scenes import (
    assembled_frame,
    assembled_scene,
    known_instances,
    sample_world,
)
from diception_ros.training.scenes.assembled import MOST_SOLIDS, WIDEST, assembled

FIRST = cache.ASSEMBLED.start


@pytest.mark.parametrize("seed", range(40))
def test_a_thing_stands_on_the_floor_and_is_no_wider_than_allowed(seed: int) -> None:
    solids = assembled(np.random.default_rng(seed))
    half = [np.abs(s.rotation) @ s.half for s in solids]
    lowest = min(s.centre[2] - h[2] for s, h in zip(solids, half, strict=True))
    widest = max((np.abs(s.centre) + h)[:2].max() for s, h in zip(solids, half, strict=True))
    assert abs(lowest) < 1e-9
    assert widest <= WIDEST + 1e-9
    assert all((s.half > 0).all() for s in solids)


def test_no_two_things_are_alike() -> None:
    made = [assembled(np.random.default_rng(seed)) for seed in range(60)]
    assert len({len(solids) for solids in made}) > 10
    assert len({tuple(np.round(solids[0].half, 6)) for solids in made}) == 60


def test_scenes_are_the_worlds_of_their_seeds_and_more_things() -> None:
    more = 0
    for seed in range(FIRST, FIRST + 12):
        world, (scene, _) = sample_world(seed), assembled_scene(seed)
        kept = scene.solids[: len(world.solids)]
        assert [s.instance for s in kept] == [s.instance for s in world.solids]
        assert len(scene.solids) <= MOST_SOLIDS
        added = scene.solids[len(world.solids) :]
        assert {s.category for s in added} <= {0}
        assert {s.instance for s in added} == set(
            range(known_instances(world) + 1, known_instances(scene) + 1)
        )
        more += known_instances(scene) - known_instances(world)
    assert more >= 12


def test_a_seed_gives_its_frame_at_training_and_the_shards_have_it() -> None:
    frame = cache.frame_of(FIRST + 3, 48)
    np.testing.assert_array_equal(frame.rgb, assembled_frame(FIRST + 3, 48, 48).rgb)
    other = cache.frame_of(cache.HELD_OUT + FIRST + 3, 48)
    assert (other.rgb != frame.rgb).any()


def test_the_live_renderer_knows_them() -> None:
    packed = pack_chunk(ASSEMBLED_KIND, 0)
    world, camera = assembled_scene(FIRST)
    assert (packed["kind"][0] >= 0).sum() == len(world.solids)
    np.testing.assert_allclose(packed["camera"][0, :3], camera.position, rtol=1e-6)
