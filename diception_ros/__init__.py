# SPDX-License-Identifier: Apache-2.0
"""One diffusion network for all of a robot's dense perception."""

__version__ = "0.1.0"
