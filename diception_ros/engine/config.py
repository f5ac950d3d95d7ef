# SPDX-License-Identifier: Apache-2.0
"""How the engine runs: device, precision, batching. Validated on construction."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import torch

from diception_ros.imaging import Canvas
from diception_ros.model.precision import best_dtype

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class EngineConfig:
    """device: "auto" (CUDA where there is one), "cpu", "cuda" or "cuda:N". dtype: "auto" (bfloat16
    where the device multiplies it in hardware, else float32) or a name. threads: CPU threads of
    torch, None keeps torch's own choice. seed: of the fixed starting noise. graphs: capture CUDA
    graphs (no effect on a CPU). compile: torch.compile on the transformer's blocks and the
    autoencoder; the first call of every shape takes a minute, and a CPU needs a C++ compiler; where
    compiling fails, the engine says so and goes on without.
    max_batch: most requests in one transformer pass. canvas: (height, width) in pixels instead of
    the bundle's own.
    """

    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    threads: int | None = None
    seed: int = 0
    graphs: bool = True
    compile: bool = False
    max_batch: int = 8
    canvas: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got '{self.device}'")
        if self.dtype != "auto" and self.dtype not in DTYPES:
            raise ValueError(
                f"dtype must be auto or one of {', '.join(DTYPES)}, got '{self.dtype}'"
            )
        if self.max_batch < 1:
            raise ValueError(f"max_batch must be at least 1, got {self.max_batch}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        if self.canvas is not None:
            Canvas(*self.canvas)

    def resolve_device(self) -> torch.device:
        """The device to use. ValueError when CUDA is asked for and absent: never a silent CPU."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        device = torch.device(self.device)
        if device.type == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                f"device '{self.device}' was asked for but this torch {torch.__version__} sees no "
                "CUDA GPU: check nvidia-smi and install a CUDA build of torch, or use device 'cpu'"
            )
        if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
            raise ValueError(
                f"device '{self.device}' was asked for, there are {torch.cuda.device_count()} GPUs"
            )
        return device

    def resolve_dtype(self, device: torch.device) -> torch.dtype:
        if self.dtype != "auto":
            return DTYPES[self.dtype]
        return best_dtype(device)
