# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the node: default, range, unit, effect, and how they are checked together.

Long because it is one table; only its last third is code.

No ROS here: `declare.py` carries these to rclpy, tests and tools read them without it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from diception_ros.engine import EngineConfig
from diception_ros.tasks import TASKS

Value = bool | int | float | str | tuple[str, ...] | tuple[float, ...]

LIVE = "live"
CONFIGURE = "configure"
START = "start"
"""When a change takes effect: between two frames, at the next configure, or at the next start."""

TRANSPORTS = ("raw", "compressed")
SCALE_SOURCES = ("none", "fixed", "reference", "ground_plane")
ALL = "all"
"""In `tasks` and `categories`: everything that the bundle can answer."""
MAX_CATEGORIES = 255
"""Class ids are 8 bit and 0 is the background."""
CAMERA_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
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
class Spec:
    """One parameter. bounds are inclusive; choices empty means any; unit "" means none."""

    name: str
    default: Value
    text: str
    unit: str = ""
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    when: str = LIVE

    @property
    def declared(self) -> Any:
        """The default as rclpy takes it. An empty list has no type in ROS: [""] stands for it."""
        return (list(self.default) or [""]) if isinstance(self.default, tuple) else self.default

    def describe(self) -> str:
        """One paragraph for `ros2 param describe`."""
        parts = [self.text]
        if self.unit:
            parts.append(f"Unit: {self.unit}.")
        if self.choices:
            parts.append(f"One of: {', '.join(self.choices)}.")
        if self.when == CONFIGURE:
            parts.append("A change takes effect at the next configure.")
        return " ".join(parts)


def parameter(default: Value, text: str, **details: Any) -> Any:
    """A dataclass field that carries its Spec."""
    return field(default=default, metadata={"spec": Spec("", default, text, **details)})


@dataclass(frozen=True)
class TaskParameters:
    """Of one task; the ROS names begin with the task's name, for example `depth.steps`."""

    steps: int = parameter(0, "Denoising steps; 0 takes the bundle's own figure.", bounds=(0, 100))
    guidance: float = parameter(
        0.0,
        "Classifier-free guidance; 0 takes the bundle's own figure, 1 is off, above 1 costs twice.",
        bounds=(0.0, 20.0),
    )
    max_rate: float = parameter(
        0.0, "Most answers per second; 0 is every frame.", unit="Hz", bounds=(0.0, 1000.0)
    )


@dataclass(frozen=True)
class OutputParameters:
    width: int = parameter(
        0,
        "Width of every output and of the camera info; 0 keeps the input's. Nav2's semantic layer "
        "works best near 400.",
        unit="px",
        bounds=(0, 8192),
    )
    height: int = parameter(
        0, "Height of every output; 0 keeps the input's.", unit="px", bounds=(0, 8192)
    )


@dataclass(frozen=True)
class FixedScale:
    scale: float = parameter(
        1.0,
        "source fixed: 1 / depth = scale * relative disparity + shift.",
        unit="1/m",
        bounds=(0.0, 1e6),
    )
    shift: float = parameter(
        0.0, "source fixed: see scale.fixed.scale.", unit="1/m", bounds=(-1e6, 1e6)
    )


@dataclass(frozen=True)
class ReferenceScale:
    max_age: float = parameter(
        0.2,
        "source reference: largest difference between the stamps of image and reference.",
        unit="s",
        bounds=(0.0, 60.0),
    )
    extrinsics: tuple[float, ...] = parameter(
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "Pose of the frame of reference/points in the camera's optical frame: x y z qx qy qz qw. "
        "Looked at only when the two frame ids differ.",
        unit="m and quaternion",
    )

    use_tf: bool = parameter(
        False, "source reference: take the extrinsics from TF instead; needs tf2_ros."
    )
    min_coverage: float = parameter(
        0.001,
        "source reference: least share of the image's pixels that must have a reference.",
        bounds=(0.0, 1.0),
    )


@dataclass(frozen=True)
class GroundPlane:
    height: float = parameter(
        0.5,
        "source ground_plane: height of the optical centre over the floor.",
        unit="m",
        bounds=(0.01, 1000.0),
    )
    pitch: float = parameter(
        0.0,
        "source ground_plane: how far the camera looks down from the horizontal.",
        unit="rad",
        bounds=(-1.6, 1.6),
    )
    roll: float = parameter(
        0.0,
        "source ground_plane: rotation of the camera about its viewing axis, clockwise positive.",
        unit="rad",
        bounds=(-3.2, 3.2),
    )
    frame: str = parameter(
        "",
        "source ground_plane: TF frame on the floor with z up, for example base_footprint; then "
        "height, pitch and roll come from TF. Needs tf2_ros.",
    )


