# SPDX-License-Identifier: Apache-2.0
"""Speed: Engine.infer(images, requests) -> results, batched into fixed shapes.

What a caller needs to know of a bundle before loading it comes along, so that nobody else has to
know the model.
"""

from diception_ros.engine.adapters import task_of
from diception_ros.engine.config import EngineConfig
from diception_ros.engine.engine import Engine
from diception_ros.engine.jobs import Options, Outcome
from diception_ros.engine.pending import Pending
from diception_ros.model import EMBEDDED_BUNDLE, BundleInfo, read_bundle_info
from diception_ros.model.lora import Adapter

__all__ = [
    "EMBEDDED_BUNDLE",
    "Adapter",
    "BundleInfo",
    "Engine",
    "EngineConfig",
    "Options",
    "Outcome",
    "Pending",
    "read_bundle_info",
    "task_of",
]
