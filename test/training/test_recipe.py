# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from diception_ros.model import EMBEDDED_BUNDLE, BundleInfo, read_bundle_info
from diception_ros.tasks import TASKS
from diception_ros.training.data import load_autoencoder
from diception_ros.training.network import build
from diception_ros.training.recipe import Phase, Recipe, Size, read_recipe

FOLDER = Path(__file__).parents[2] / "config"
CONFIG = FOLDER / "train_cpu.yaml"
MakeRecipe = Callable[..., Recipe]


@pytest.mark.parametrize("name", ["train.yaml", "train_cpu.yaml"])
def test_the_shipped_recipes_are_read(name: str, tmp_path: Path) -> None:
    recipe = read_recipe(FOLDER / name, out=tmp_path, threads=None)
    assert recipe.out == tmp_path and recipe.threads is None
    recipe.check_tasks(TASKS)
    assert {task for phase in recipe.phases for task in phase.shares} == {"copy", "spot", *TASKS}


@pytest.mark.parametrize("part", ["finer", "pictures", "masks", "larger"])
def test_the_recipes_that_go_on_ask_for_every_task(part: str) -> None:
    recipe = read_recipe(FOLDER / f"train_{part}.yaml")
    assert recipe.init is not None
    assert {task for phase in recipe.phases for task in phase.shares} == set(TASKS)


def test_the_decoders_recipe_is_read() -> None:
    recipe = read_recipe(FOLDER / "train_decoder.yaml")
    recipe.check_tasks(TASKS)
    assert recipe.live and recipe.live.rendered(0) == 6144 and recipe.live.rendered(10**6) == 8192


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("speed: 3", "unknown setting 'speed'"),
        ("init: a/bundle", "expected either 'init' .* or 'autoencoder'"),
        ("batch: 0", "batch must be at least 1, got 0"),
        ("ema: 1.5", r"ema must lie in 0\.\.1, got 1\.5"),
        ("sources: {}", "sources: expected at least one"),
        ("phases: []", "phases: expected growing 'until' steps from 1, got"),
        ("phases: [{until: 3, shares: {}}]", "phase until 3: expected positive shares"),
        ("phases: [{until: 3, tasks: 1}]", "phase 1: unknown setting 'tasks', expected until"),
        ("phases: {until: 3}", "phases: expected a list of phases, found {'until': 3}"),
        ("phases: [{until: 1e3, shares: {}}]", "phase 1: until: expected a whole number, found"),
        ("phases: [{until: 3, shares: [depth]}]", "phase 1: shares: expected 'name: weight'"),
        (
            "phases: [{until: 3, shares: {depth: 1}, sources: {build/scenes: -1}}]",
            "phase until 3: expected weights of sources from 0",
        ),
        ("rate: fast", "wrong.yaml: rate: expected a number, found 'fast'"),
        ("rate: .nan", "rate: expected a number, found nan"),
        ("rate: -1.0e-5", r"rate must be at least 0, got -1e-05"),
        ("batch: 2.5", r"batch: expected a whole number, found 2\.5"),
        ("compile: 'false'", "compile: expected true or false, found 'false'"),
        ("foreground: -1", "foreground must be at least 0, got -1"),
        ("seed: -1", "seed must be at least 0, got -1"),
        ("canvas: 128", r"canvas: expected \[height, width\] in pixels, found 128"),
        ("canvas: [100, 128]", "canvas 100x128: height and width must be positive multiples of 16"),
        ("network: {widht: 256}", "network: unknown setting 'widht', expected width"),
        ("network: {width: 250, heads: 5}", "a multiple of 4 and of the heads, got"),
        ("network: {width: 256, heads: 3}", "a multiple of 4 and of the heads, got"),
        ("live: true", "live: expected settings 'name: value', found True"),
        ("validation: null", "validate_every needs 'validation'"),
    ],
)
def test_a_wrong_recipe_says_what_is_wrong(line: str, message: str, tmp_path: Path) -> None:
    key = line.split(":")[0]
    kept = CONFIG.read_text().split("phases:")[0] if key == "phases" else CONFIG.read_text()
    lines = [old for old in kept.splitlines() if not old.startswith(f"{key}:")]
    if key == "sources":
        lines = [old for old in lines if not old.startswith("  build/")]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("\n".join([*lines, line]))
    with pytest.raises(ValueError, match=message):
        read_recipe(wrong)


