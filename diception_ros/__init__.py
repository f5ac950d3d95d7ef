# SPDX-License-Identifier: Apache-2.0
"""One diffusion network for all of a robot's dense perception."""

from pkgutil import extend_path

__version__ = "0.1.0"

# The messages a ROS build generates (diception_ros.msg) lie in its install space, not beside these
# sources. This joins both folders, so that a checkout, a pip install and a sourced workspace all
# find them, whichever comes first.
__path__ = extend_path(__path__, __name__)
