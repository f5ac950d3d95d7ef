# SPDX-License-Identifier: Apache-2.0
"""What each way of computing costs and spoils: the engine as it is, and with one thing changed.

Each is called in turn with the first, on the same rendered frames. `error` is how far the generated
colours are from the engine's own in float32, mean absolute difference in levels of 255; the first
line's is what bfloat16 itself costs. What cannot run here is named, with its cause.

    ./run python benchmarks/options.py [--sd3] [--device cuda] [--rounds 15] [--json FILE]
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch.nn.attention import SDPBackend, sdpa_kernel

from diception_ros.engine import EMBEDDED_BUNDLE, Engine, EngineConfig
from diception_ros.model import Diception, make_sd3_sized_model
from diception_ros.model.attention import pack
from diception_ros.model.feed_forward import unfuse
from diception_ros.tasks import TASKS, Request
from diception_ros.training.scenes import sequence

ASKED = [Request("depth"), Request("normal"), Request("entity")]
UNSEEN = 20_000_000
FRAMES = 4


@dataclass(frozen=True)
class Option:
    """change: of the model, after the engine has prepared it. around: every call. comparable:
    whether its colours mean the same as the engine's."""

    name: str
    change: Callable[[Diception], object] = lambda model: None
    compile: bool = False
    graphs: bool = True
    dtype: Literal["auto", "float32"] = "auto"
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    comparable: bool = True


def plain_attention(model: Diception) -> None:
    model.transformer.set_attn_processor(JointAttnProcessor2_0())


def plain_layers(model: Diception) -> None:
    plain_attention(model)
    unfuse(model.transformer)


def contiguous(model: Diception) -> None:
    model.vae.to(memory_format=torch.contiguous_format)


def channels_last(model: Diception) -> None:
    model.vae.to(memory_format=torch.channels_last)


def tiny_decoder(model: Diception) -> None:
    """TAESD3's architecture, which is AutoencoderTiny's default, in place of the decoder; with
    random weights, so for its speed alone."""
    tiny = AutoencoderTiny(latent_channels=model.vae.config.latent_channels)
    tiny = tiny.to(model.device, model.dtype, memory_format=torch.channels_last).eval()
    model.vae.decode = tiny.decode


def quantized(config: str) -> Callable[[Diception], None]:
    """torchao's configuration of that name, on the products of the transformer's blocks."""

    def change(model: Diception) -> None:
        from torchao import quantization  # an extra of this script only

        plain_layers(model)
        quantization.quantize_(
            model.transformer.transformer_blocks, getattr(quantization, config)()
        )

    return change


def backend(one: SDPBackend) -> Option:
    name = f"attention by {one.name.lower()}"
    return Option(name, plain_attention, around=lambda: sdpa_kernel(one))


AS_IT_IS = Option("as it is")
CPU = [
    Option("attention of torch, q, k, v apart", plain_attention),
    Option("GELU apart from its product", lambda model: unfuse(model.transformer)),
    Option("autoencoder not in channels_last", contiguous),
    Option("float32", dtype="float32"),
    Option("torch.compile", compile=True),
    Option("torch.compile of plain layers", plain_layers, compile=True),
    Option(
        "int8 (torchao), torch.compile", quantized("Int8DynamicActivationInt8WeightConfig"), True
    ),
]
CUDA = [
    Option("without graphs", graphs=False),
    Option("q, k, v in one product", lambda model: pack(model.transformer)),
    Option("autoencoder in channels_last", channels_last),
    Option("AutoencoderTiny's decoder", tiny_decoder, comparable=False),
    Option("torch.compile", compile=True),
    Option(
        "int8 (torchao), torch.compile", quantized("Int8DynamicActivationInt8WeightConfig"), True
    ),
    Option(
        "fp8 (torchao), torch.compile",
        quantized("Float8DynamicActivationFloat8WeightConfig"),
        True,
    ),
    backend(SDPBackend.FLASH_ATTENTION),
    backend(SDPBackend.CUDNN_ATTENTION),
    backend(SDPBackend.EFFICIENT_ATTENTION),
]


class Case:
    """An engine of its own, over its own copy of the model."""

    def __init__(self, option: Option, model: Diception, device: str) -> None:
        config = EngineConfig(
            device=device, dtype=option.dtype, compile=option.compile, graphs=option.graphs
        )
        dtype = config.resolve_dtype(config.resolve_device())
        self.engine = Engine(copy.deepcopy(model).to(dtype), config, TASKS)
        option.change(self.engine._loaded())
        self.option, self.ms = option, list[float]()

    def colours(self, frame: np.ndarray) -> np.ndarray:
        """(3, H, W, 3), and the time it took is kept."""
        started = time.perf_counter()
        with self.option.around():
            found = self.engine.begin([frame], [ASKED]).generated.arrays()
        self.ms.append(1000 * (time.perf_counter() - started))
        return np.stack(found)


Row = dict[str, Any]


def measured(options: list[Option], model: Diception, device: str, rounds: int) -> list[Row]:
    """A row an option, after that of the engine as it is. Each is called in turn with that one, and
    then freed: two networks of SD3's size at a time, not all."""
    frames = [frame.rgb for frame, _ in sequence(UNSEEN, FRAMES, 480, 640)]
    exact = Case(Option("", dtype="float32"), model, device)
    truths = np.stack([exact.colours(frame) for frame in frames])
    del exact
    plain = Case(AS_IT_IS, model, device)
    rows = [row_of(plain, frames, truths) | {"ms": by_turns([plain], frames, rounds)[0]}]
    for option in options:
        torch.cuda.empty_cache()
        try:
            rows.append(beside(plain, Case(option, model, device), frames, truths, rounds))
        except Exception as error:  # whatever a compiler, a kernel or a missing package says
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            rows.append({"option": option.name, "cause": cause})
    return rows


def beside(
    plain: Case, case: Case, frames: list[np.ndarray], truths: np.ndarray, rounds: int
) -> Row:
    row = row_of(case, frames, truths)
    usual, ms = by_turns([plain, case], frames, rounds)
    return {**row, "ms": ms, "times": ms / usual}


def row_of(case: Case, frames: list[np.ndarray], truths: np.ndarray) -> Row:
    found = np.stack([case.colours(frame) for frame in frames])
    error = 255 * float(np.abs(found - truths).mean()) if case.option.comparable else None
    return {"option": case.option.name, "error": error, "times": 1.0}


def by_turns(cases: list[Case], frames: list[np.ndarray], rounds: int) -> list[float]:
    """Median milliseconds of each."""
    for case in cases:
        case.ms.clear()
    for turn in range(rounds):
        for case in cases:
            case.colours(frames[turn % len(frames)])
    return [float(np.median(case.ms)) for case in cases]


def shown(row: Row) -> str:
    if "cause" in row:
        return str(row["cause"])
    error = "not comparable" if row["error"] is None else f"{row['error']:.2f}"
    return f"{row['ms']:8.1f} ms  {row['times']:5.2f}  error {error}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, default=EMBEDDED_BUNDLE)
    parser.add_argument("--sd3", action="store_true", help="SD3's size with random weights")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if arguments.sd3:
        model = make_sd3_sized_model(device, torch.bfloat16)
    else:
        model = Diception.load(arguments.bundle, device, torch.float32)
    options = CPU if device.type == "cpu" else CUDA
    rows = measured(options, model, arguments.device, arguments.rounds)
    for row in rows:
        print(f"{row['option']:36} {shown(row)}")
    if arguments.json:
        text = json.dumps({"device": arguments.device, "torch": torch.__version__, "rows": rows})
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