@dataclass(frozen=True)
class ScaleParameters:
    """Where metres come from."""

    source: str = parameter(
        "none",
        "Where metres come from; none publishes no metric topic at all.",
        choices=SCALE_SOURCES,
    )
    smoothing: float = parameter(
        0.0,
        "Share of the last fit kept in the new one where both agree within their noise: 0 takes "
        "each fit as it is, 0.9 is slow.",
        bounds=(0.0, 0.99),
    )
    period: float = parameter(
        0.0,
        "Time between two fits; 0 fits every frame. Relative disparity is normalised per image, so "
        "an old fit is only as good as the scene is still.",
        unit="s",
        bounds=(0.0, 3600.0),
    )
    max_residual: float = parameter(
        0.25, "A fit with a larger relative residual is not used.", bounds=(0.0, 10.0)
    )
    hold: float = parameter(
        1.0,
        "How long the last good fit serves when no new one can be made.",
        unit="s",
        bounds=(0.0, 3600.0),
    )
    fixed: FixedScale = field(default_factory=FixedScale)
    reference: ReferenceScale = field(default_factory=ReferenceScale)
    ground_plane: GroundPlane = field(default_factory=GroundPlane)


@dataclass(frozen=True)
class CloudParameters:
    """The filters are open3d's; see geometry/cloud_filter.py."""

    max_rate: float = parameter(
        0.0, "Most clouds per second; 0 is every frame.", unit="Hz", bounds=(0.0, 1000.0)
    )
    decimation: int = parameter(
        1,
        "Every n-th row and column; keep 1 where a consumer wants cloud and mask of equal size.",
        unit="px",
        bounds=(1, 64),
    )
    outliers: bool = parameter(
        False,
        "Lone points, far from their neighbours, become unknown; the cloud keeps its rows and "
        "columns. Needs open3d; time per cloud in frame_report, stage cloud.",
    )
    outlier_ratio: float = parameter(
        2.0,
        "outliers: points whose mean distance to their neighbours exceeds the cloud's mean by so "
        "many standard deviations are left out; less is stricter.",
        bounds=(0.1, 100.0),
    )
    voxel: float = parameter(
        0.0,
        "Edge of a cube that keeps one point, the mean of its points and colours; 0 is off. The "
        "cloud then has no rows and columns (height 1), so not with cloud.normals, cloud.label or "
        "beside a consumer that pairs points and pixels. Needs open3d.",
        unit="m",
        bounds=(0.0, 100.0),
    )
    normals: bool = parameter(False, "Adds normal_x/y/z; needs the task normal.")
    label: bool = parameter(False, "Adds label, the semantic class id; needs the task semantic.")

    @property
    def filters(self) -> tuple[str, ...]:
        """The parameters in force that need open3d."""
        return tuple(name for name in ("outliers", "voxel") if getattr(self, name))


@dataclass(frozen=True)
class FilterParameters:
    """What is kept of an answer."""

    instance_score: float = parameter(
        0.0, "Instances below this score are left out.", bounds=(0.0, 1.0)
    )
    instance_area: int = parameter(
        1, "Instances smaller than this are left out.", unit="px", bounds=(1, 1_000_000)
    )
    point_score: float = parameter(
        0.5, "A pixel belongs to the answer to a point prompt from this score.", bounds=(0.0, 1.0)
    )
    keypoint_score: float = parameter(
        0.0, "Keypoints below this score are left out.", bounds=(0.0, 1.0)
    )


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
        "Answers compared for depth/confidence; each above the first costs one more depth pass.",
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
    return (*_specs(NodeParameters, ""), *task_specs(names))


def task_specs(names: Sequence[str]) -> tuple[Spec, ...]:
    """Those of the tasks alone."""
    return tuple(spec for name in names for spec in _specs(TaskParameters, f"{name}."))


