# SPDX-License-Identifier: Apache-2.0
"""The demo's figures as text."""

from __future__ import annotations

from diception_ros.evaluation.page import Table
from diception_ros.evaluation.report import Evaluation


def tables(evaluation: Evaluation) -> list[Table]:
    """The figures as text, the same for the terminal and the page."""
    speed = Table(
        "Speed",
        ("output", "rate", "latency p50", "latency p95", "messages"),
        [
            (
                item.output,
                f"{item.rate:.2f} Hz",
                f"{item.p50:.0f} ms",
                f"{item.p95:.0f} ms",
                str(item.messages),
            )
            for item in evaluation.timings
        ],
        f"All tasks and all outputs at once, every one recorded. {evaluation.shown} images were "
        f"shown at a fixed rate, {evaluation.answered} answered, the others dropped for newer "
        "ones. "
        "Latency: from the image's stamp to the recorder, both phases. Mean stages: "
        + ", ".join(f"{name} {value:.0f} ms" for name, value in evaluation.stages.items())
        + ("; captured graphs." if evaluation.graph else "; no graphs (eager)."),
    )
    quality = Table(
        "Against the truth",
        ("output", "metric", "images", "mean", "frames"),
        [
            (
                item.output,
                item.metric,
                item.group,
                f"{item.value:.3f}",
                str(item.frames),
            )
            for item in evaluation.summaries
        ],
        "Aligned: scale and shift fitted to the truth in disparity space, image by image. Metres: "
        "as published, scaled by a sparse noisy reference (1% of the pixels), nothing fitted to "
        "the full truth. mIoU: over the classes present, background included. Rendered and "
        "real images are never averaged."
        + (f" No metres came: {', '.join(evaluation.missing)}." if evaluation.missing else ""),
    )
    return [speed, quality]
