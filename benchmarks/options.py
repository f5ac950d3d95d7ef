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
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.models.attention_processor import JointAttnProcessor2_0
from torch.nn.attention import SDPBackend, sdpa_kernel

from diception_ros.engine import EMBEDDED_BUNDLE, Engine, EngineConfig
from diception_ros.model import Diception, make_sd3_sized_model
from diception_ros.model.blocks import restore
from diception_ros.model.products import unfuse
from diception_ros.model.upsampling import unfold
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


def plain_blocks(model: Diception) -> None:
    restore(model.transformer)


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


def first(one: SDPBackend) -> Callable[[], AbstractContextManager[Any]]:
    """That kernel wherever it can; the autoencoder's heads are too wide for most."""
    order = [one, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return lambda: sdpa_kernel(list(dict.fromkeys(order)), set_priority=True)


@contextmanager
def searched(around: Callable[[], AbstractContextManager[Any]] = nullcontext) -> Iterator[None]:
    """cuDNN tries its algorithms for every new shape."""
    torch.backends.cudnn.benchmark = True
    try:
        with around():
            yield
    finally:
        torch.backends.cudnn.benchmark = False


FP8 = quantized("Float8DynamicActivationFloat8WeightConfig")
INT8 = quantized("Int8DynamicActivationInt8WeightConfig")
AS_IT_IS = Option("as it is")
CPU = [
    Option("attention of torch", plain_attention),
    Option("torch's products, GELU apart", lambda model: unfuse(model.transformer)),
    Option("blocks of diffusers", plain_blocks),
    Option("doubling apart from its convolution", lambda model: unfold(model.vae.decoder)),
    Option("autoencoder not in channels_last", contiguous),
    Option("float32", dtype="float32"),
    Option("torch.compile", compile=True),
    Option("torch.compile of plain layers", plain_layers, compile=True),
    Option("int8 (torchao), torch.compile", INT8, True),
]
CUDNN = first(SDPBackend.CUDNN_ATTENTION)
CUDA = [
    Option("torch.compile", compile=True),
    Option("torch.compile, blocks of diffusers", plain_blocks, compile=True),
    Option("torch.compile, attention by cuDNN", compile=True, around=CUDNN),
    Option("the same, cuDNN's algorithms tried", compile=True, around=partial(searched, CUDNN)),
    Option("fp8 (torchao), torch.compile", FP8, True, around=CUDNN),
    Option("blocks of diffusers", plain_blocks),
    Option("without graphs", graphs=False),
    Option("attention by cuDNN", around=CUDNN),
    Option("attention by efficient", around=first(SDPBackend.EFFICIENT_ATTENTION)),
    Option("autoencoder in channels_last", channels_last),
    Option("cuDNN's algorithms tried", around=searched),
    Option("int8 (torchao), torch.compile", INT8, True),
    Option("AutoencoderTiny's decoder", tiny_decoder, comparable=False),
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
        self.stages: dict[str, list[float]] = defaultdict(list)

    def colours(self, frame: np.ndarray) -> np.ndarray:
        """(3, H, W, 3), and the time it took is kept."""
        started = time.perf_counter()
        with self.option.around():
            pending = self.engine.begin([frame], [ASKED])
            found = pending.generated.arrays()
        self.ms.append(1000 * (time.perf_counter() - started))
        for stage, ms in pending.clock.stages.items():
            self.stages[stage].append(ms)
        return np.stack(found)


Row = dict[str, Any]


def measured(options: list[Option], model: Diception, device: str, rounds: int) -> Iterator[Row]:
    """A row an option, after that of the engine as it is. Each is called in turn with that one, and
    then freed: two networks of SD3's size at a time, not all."""
    frames = [frame.rgb for frame, _ in sequence(UNSEEN, FRAMES, 480, 640)]
    exact = Case(Option("", dtype="float32"), model, device)
    truths = np.stack([exact.colours(frame) for frame in frames])
    del exact
    plain = Case(AS_IT_IS, model, device)
    yield row_of(plain, frames, truths) | timed([plain], frames, rounds)[0]
    for option in options:
        try:
            torch.cuda.empty_cache()
            torch.compiler.reset()  # or it would run code that was compiled for the one before
            yield beside(plain, Case(option, model, device), frames, truths, rounds)
        except Exception as error:  # whatever a compiler, a kernel or a missing package says
            cause = f"{type(error).__name__}: {error}".splitlines()[0]
            yield {"option": option.name, "cause": cause}


def beside(
    plain: Case, case: Case, frames: list[np.ndarray], truths: np.ndarray, rounds: int
) -> Row:
    row = row_of(case, frames, truths)
    usual, own = timed([plain, case], frames, rounds)
    return {**row, **own, "times": own["ms"] / usual["ms"]}


def row_of(case: Case, frames: list[np.ndarray], truths: np.ndarray) -> Row:
    found = np.stack([case.colours(frame) for frame in frames])
    if case.engine.faults:  # it would be another option that is measured
        raise RuntimeError(case.engine.faults)
    error = 255 * float(np.abs(found - truths).mean()) if case.option.comparable else None
    return {"option": case.option.name, "error": error, "times": 1.0}


def timed(cases: list[Case], frames: list[np.ndarray], rounds: int) -> list[Row]:
    """Median milliseconds of each, called in turn, and of its stages."""
    for case in cases:
        case.ms.clear()
        case.stages.clear()
    for turn in range(rounds):
        for case in cases:
            case.colours(frames[turn % len(frames)])
    return [
        {
            "ms": float(np.median(case.ms)),
            "stages": {stage: float(np.median(ms)) for stage, ms in case.stages.items()},
        }
        for case in cases
    ]


def shown(row: Row) -> str:
    if "cause" in row:
        return str(row["cause"])
    error = "not comparable" if row["error"] is None else f"{row['error']:.2f}"
    stages = ", ".join(f"{stage} {ms:.1f}" for stage, ms in row["stages"].items())
    return f"{row['ms']:8.1f} ms  {row['times']:5.2f}  error {error}  ({stages})"


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
    rows: list[Row] = []
    for row in measured(options, model, arguments.device, arguments.rounds):
        print(f"{row['option']:36} {shown(row)}", flush=True)
        rows.append(row)
        if arguments.json:
            found = {"device": arguments.device, "torch": torch.__version__, "rows": rows}
            arguments.json.write_text(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
