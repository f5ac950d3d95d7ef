# SPDX-License-Identifier: Apache-2.0
"""What of a recording is judged against what, and whether it is there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diception_ros.evaluation.bags import count_messages, message_types
from diception_ros.evaluation.datasets.sample import DataSet
from diception_ros.evaluation.recorded_outputs import CLASSES, LABELS, OUTPUTS, PROMPTS
from diception_ros.evaluation.recorded_truth import Truths, is_classes, labels_beside, stamped_items
from diception_ros.evaluation.results import Skipped
from diception_ros.evaluation.truths import Rules

REPORT = "frame_report"
IMAGE = "sensor_msgs/msg/Image"
COMPANIONS = {CLASSES: LABELS, OUTPUTS["point"]: PROMPTS}
"""What an output cannot be judged without."""
REMEDIES = {
    CLASSES: "which names its classes: name them with --category, in the node's order",
    OUTPUTS["point"]: "without which nobody knows what was asked",
}


@dataclass(frozen=True)
class BagPlan:
    """node: its name, the outputs' prefix. topics: of truth. truth: a data set whose image names
    are stamps in nanoseconds (or seconds.nanoseconds). slop: s between an image and its truth.
    categories: names of the class ids 1, 2 and so on, where no label_info was recorded.
    """

    rules: Rules
    node: str = "/diception"
    topics: tuple[str, ...] = ()
    truth: DataSet | None = None
    slop: float = 0.02
    categories: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.slop >= 0:
            raise ValueError(f"slop must be 0 s or more, got {self.slop}")
        for topic in self.topics:
            if topic.endswith("disparity_relative/image"):
                raise ValueError(f"{topic}: a relative disparity is no truth, name a metric depth")

    def truths(self) -> Truths:
        """Empty yet, but for the folder. ValueError for a folder without stamps."""
        items = {} if self.truth is None else stamped_items(self.truth)
        return Truths(self.topics, items, self.slop, self.categories)


def check_topics(bag: Path, plan: BagPlan) -> list[Skipped]:
    """What in the bag cannot be judged at all. ValueError that says which topics there are."""
    counts = count_messages(bag)
    named = [] if plan.categories else filter(is_classes, plan.topics)
    needed = [*plan.topics, *map(labels_beside, named)]
    missing = [topic for topic in needed if not counts.get(topic)]
    if missing:
        raise ValueError(f"{bag}: nothing on --against {missing[0]}, only on {', '.join(counts)}")
    types = message_types(bag)
    for topic in plan.topics:
        if types[topic] != IMAGE:
            raise ValueError(
                f"--against {topic} holds {types[topic]}: expected {IMAGE}, so name the topic that "
                "is not compressed"
            )
    wanted = [f"{plan.node}/{topic}" for topic in (*OUTPUTS.values(), REPORT)]
    own = [topic for topic in plan.topics if topic in wanted]
    if own:
        raise ValueError(
            f"--against {own[0]} is what {plan.node} published: its answers are no truth for "
            "themselves; name another topic, or the --node to be judged by it"
        )
    if not any(counts.get(topic) for topic in wanted):
        raise ValueError(
            f"{bag} holds no output of {plan.node} (as {wanted[0]}): name another --node, or make "
            "the outputs first with 'diception bag'"
        )
    if not plan.truths():
        return []
    alone = {
        topic: beside
        for topic, beside in COMPANIONS.items()
        if not (topic == CLASSES and plan.categories)
        and counts.get(f"{plan.node}/{topic}")
        and not counts.get(f"{plan.node}/{beside}")
    }
    return [
        Skipped(topic, f"{plan.node}/{beside} was not recorded, {REMEDIES[topic]}")
        for topic, beside in alone.items()
    ]