def camera_specs(parameters: NodeParameters) -> tuple[Spec, ...]:
    """Those of the cameras; their defaults are the values of the node's own."""
    return tuple(
        dataclasses.replace(spec, name=f"{camera}.{name}", default=value)
        for camera in parameters.cameras
        for name, value, spec in _values(parameters, "")
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
    nested = {spec.name.partition(".")[0] for spec in _specs(NodeParameters, "")}
    tasks = {
        owner: _build(TaskParameters, f"{owner}.", rest)
        for owner in owners - nested
        if any(f"{owner}.{item.name}" in rest for item in dataclasses.fields(TaskParameters))
    }
    built = _build(NodeParameters, "", rest, per_task=tasks)
    assert isinstance(built, NodeParameters)
    return built


def check_ranges(parameters: NodeParameters) -> None:
    """ValueError naming the first value outside its bounds or choices."""
    for name, value, spec in _values(parameters, ""):
        if spec.bounds and not spec.bounds[0] <= value <= spec.bounds[1]:
            low, high = spec.bounds
            raise ValueError(f"{name} must be within {low:g} and {high:g} {spec.unit}, got {value}")
        if spec.choices and value not in spec.choices:
            raise ValueError(f"{name} must be one of {', '.join(spec.choices)}, got '{value}'")


def check_together(parameters: NodeParameters) -> None:
    """ValueError for values that are fine alone but not in company."""
    if parameters.min_depth >= parameters.max_depth:
        raise ValueError(
            f"min_depth {parameters.min_depth:g} m must be less than max_depth "
            f"{parameters.max_depth:g} m"
        )
    if (parameters.output.width == 0) != (parameters.output.height == 0):
        raise ValueError("output.width and output.height must be both 0 or both given")
    if parameters.scale.source == "fixed" and parameters.scale.fixed.scale <= 0:
        raise ValueError("scale.source fixed needs scale.fixed.scale > 0 (1/m)")
    if parameters.scale.source != "none" and not parameters.offers("depth"):
        raise ValueError(f"scale.source {parameters.scale.source} needs 'depth' among the tasks")
    _check_names(parameters)
    _check_cloud(parameters)
    _check_pose(parameters.scale.reference.extrinsics)
    parameters.engine_config()


def _check_names(parameters: NodeParameters) -> None:
    for name in parameters.cameras:
        if not CAMERA_NAME.fullmatch(name):
            raise ValueError(
                f"cameras: '{name}' is no name: expected letters, digits and _, a letter first"
            )
    for name in ("tasks", "categories", "adapters", "cameras"):
        values = getattr(parameters, name)
        if len(set(values)) != len(values):
            raise ValueError(f"{name}: a name is given twice in {', '.join(values)}")
    if len(parameters.categories) > MAX_CATEGORIES:
        raise ValueError(
            f"categories: at most {MAX_CATEGORIES}, got {len(parameters.categories)} "
            "(class ids are 8 bit)"
        )


def _check_cloud(parameters: NodeParameters) -> None:
    for field_name, task in (("normals", "normal"), ("label", "semantic")):
        if getattr(parameters.cloud, field_name) and not parameters.offers(task):
            raise ValueError(f"cloud.{field_name} needs '{task}' among the tasks")
        if getattr(parameters.cloud, field_name) and parameters.cloud.voxel:
            raise ValueError(
                f"cloud.{field_name} needs a cloud of rows and columns, which cloud.voxel "
                f"{parameters.cloud.voxel:g} m leaves none of: turn one of them off"
            )


def _check_pose(pose: Sequence[float]) -> None:
    if len(pose) != 7 or abs(sum(part * part for part in pose[3:]) - 1) > 1e-3:
        raise ValueError(
            "scale.reference.extrinsics must be x y z and a unit quaternion qx qy qz qw, "
            f"got {list(pose)}"
        )


def _specs(kind: Any, prefix: str) -> list[Spec]:
    found: list[Spec] = []
    for item in dataclasses.fields(kind):
        if "spec" in item.metadata:
            found.append(dataclasses.replace(item.metadata["spec"], name=prefix + item.name))
        elif dataclasses.is_dataclass(item.default_factory):
            found += _specs(item.default_factory, f"{prefix}{item.name}.")
    return found


def _build(kind: Any, prefix: str, values: Mapping[str, Any], **given: Any) -> Any:
    arguments = dict(given)
    for item in dataclasses.fields(kind):
        if "spec" in item.metadata and prefix + item.name in values:
            arguments[item.name] = values[prefix + item.name]
        elif dataclasses.is_dataclass(item.default_factory):
            arguments[item.name] = _build(item.default_factory, f"{prefix}{item.name}.", values)
    return kind(**arguments)


def _values(part: Any, prefix: str) -> list[tuple[str, Any, Spec]]:
    found = []
    for item in dataclasses.fields(part):
        value = getattr(part, item.name)
        if "spec" in item.metadata:
            found.append((prefix + item.name, value, item.metadata["spec"]))
        elif dataclasses.is_dataclass(value):
            found += _values(value, f"{prefix}{item.name}.")
    if isinstance(part, NodeParameters):
        for name, settings in part.per_task.items():
            found += _values(settings, f"{name}.")
    return found


def _plain(value: Any) -> Any:
    """Lists become tuples; empty strings in them are left out, because ROS has no typed empty
    list and [""] stands for it."""
    if isinstance(value, bool | int | float | str):
        return value
    return tuple(item for item in value if item != "")
