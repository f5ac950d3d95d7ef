# SPDX-License-Identifier: Apache-2.0
"""What a run may write, known before any work: the node's topics and those passed through."""

from __future__ import annotations

from collections.abc import Mapping

from diception_ros.evaluation.offline import mcap
from diception_ros.evaluation.offline.definitions import definition, typestore
from diception_ros.evaluation.offline.frames import LABELS_TOPIC, offered
from diception_ros.evaluation.offline.plan import Plan
from diception_ros.evaluation.offline.sources import Bag, opened
from diception_ros.tasks import Task


def channels(plan: Plan, tasks: Mapping[str, Task]) -> list[mcap.Topic]:
    """Checks every bag. ValueError where the only one, or all of them, have not what is asked."""
    own = [
        mcap.Topic(
            f"{plan.node}/{topic}", msgtype, *definition(msgtype), latched=topic == LABELS_TOPIC
        )
        for topic, msgtype in offered(plan.parameters, tasks)
    ]
    return own + list(_passed(plan).values())


def _passed(plan: Plan) -> dict[str, mcap.Topic]:
    """Input topics of the bags that are passed through. ValueError where one has two types."""
    passed: dict[str, mcap.Topic] = {}
    readable, asked, mixed = 0, False, ""
    for path in plan.bags:
        try:
            with opened(path) as bag:
                topics = plan.topics(bag)
                asked |= plan.window(bag).meets(*bag.span)
                readable += 1
                for name in sorted(topics.inputs):
                    found = _channel(bag, name)
                    if (before := passed.setdefault(name, found)).msgtype != found.msgtype:
                        mixed = (
                            f"{path}: {name} is of type {found.msgtype}, in a bag before of "
                            f"{before.msgtype}: with --keep-inputs give each an --out of its own"
                        )
        except ValueError:
            if len(plan.bags) == 1:
                raise
    if mixed:
        raise ValueError(mixed)
    if not readable:
        raise ValueError("none of the bags can be used: try them one by one to see why")
    if not asked:
        raise ValueError(
            "no bag has anything between --from and --to ('diception bag info' says when)"
        )
    return passed


def _channel(bag: Bag, name: str) -> mcap.Topic:
    topic = bag.topics[name]
    if topic.msgtype in typestore().types:
        text, digest = definition(topic.msgtype)
    else:
        text, digest = topic.definition, ""
    return mcap.Topic(name, topic.msgtype, text, digest=digest, latched=name == "/tf_static")
