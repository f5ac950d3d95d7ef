# SPDX-License-Identifier: Apache-2.0
"""All parameters of the node: those of the whole here, the others by subject in
parameter_groups.py; what is wrong with them is in parameter_checks.py.

No ROS here: `declare.py` carries these to rclpy, tests and tools read them without it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diception_ros.engine import EngineConfig
from diception_ros.ros.parameter_checks import check_ranges, check_together
from diception_ros.ros.parameter_groups import (
    CloudParameters,
    FilterParameters,
    OutputParameters,
    ScaleParameters,
    TaskParameters,
)
from diception_ros.ros.spec import CONFIGURE, START, Spec, build, parameter, specs_of, values_of
from diception_ros.tasks import TASKS

TRANSPORTS = ("raw", "compressed")
ALL = "all"
"""In `tasks` and `categories`: everything that the bundle can answer."""
PER_CAMERA = (
    "image_transport",
    "max_rate",
    "target_rate",
    "max_age",
    "min_depth",
    "max_depth",
    "output.",
    "scale.",
)
"""Parameters (or groups of them) that every camera of `cameras` has for itself."""


@dataclass(frozen=True)
class NodeParameters:
    """All parameters, checked together on construction: ValueError with the reason."""

    autostart: bool = parameter(
        True,
        "Configure and activate by itself at start; false where a lifecycle manager does it.",
        when=START,
    )
    bond: bool = parameter(
        False,
        "Hold a bond with Nav2's lifecycle manager while active, which so notices that the process "
        "has ended or hangs. Needs the messages of the package bond, which come with Nav2.",
        when=CONFIGURE,
    )
    bundle: str = parameter(
        "", "Folder of the model bundle; empty is the one that comes along.", when=CONFIGURE
    )
    task_file: str = parameter("", "YAML file with tasks of your own; empty: none.", when=CONFIGURE)
    device: str = parameter(
        "auto", "auto, cpu, cuda or cuda:N; auto takes CUDA where it is.", when=CONFIGURE
    )
    dtype: str = parameter(
        "auto",
        "Precision of the network.",
        choices=("auto", "float32", "bfloat16", "float16"),
        when=CONFIGURE,
    )
    threads: int = parameter(
        0, "CPU threads of torch; 0 is torch's own choice.", bounds=(0, 1024), when=CONFIGURE
    )
    graphs: bool = parameter(True, "Capture CUDA graphs; no effect on a CPU.", when=CONFIGURE)
    compile: bool = parameter(
        False,
        "torch.compile: faster, but the first frame of a size waits up to a minute, and a "
        "CPU needs a C++ compiler.",
        when=CONFIGURE,
    )
    max_batch: int = parameter(
        8, "Most requests in one pass of the network.", bounds=(1, 64), when=CONFIGURE
    )
    image_transport: str = parameter(
        "raw", "raw takes image, compressed image/compressed.", choices=TRANSPORTS, when=CONFIGURE
    )
    cameras: tuple[str, ...] = parameter(
        (),
        "Several cameras on one engine: their names, which come before their topics (front/image, "
        "~/front/points) and parameters (front.scale.source). Empty: one camera without a name.",
        when=CONFIGURE,
    )
    cameras_per_pass: int = parameter(
        0,
        "Most cameras whose frames share one pass of the network, by turns when more wait; 0: all. "
        "A GPU is fastest with all, on a CPU 1 gives each frame the least delay.",
        bounds=(0, 64),
    )
    batch_wait: float = parameter(
        0.01,
        "How long a frame waits for those of the other cameras, to share a pass with them.",
        unit="s",
        bounds=(0.0, 1.0),
    )
    tasks: tuple[str, ...] = parameter(
        (ALL,),
        "Tasks on offer, all: every one of the bundle; the topics of the others do not exist.",
    )
    categories: tuple[str, ...] = parameter(
        ("chair",),
        "Classes of the semantic task, in the order of their ids from 1; each costs one pass. "
        "all: every one of the bundle.",
    )
    adapters: tuple[str, ...] = parameter(
        (),
        "Files that 'diception adapt' has written; each brings its own task, which is on offer "
        "beside those of the parameter tasks.",
    )
    seed: int = parameter(0, "Of the fixed starting noise.", bounds=(0, 2**31 - 1))
    deadline_ms: float = parameter(
        0.0,
        "Time that one pass of the network may take: steps, then its size, are reduced to hold it; "
        "misses are counted in diagnostics. 0 is no deadline.",
        unit="ms",
        bounds=(0.0, 60_000.0),
    )
    overlap: bool = parameter(
        False,
        "Decode and publish a frame while the next one is computed: more frames a second, each of "
        "them later. Two are in work at most; the newest still wins.",
    )
    temporal: float = parameter(
        0.0,
        "Share of a camera's previous answer in the start of the next: less flicker, later change.",
        bounds=(0.0, 0.95),
    )
    compute_always: bool = parameter(
        False, "Compute every offered output even when nobody subscribes."
    )
    max_rate: float = parameter(
        0.0, "Most frames per second; 0 is no limit.", unit="Hz", bounds=(0.0, 1000.0)
    )
    target_rate: float = parameter(
        0.0,
        "Outputs per second below which diagnostics warn; 0 is never.",
        unit="Hz",
        bounds=(0.0, 1000.0),
    )
    max_age: float = parameter(
        0.0, "Images older than this are dropped; 0 drops none.", unit="s", bounds=(0.0, 3600.0)
    )
    min_depth: float = parameter(
        0.05, "Nearest metric depth; nearer is unknown (NaN).", unit="m", bounds=(1e-3, 1e4)
    )
    max_depth: float = parameter(
        50.0, "Farthest metric depth; farther is unknown (NaN).", unit="m", bounds=(1e-3, 1e5)
    )
    confidence_seeds: int = parameter(
        1,
        "Answers compared for depth/confidence; above 1 all are computed beside the frame's own.",
        bounds=(1, 8),
    )
    output: OutputParameters = field(default_factory=OutputParameters)
    scale: ScaleParameters = field(default_factory=ScaleParameters)
    cloud: CloudParameters = field(default_factory=CloudParameters)
    filter: FilterParameters = field(default_factory=FilterParameters)
    per_task: Mapping[str, TaskParameters] = field(default_factory=dict)
    per_camera: Mapping[str, NodeParameters] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_together(self)

    def of_task(self, name: str) -> TaskParameters:
        return self.per_task.get(name, TaskParameters())

    def of_camera(self, name: str) -> NodeParameters:
        """All parameters as they apply to one camera; "" is the only one, which has no name."""
        return self.per_camera.get(name, self)

    def with_offer(self, **changes: Any) -> NodeParameters:
        """Changed for the node and for each of its cameras."""
        cameras = {
            name: dataclasses.replace(camera, **changes) for name, camera in self.per_camera.items()
        }
        return dataclasses.replace(self, **changes, per_camera=cameras)

    def offers(self, task: str) -> bool:
        return task in self.tasks or ALL in self.tasks

    @property
    def metric(self) -> bool:
        """Whether metric topics exist at all."""
        return self.scale.source != "none" and self.offers("depth")

    def engine_config(self) -> EngineConfig:
        return EngineConfig(
            device=self.device,
            dtype=self.dtype,  # type: ignore[arg-type]  # its choices are checked above
            threads=self.threads or None,
            seed=self.seed,
            graphs=self.graphs,
            compile=self.compile,
            max_batch=self.max_batch,
        )


def specs(names: Sequence[str] = tuple(TASKS)) -> tuple[Spec, ...]:
    """Every parameter under its ROS name; names: the tasks that exist."""
    return (*specs_of(NodeParameters, ""), *task_specs(names))


def task_specs(names: Sequence[str]) -> tuple[Spec, ...]:
    """Those of the tasks alone."""
    return tuple(spec for name in names for spec in specs_of(TaskParameters, f"{name}."))


def camera_specs(parameters: NodeParameters) -> tuple[Spec, ...]:
    """Those of the cameras; their defaults are the values of the node's own."""
    return tuple(
        dataclasses.replace(spec, name=f"{camera}.{name}", default=value)
        for camera in parameters.cameras
        for name, value, spec in values_of(parameters, "")
        if is_per_camera(name)
    )


