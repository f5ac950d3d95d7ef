# SPDX-License-Identifier: Apache-2.0
"""What the live node does, on recorded bags, without ROS: sources -> timeline -> runner -> mcap."""
