# SPDX-License-Identifier: Apache-2.0
"""The network, pure torch: it knows images, prompts and points, never what a task means."""

from diception_ros.model.bundle import (
    EMBEDDED_BUNDLE,
    BundleInfo,
    read_bundle_info,
    save_bundle,
)
from diception_ros.model.diception import Diception
from diception_ros.model.points import PointEmbedder
from diception_ros.model.prompts import PromptBank
from diception_ros.model.random_bundle import make_random_bundle, make_sd3_sized_model

__all__ = [
    "EMBEDDED_BUNDLE",
    "BundleInfo",
    "Diception",
    "PointEmbedder",
    "PromptBank",
    "make_random_bundle",
    "make_sd3_sized_model",
    "read_bundle_info",
    "save_bundle",
]
