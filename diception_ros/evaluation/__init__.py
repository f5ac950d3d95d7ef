# SPDX-License-Identifier: Apache-2.0
"""Measuring and showing: metrics, bags without ROS, the demo's report."""
