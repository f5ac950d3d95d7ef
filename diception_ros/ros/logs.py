# SPDX-License-Identifier: Apache-2.0
"""Python's logging of this package -> the node's ROS log, bridged once."""

from __future__ import annotations

import logging
from typing import Any


class RosHandler(logging.Handler):
    """Forwards records to an rclpy logger, which decides what is shown."""

    def __init__(self, ros_logger: Any) -> None:
        super().__init__()
        self._ros_logger = ros_logger

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        # rclpy wants one severity per calling line, hence no table.
        if record.levelno >= logging.ERROR:
            self._ros_logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._ros_logger.warning(text)
        elif record.levelno >= logging.INFO:
            self._ros_logger.info(text)
        else:
            self._ros_logger.debug(text)


def bridge(ros_logger: Any) -> RosHandler:
    """Sends the package's log records to ROS alone; give the handler to `unbridge` at the end."""
    handler = RosHandler(ros_logger)
    package = logging.getLogger("diception_ros")
    package.addHandler(handler)
    package.setLevel(logging.DEBUG)
    package.propagate = False
    return handler


def unbridge(handler: RosHandler) -> None:
    package = logging.getLogger("diception_ros")
    package.removeHandler(handler)
    package.propagate = True
