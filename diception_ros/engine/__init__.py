# SPDX-License-Identifier: Apache-2.0
"""Speed: Engine.infer(images, requests) -> results, batched into fixed shapes."""

from diception_ros.engine.config import EngineConfig
from diception_ros.engine.engine import Engine, Outcome

__all__ = ["Engine", "EngineConfig", "Outcome"]