def is_per_camera(name: str) -> bool:
    """Whether each camera has its own of this parameter (named without the camera)."""
    return name.startswith(tuple(item for item in PER_CAMERA if item.endswith("."))) or (
        name in PER_CAMERA
    )


def from_values(values: Mapping[str, Any]) -> NodeParameters:
    """ROS names and values, those missing at their default -> NodeParameters.
    ValueError says which value is wrong and why; unknown names are ignored."""
    rest = {key: _plain(value) for key, value in values.items()}
    found = _node_parameters(rest)
    cameras = {}
    for camera in found.cameras:
        own = {
            key[len(camera) + 1 :]: value
            for key, value in rest.items()
            if key.startswith(f"{camera}.")
        }
        try:
            cameras[camera] = _node_parameters({**rest, **own, "cameras": ()})
        except ValueError as error:
            raise ValueError(f"camera {camera}: {error}") from error
    return dataclasses.replace(found, per_camera=cameras)


def _node_parameters(rest: Mapping[str, Any]) -> NodeParameters:
    """Of plain values, those of the cameras left out."""
    owners = {name.partition(".")[0] for name in rest if name.partition(".")[2]}
    owners -= set(rest.get("cameras", ()))
    nested = {spec.name.partition(".")[0] for spec in specs_of(NodeParameters, "")}
    tasks = {
        owner: build(TaskParameters, f"{owner}.", rest)
        for owner in owners - nested
        if any(f"{owner}.{item.name}" in rest for item in dataclasses.fields(TaskParameters))
    }
    built = build(NodeParameters, "", rest, per_task=tasks)
    assert isinstance(built, NodeParameters)
    return built


def _plain(value: Any) -> Any:
    """Lists become tuples; empty strings in them are left out, because ROS has no typed empty
    list and [""] stands for it."""
    if isinstance(value, bool | int | float | str):
        return value
    return tuple(item for item in value if item != "")
