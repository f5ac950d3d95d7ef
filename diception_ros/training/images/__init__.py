# SPDX-License-Identifier: Apache-2.0
"""A user's own images with truth: docs/training.md is the format."""

from diception_ros.training.images.folder import Folder

__all__ = ["Folder"]
