# SPDX-License-Identifier: Apache-2.0
"""What a temporal start does to flicker and to error, on rendered moving-camera sequences.

Every prediction is aligned with the true disparity of its own frame (least squares); flicker is the
mean change of the aligned disparity from one frame to the next, less the true one's, over the
frame's mean disparity. Error is the mean absolute error of the aligned disparity, likewise.

    ./run python benchmarks/flicker.py [--sequences 6] [--frames 12] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from diception_ros.engine import EMBEDDED_BUNDLE, Engine, EngineConfig, Options
from diception_ros.evaluation.protocols.depth import fit_line
from diception_ros.tasks import Request
from diception_ros.training.scenes import sequence

SHARES = (0.0, 0.2, 0.4, 0.6)
FIRST_SEED = 20_000_000


def measure(engine: Engine, seed: int, frames: int, temporal: float) -> tuple[float, float]:
    """Flicker and error of one sequence."""
    changes, errors, before = [], [], None
    for frame, _ in sequence(seed, frames, 128, 128):
        truth = 1 / np.clip(frame.depth, 0.1, None)
        options = Options(temporal=temporal)
        outcome = engine.run(
            [frame.rgb], [[Request("depth")]], options=options, streams=[(seed, temporal)]
        )
        found = outcome.results[0][0].values
        scale, shift = fit_line(found.ravel(), truth.ravel())
        error = (scale * found + shift - truth) / truth.mean()
        errors.append(np.abs(error).mean())
        if before is not None:
            changes.append(np.abs(error - before).mean())
        before = error
    return float(np.mean(changes)), float(np.mean(errors))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=EMBEDDED_BUNDLE)
    parser.add_argument("--sequences", type=int, default=6)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    engine = Engine.load(arguments.bundle, EngineConfig())
    rows = []
    for share in SHARES:
        seen = [
            measure(engine, FIRST_SEED + k, arguments.frames, share)
            for k in range(arguments.sequences)
        ]
        flicker, error = np.mean(seen, axis=0).tolist()
        rows.append({"temporal": share, "flicker": flicker, "error": error})
        print(f"temporal {share:.1f}: flicker {flicker:.4f}, error {error:.4f}", flush=True)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({"engine": engine.device_name, "rows": rows}, indent=1)
        )


if __name__ == "__main__":
    main()