def test_a_number_without_a_point_is_a_number(tmp_path: Path) -> None:
    """YAML 1.1 reads it as text."""
    lines = [line for line in CONFIG.read_text().splitlines() if not line.startswith("rate:")]
    (tmp_path / "r.yaml").write_text("\n".join([*lines, "rate: 2e-5", "remember: null"]))
    found = read_recipe(tmp_path / "r.yaml")
    assert found.rate == 2e-5 and found.remember == Recipe.remember


@pytest.mark.parametrize(("width", "heads"), [(240, 8), (252, 6), (180, 4)])
def test_whatever_network_can_be_built_may_be_asked_for(width: int, heads: int) -> None:
    size, vae = Size(width, heads, layers=1), load_autoencoder(EMBEDDED_BUNDLE / "vae")
    made = build(vae, BundleInfo(name="made", canvas=(32, 32)), 0, size)
    assert made.transformer.inner_dim == width


def test_a_recipe_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no such recipe; config/train\.yaml is the shipped one"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ValueError, match="expected settings 'name: value', found list"):
        read_recipe(tmp_path / "list.yaml")


def test_an_unknown_task_is_named(recipe: MakeRecipe) -> None:
    with pytest.raises(ValueError, match="unknown task 'colour', expected depth"):
        recipe(phases=(Phase(2, {"colour": 1.0}),)).check_tasks(TASKS)


def test_the_rate_warms_up_stays_and_falls(recipe: MakeRecipe) -> None:
    made = recipe(phases=(Phase(100, {"depth": 1.0}),), rate=1.0, warmup_steps=10, decay_steps=20)
    rates = [made.rate_at(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[9:81] == pytest.approx([1.0] * 72)
    assert all(a > b for a, b in pairwise(rates[81:]))
    assert rates[90] == pytest.approx(0.505) and rates[100] == pytest.approx(0.01)


def test_a_run_shorter_than_its_decay_reaches_its_rate(recipe: MakeRecipe) -> None:
    short = recipe(phases=(Phase(100, {"depth": 1.0}),), rate=1.0, warmup_steps=10, decay_steps=500)
    rates = [short.rate_at(step) for step in range(101)]
    assert rates[:11] == pytest.approx([*(0.1 * step for step in range(1, 11)), 1.0])
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0.01)


def test_a_bundle_goes_on_at_its_own_canvas(tmp_path: Path) -> None:
    """The page's recipe, which names none; what a recipe names wins."""
    page = (FOLDER.parent / "docs" / "training.md").read_text()
    (tmp_path / "r.yaml").write_text(page.split("```yaml\n")[3].split("```")[0])
    found = read_recipe(tmp_path / "r.yaml", init=EMBEDDED_BUNDLE)
    assert found.canvas == read_bundle_info(EMBEDDED_BUNDLE).canvas == (192, 192)
    other = read_recipe(tmp_path / "r.yaml", init=EMBEDDED_BUNDLE, canvas=[64, 96])
    assert other.canvas == (64, 96)


def test_phases_follow_one_another(recipe: MakeRecipe) -> None:
    made = recipe(phases=(Phase(2, {"copy": 1.0}), Phase(5, {"depth": 1.0})))
    assert [next(iter(made.phase(step).shares)) for step in range(5)] == ["copy"] * 2 + [
        "depth"
    ] * 3
    assert made.steps == 5


def test_a_phase_may_weigh_the_sources_otherwise(recipe: MakeRecipe, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    phases = (Phase(2, {"depth": 1.0}, {b: 1.0}), Phase(5, {"depth": 1.0}))
    made = recipe(sources={a: 1.0, b: 3.0}, phases=phases)
    assert made.weights(1) == [0.0, 1.0] and made.weights(2) == [1.0, 3.0]
    with pytest.raises(ValueError, match="is not among the sources"):
        recipe(sources={a: 1.0}, phases=phases)
