# SPDX-License-Identifier: Apache-2.0
"""The benchmark of the node's own cost goes on fitting the node. No speed is tested."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from diception_ros.ros.outputs import OUTPUTS

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "node_cost.py"


@pytest.mark.parametrize("extra", [[], ["--middleware"]])
def test_every_output_of_every_frame_is_received_and_accounted_for(tmp_path, extra):
    file = tmp_path / "cost.json"
    size = ["--size", "160x120", "--frames", "3", "--json", str(file)]
    ended = subprocess.run(
        [sys.executable, SCRIPT, *size, *extra], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    found = json.loads(file.read_text())
    assert found["lost"] == 0
    assert set(found["megabytes"]) == {output.topic for output in OUTPUTS}
    assert found["latency_ms"]["p50"] >= found["data_latency_ms"]["p50"] > 0
    assert found["stages_cpu_ms"]["finish (all after the engine)"] > 0
