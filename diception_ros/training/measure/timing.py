# SPDX-License-Identifier: Apache-2.0
"""How long answers take, and on what."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from diception_ros.training.measure.questions import Question
from diception_ros.training.measure.rows import Answers

REPEATS = 7


def median_ms(answers: Answers, questions: Sequence[Question], steps: int) -> float:
    """Median milliseconds for one question alone, from its image to its result; the first answer
    warms up. Answers that end on the CPU are waited for.
    """
    spent = []
    for i in range(REPEATS + 1):
        started = time.perf_counter()
        answers([questions[i % len(questions)]], steps)
        spent.append(1000 * (time.perf_counter() - started))
    return float(np.median(spent[1:]))


def hardware(device: torch.device) -> str:
    """The processor's name, its cores and the threads used; or the GPU's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
