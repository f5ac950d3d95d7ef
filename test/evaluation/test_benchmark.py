# SPDX-License-Identifier: Apache-2.0
"""The benchmark's arithmetic and its contenders, on a tiny random model: no speed is tested."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
import torch._inductor.utils
from rich.console import Console

from diception_ros.cli import bench
from diception_ros.cli import run as command
from diception_ros.engine import Engine, EngineConfig
from diception_ros.evaluation import benchmark
from diception_ros.evaluation.benchmark_report import Cell, Latency, Report, Row
from diception_ros.evaluation.contenders import eager, flops_of
from diception_ros.evaluation.floor import Rates, count_flops, floor_ms, measure_rates
from diception_ros.model import Diception, make_random_bundle, make_sd3_sized_model
from diception_ros.model.products import fuse
from diception_ros.tasks import Request

SIZE = (64, 64)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")


@pytest.fixture(scope="module")
def engine(bundle):
    return Engine.load(bundle, EngineConfig(device="cpu", dtype="float32"))


def test_flops_of_a_product_are_two_a_multiplication():
    a, b = torch.zeros(3, 5), torch.zeros(5, 7)
    assert count_flops(lambda: a @ b) == 2 * 3 * 5 * 7


@pytest.mark.parametrize("bias", [True, False])
def test_flops_of_a_product_that_torchs_counter_does_not_know_are_counted(bias):
    layer, inputs = torch.nn.Linear(5, 7, bias=bias), torch.zeros(2, 3, 5)
    fuse(layer)
    with torch.no_grad():
        assert count_flops(lambda: layer(inputs)) == 2 * 2 * 3 * 5 * 7


def test_counting_operations_leaves_code_to_the_compiler():
    compiled = []

    def compiler(graph, _):
        compiled.append(graph)
        return graph.forward

    doubled = torch.compile(lambda values: values @ values, backend=compiler, dynamic=False)
    assert count_flops(lambda: doubled(torch.zeros(2, 2))) == 16
    assert not compiled
    for side in (2, 3):
        doubled(torch.zeros(side, side))
    assert len(compiled) == 2


def test_the_floor_is_the_longer_of_computing_and_reading():
    rates = Rates(flops=1e12, bandwidth=1e10)
    assert floor_ms(int(2e9), 0, rates) == pytest.approx(2.0)
    assert floor_ms(int(2e9), int(1e8), rates) == pytest.approx(10.0)


def test_rates_of_this_machine_are_plausible():
    rates = measure_rates(torch.device("cpu"), torch.float32)
    assert 1e8 < rates.flops < 1e14
    assert 1e7 < rates.bandwidth < 1e13


@pytest.mark.parametrize(("steps", "guidance"), [(1, 1.0), (3, 2.0)])
def test_the_naive_code_computes_the_same(engine, bundle, steps, guidance):
    """Two implementations of one network: they agree up to the 8 bits that PIL keeps."""
    image = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    plain = engine.naive()(image, "[[image2depth]]", steps, guidance)
    request = Request("depth", steps=steps, guidance=guidance)
    ((ours,),) = engine.infer([image], [[request]])
    np.testing.assert_allclose(ours.values, plain.mean(-1), atol=0.5 / 255 + 1e-4)


def test_a_run_measures_every_contender_in_every_cell(engine):
    cells = [Cell(SIZE), Cell(SIZE, tasks=3, cameras=2)]
    rates = Rates(1e12, 1e12)
    sizes = []

    def of_size(size):
        sizes.append(size)
        return engine

    rows = list(benchmark.run(of_size, cells, rates, seconds=0.1))
    assert sizes == [SIZE, SIZE]
    assert [row.cell for row in rows] == cells
    for row in rows:
        assert set(row.latencies) == {"naive", "engine"}
        assert all(seen.calls >= 3 for seen in row.latencies.values())
    read = engine.weight_bytes / 1e12 * 1000
    assert rows[0].floor_ms >= read
    assert rows[1].floor_ms > rows[0].floor_ms


def test_the_summary_is_of_the_cells_it_names():
    def row(cell, naive, ours):
        seen = {
            "naive": Latency(naive, 0, 0, 0, 3, 0),
            "engine": Latency(ours, 0, 0, 0, 3, 0),
        }
        return Row(cell, seen, floor_ms=1.0, start_ms=0.0)

    report = Report("x", Rates(1, 1), 0.0)
    assert report.summary()["ratio_vs_naive"] is None
    report.rows += [
        row(Cell(SIZE, steps=4), 90.0, 10.0),
        row(Cell(SIZE), 30.0, 20.0),
        row(Cell(SIZE, tasks=3, cameras=2), 90.0, 10.0),
        row(Cell(SIZE, tasks=3), 100.0, 50.0),
    ]
    summary = report.summary()
    assert summary["ratio_vs_naive"] == pytest.approx(1.5)
    assert summary["three_task_hz"] == pytest.approx(20.0)
    assert summary["three_task_ratio_vs_naive"] == pytest.approx(2.0)
    assert summary["share_of_floor"] is None  # of the CPU, be there a GPU or not
    report.gpu = True
    assert report.summary()["share_of_floor"] == pytest.approx(1 / 20)


def test_no_cell_begins_after_the_limit(engine):
    cells = [Cell(SIZE), Cell(SIZE, tasks=3)]
    rows = benchmark.run(lambda _: engine, cells, Rates(1e12, 1e12), seconds=0.1, limit=0.0)
    assert len(list(rows)) < len(cells)


def test_compiling_waits_for_the_first_cells_and_their_rows_are_replaced():
    cells = [Cell(SIZE), Cell(SIZE, tasks=3), Cell(SIZE, cameras=2), Cell(SIZE, steps=4)]
    cells += [Cell(SIZE, steps=28), Cell(SIZE, steps=28, tasks=3)]
    plain = [(cell, False) for cell in cells]
    assert list(benchmark.in_order(cells, compiled=False)) == plain
    again = [(cells[0], True), (cells[3], True)]
    rest = [(cells[4], True), (cells[5], False)]
    assert list(benchmark.in_order(cells, compiled=True)) == [*plain[:4], *again, *rest]
    report = Report("x", Rates(1, 1), 0.0, unmeasured=cells[:2])
    for floor in (1.0, 2.0):
        report.add(Row(cells[0], {"engine": Latency(1, 1, 1, 0, 3, 0)}, floor, start_ms=0.0))
    assert [row.floor_ms for row in report.rows] == [2.0]
    assert report.as_json()["unmeasured"] == [
        {"size": SIZE, "steps": 1, "guidance": 1.0, "tasks": 3, "cameras": 1}
    ]


def test_where_nothing_can_be_compiled_the_cell_says_so_and_the_rest_is_measured(engine, bundle):
    with (
        torch._inductor.utils.fresh_cache(),
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
    ):
        row = benchmark.measure(engine, Cell(SIZE), Rates(1e12, 1e12), 0.01, compiled=True)
    assert set(row.latencies) == {"naive", "engine"}
    assert "torch.compile cannot run here" in row.failed["naive, torch.compile"]
    assert "cannot run here: " in bench.line(row)
    report = Report("x", Rates(1, 1), 0.0, rows=[row])
    assert report.as_json()["cells"][0]["failed"] == row.failed


def test_an_engine_that_fell_back_is_not_measured_as_what_was_asked_for(bundle):
    compiled = Engine.load(bundle, EngineConfig(device="cpu", dtype="float32", compile=True))
    with (
        torch._inductor.utils.fresh_cache(),
        torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)}),
    ):
        row = benchmark.measure(compiled, Cell(SIZE), Rates(1e12, 1e12), 0.01, compiled=False)
    assert "torch.compile failed" in row.failed["engine"]
    assert "; engine: torch.compile failed" in bench.line(row)
    assert bench.cannot(row) == "not run"  # the other contender was not asked to


def test_operations_of_many_steps_are_those_that_counting_finds(engine):
    cell = Cell(SIZE, steps=5, guidance=2.0)
    assert flops_of(engine, cell) == count_flops(eager(engine, cell))


def test_the_command_prints_and_writes_what_it_measured(bundle, tmp_path, capsys):
    files = ["--json", str(tmp_path / "a" / "b.json"), "--plot", str(tmp_path / "c.png")]
    asked = ["bench", "--quick", "--seconds", "0.2", "--bundle", str(bundle), "--device", "cpu"]
    assert command([*asked, *files]) == 0
    written = json.loads((tmp_path / "a" / "b.json").read_text())
    assert set(written["summary"]) >= {"ratio_vs_naive", "three_task_hz", "share_of_floor"}
    assert written["summary"]["three_task_hz"] > 0
    assert [cell["tasks"] for cell in written["cells"]] == [1, 3, 1, 3]
    assert written["versions"]["torch"] == torch.__version__
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    assert "3 tasks, 2 cameras" in capsys.readouterr().out


def test_a_bundle_with_brackets_in_its_name_is_measured(tmp_path, capsys):
    path = make_random_bundle(tmp_path / "random")
    card = path / "bundle.yaml"
    card.write_text(re.sub(r"(?m)^name: .*$", "name: 'small [/v2]'", card.read_text()))
    asked = ["bench", "--quick", "--seconds", "0.1", "--limit", "0", "--device", "cpu"]
    assert command([*asked, "--bundle", str(path)]) == 0
    assert capsys.readouterr().out.count("small [/v2]") == 2


def test_the_longest_row_is_whole_in_80_columns(capsys):
    seen = dict.fromkeys(("naive", "engine"), Latency(12345.6, 0, 0, 0, 3, 0))
    row = Row(Cell((768, 768), 28, 2.0, 6, 4), seen, floor_ms=1.0, start_ms=0.0)
    Console(width=80).print(bench.table(Report("x", Rates(1, 1), 0.0, rows=[row])))
    shown = capsys.readouterr().out
    assert shown.count("12346") == 2 and "not run" in shown and "…" not in shown


def test_the_sd3_sized_model_has_sd3_s_size():
    model = make_sd3_sized_model("meta", torch.bfloat16)
    weights = sum(weight.numel() for weight in model.transformer.parameters())
    assert weights == pytest.approx(2.08e9, rel=0.03)  # SD3-medium: 2 billion
    assert model.dtype == torch.bfloat16
    assert model.latent_shape(768, 768) == (16, 96, 96)
    assert isinstance(model, Diception)
