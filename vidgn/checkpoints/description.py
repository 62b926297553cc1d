"""The description of a checkpoint: what must be known to build its net and to score videos with it.

read    plain containers -> Description.from_plain -> every value checked against bounds, before anything is built
write   Description.to_plain -> dicts, lists, strings and numbers under the key `vidgn` of the checkpoint

No other module knows the keys of the plain form.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from vidgn.files.bounds import (
    bare,
    finite_number,
    flat_options,
    mapping,
    one_of,
    plain_values,
    shown,
    strings,
    text,
    texts,
    whole_number,
)
from vidgn.objective.targets import ONE, Targets

KEY = "vidgn"  # of the plain form in a checkpoint file
FORMAT = 1  # of the plain form
BACKENDS = ("pyav", "decord", "torchcodec")
CLIP_RULES = ("nonlocal", "linspace", "dense", "segments")

MAX_CLASSES = 100_000
MAX_NAME = 1_000  # characters of a class name
MAX_CLIP_PIXELS = 1 << 26  # frames x height x width of one clip: 256 frames of 512 px
MAX_BATCH_PIXELS = 1 << 29  # of the views that are scored at a time: 128 clips of 64 frames of 256 px
MAX_VIEWS = 10_000  # of one video
_MAX_CONFIG = 1_000_000  # characters of the composed configuration
_KEYS = (
    "format", "classes", "model", "norm", "clip", "crop", "normalize", "test", "data", "versions", "config", "words",
    "split", "job", "targets",
)  # fmt: skip
# No paths, no sizes.
_SHARED_DATA = ("name", "seed", "flip", "backend", "clips_per_video", "min_area", "opposites", "time", "fps")


@dataclass(frozen=True)
class TestViews:
    """The views of a video that the run's own test scores, and how many are scored at a time."""

    __test__ = False  # no test class of pytest

    num_clips: int = 10
    num_crops: int | str = 3
    clip_rule: str = "nonlocal"
    view_batch: int = 8


@dataclass(frozen=True)
class Description:
    """What a checkpoint says about its net, its clips and the run that wrote it.

    Attributes:
        classes: names, index = label.
        model: options of the net, as `model.*` of a configuration.
        norm: options of the norm, as `norm.*`.
        clip_len: frames of a clip.
        span: raw frames that a clip covers.
        crop: side of the training crop (pixels).
        mean: of the pixels in 0..1, per channel.
        std: likewise.
        test: views of the run's own test.
        data: options of the data set, as `data.*`; paths are those of the machine that trained.
        versions: of the packages, by name.
        config: the composed configuration of the run, as YAML.
        overrides: what was typed on the command line.
        targets: whether a video has one class, several, or one of each head.
        split: which videos the run trained on, as hashes of their names; None where it is not recorded.
        job: what else the numbers of the run depend on; None where it is not recorded.
        extra: what a later version recorded besides; kept as it is.
    """

    classes: tuple[str, ...]
    model: Mapping[str, Any]
    norm: Mapping[str, Any]
    clip_len: int
    span: int
    crop: int
    mean: tuple[float, ...] = (0.45, 0.45, 0.45)
    std: tuple[float, ...] = (0.225, 0.225, 0.225)
    test: TestViews = TestViews()
    data: Mapping[str, Any] = field(default_factory=lambda: {"name": "folder"})
    versions: Mapping[str, str] = field(default_factory=dict)
    config: str = ""
    overrides: tuple[str, ...] = ()
    targets: Targets = ONE
    split: Mapping[str, Any] | None = None
    job: Mapping[str, Any] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def backend(self) -> Any:
        """The decoder of the run."""
        return self.data.get("backend", "pyav")

    @property
    def net_name(self) -> str:
        """The name of the net."""
        return str(self.model["name"])

    @property
    def data_name(self) -> str:
        """The name of the data set."""
        return str(self.data["name"])

    @property
    def is_of_images(self) -> bool:
        """Whether the net was trained on images."""
        return self.clip_len == 1

    @classmethod
    def from_plain(cls, plain: object) -> "Description":
        """Check the plain form of a description and return it as a record.

        Raises:
            ValueError: a value is missing, of another type, or out of its bounds; one sentence that names it.
        """
        top = mapping(plain, "the description")
        if top.get("format") != FORMAT or isinstance(top["format"], bool):
            wrote = top.get("versions")
            version = shown(wrote.get("vidgn", "unknown")).strip("'") if isinstance(wrote, Mapping) else "unknown"
            raise ValueError(
                f"has format {shown(top.get('format'))}, this vidgn reads {FORMAT}; use the version that wrote it "
                f"({version})"
            )
        clip, pixels = mapping(top.get("clip"), "clip"), mapping(top.get("normalize"), "normalize")
        description = cls(
            classes=_classes(top.get("classes")),
            model=_model(top.get("model")),
            norm=_norm(top.get("norm")),
            clip_len=whole_number(clip.get("clip_len"), "clip_len", 1, 4_096),
            span=whole_number(clip.get("span"), "span", 1, 65_536),
            crop=whole_number(top.get("crop"), "crop", 1, 4_096),
            mean=_channels(pixels.get("mean"), "normalize.mean", low=-1e6),
            std=_channels(pixels.get("std"), "normalize.std", low=1e-6),
            test=_test(top.get("test")),
            data=_data(top.get("data")),
            versions=texts(top.get("versions", {}), "versions"),
            config=text(top.get("config", ""), "config", longest=_MAX_CONFIG),
            overrides=strings(top.get("words", []), "words", longest=_MAX_CONFIG),
            targets=_targets(top.get("targets"), num_classes=len(top["classes"])),
            split=_recorded(top.get("split"), "split"),
            job=_recorded(top.get("job"), "job"),
            extra=_extra(top),
        )
        _check_pixels(description)
        return description

    def check_bounds(self, subject: str, *, advice: str) -> None:
        """Check the description against the bounds of `from_plain`, before it is written or used.

        Raises:
            ValueError: a value is out of its bounds; the sentence begins with `subject` and ends with `advice`.
        """
        try:
            self.from_plain(self.to_plain())
        except ValueError as err:
            said = str(err).replace("has test.", "has ")  # on the command line these options have no group
            raise ValueError(f"{subject} {said}; {advice}.") from err

    def to_plain(self) -> dict[str, Any]:
        """Return the description as plain containers and primitives."""
        plain: dict[str, Any] = {
            "format": FORMAT,
            "classes": list(self.classes),
            "model": dict(self.model),
            "norm": dict(self.norm),
            "clip": {"clip_len": self.clip_len, "span": self.span},
            "crop": self.crop,
            "normalize": {"mean": list(self.mean), "std": list(self.std)},
            "test": dict(vars(self.test)),
            "data": dict(self.data),
            "versions": dict(self.versions),
            "config": self.config,
            "words": list(self.overrides),
            **self.extra,
        }
        if self.targets.kind != "one":
            heads = [list(head) for head in self.targets.heads]
            plain["targets"] = {"kind": self.targets.kind, "heads": heads, "separator": self.targets.separator}
        recorded = {"split": self.split, "job": self.job}
        return {**plain, **{key: dict(value) for key, value in recorded.items() if value is not None}}

    def shared(self) -> "Description":
        """Return the description without anything that names a file, folder or command of the machine."""
        data = {key: value for key, value in self.data.items() if key in _SHARED_DATA}
        return replace(self, data=data, config="", overrides=(), job=None, extra={})

    def differences(self, other: "Description") -> list[tuple[str, Any, Any]]:
        """Return (name, here, there) of what the net and its clips are and differs; `job` is not compared."""
        names = ("model", "norm", "clip_len", "span", "crop", "mean", "std", "classes")
        pairs = [(name, _plain_value(getattr(self, name)), _plain_value(getattr(other, name))) for name in names]
        return [(name, here, there) for name, here, there in pairs if here != there]


def _extra(top: Mapping[str, Any]) -> dict[str, Any]:
    extra = {key: value for key, value in top.items() if key not in _KEYS}
    return {key: plain_values(value, bare(key)) for key, value in extra.items()}


def _recorded(value: object, name: str) -> Mapping[str, Any] | None:
    return None if value is None else mapping(plain_values(value, name), name)


def _plain_value(value: object) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _check_pixels(description: Description) -> None:
    if description.span % description.clip_len:
        raise ValueError(f"has clip_len ({description.clip_len}), which must divide span ({description.span})")
    pixels = description.clip_len * description.crop**2
    if pixels > MAX_CLIP_PIXELS:
        raise ValueError(
            f"has clips of {description.clip_len} frames of {description.crop} px; at most {MAX_CLIP_PIXELS:,} pixels"
            " are read"
        )
    if pixels * description.test.view_batch > MAX_BATCH_PIXELS:
        raise ValueError(
            f"scores {description.test.view_batch} clips of {pixels:,} pixels at a time (test.view_batch); at most "
            f"{MAX_BATCH_PIXELS:,} pixels are held"
        )


def _targets(value: object, *, num_classes: int) -> Targets:
    """Return what the outputs stand for; checkpoints of one class per video do not say it."""
    if value is None:
        return ONE
    plain = mapping(value, "targets")
    kind = one_of(plain.get("kind"), "targets.kind", ("many", "heads"))
    separator = text(plain.get("separator", ";"), "targets.separator", longest=20)
    if kind == "many":
        return Targets("many", separator=separator)
    heads = plain.get("heads")
    if not isinstance(heads, list | tuple) or any(
        not isinstance(head, list | tuple) or len(head) != 2 for head in heads
    ):
        raise ValueError(f"has targets.heads {shown(heads)}; a list of names and numbers is needed")
    pairs = tuple(
        (text(name, "targets.heads"), whole_number(count, "targets.heads", 1, MAX_CLASSES)) for name, count in heads
    )
    if sum(count for _, count in pairs) != num_classes:
        raise ValueError(f"has targets.heads {shown(heads)}; their classes must add up to {num_classes}")
    return Targets("heads", pairs, separator)


def _test(value: object) -> TestViews:
    plain = mapping(value, "test")
    num_clips = whole_number(plain.get("num_clips"), "test.num_clips", 1, MAX_VIEWS)
    num_crops = plain.get("num_crops")
    if num_crops not in (1, 3, "full") or isinstance(num_crops, bool | float):
        raise ValueError(f"has test.num_crops {shown(num_crops)}; it must be one of 1, 3, full")
    if num_clips * (3 if num_crops == 3 else 1) > MAX_VIEWS:
        raise ValueError(f"has test.num_clips {num_clips} of {num_crops} crops; at most {MAX_VIEWS} views are scored")
    rule = one_of(plain.get("clip_rule"), "test.clip_rule", CLIP_RULES)
    batch = whole_number(plain.get("view_batch", 8), "test.view_batch", 1, 1_024)
    return TestViews(num_clips, num_crops, rule, batch)


def _model(value: object) -> dict[str, Any]:
    options = flat_options(value, "model")
    text(options.get("name"), "model.name")
    if not options["name"]:
        raise ValueError("has an empty model.name")
    whole_number(options.get("width"), "model.width", 1, 4_096)
    if "depth" in options:
        whole_number(options["depth"], "model.depth", 1, 1_000)
    dropout = finite_number(options.get("dropout", 0.0), "model.dropout")
    if not 0 <= dropout < 1:
        raise ValueError(f"has model.dropout {dropout}; it must be in [0, 1)")
    return _registered(options)


def _norm(value: object) -> dict[str, Any]:
    options = flat_options(value, "norm")
    for name in ("eps", "momentum"):
        if options.get(name) is not None and not 0 <= finite_number(options[name], f"norm.{name}") <= 1:
            raise ValueError(f"has norm.{name} {shown(options[name])}; it must be from 0 to 1")
    return options


def _registered(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a net under its name in the registry; old checkpoints call every I3D `i3d`.

    >>> _registered({"name": "i3d", "depth": 101, "width": 64, "pool1": "paper"})
    {'name': 'i3d_r101', 'width': 64, 'pool1': 'paper'}
    """
    if options["name"] != "i3d":
        return dict(options)
    name = "i3d_r50_8x8" if options.get("pool1") == "pytorchvideo" else f"i3d_r{options.get('depth', 50)}"
    return {"name": name} | {key: value for key, value in options.items() if key not in ("name", "depth")}


def _data(value: object) -> dict[str, Any]:
    plain = {key: item for key, item in mapping(value, "data").items() if not isinstance(item, list | tuple | dict)}
    options = flat_options(plain, "data", named=True)
    columns = mapping(value, "data").get("columns")
    if isinstance(columns, dict):
        lists = {key: strings(item, "data.columns") for key, item in columns.items() if isinstance(item, list | tuple)}
        plain = {key: item for key, item in columns.items() if key not in lists}
        options["columns"] = {
            **flat_options(plain, "data.columns", named=False),
            **{k: list(v) for k, v in lists.items()},
        }
    if options.get("time") is not None:
        one_of(options["time"], "data.time", ("frames", "seconds"))
    if options.get("fps") is not None and not 0 < finite_number(options["fps"], "data.fps") <= 1_000:
        raise ValueError(f"has data.fps {shown(options['fps'])}; it must be above 0 and at most 1000")
    if options.get("backend") is not None:
        one_of(options["backend"], "data.backend", BACKENDS)
    if options.get("num_workers") is not None:
        whole_number(options["num_workers"], "data.num_workers", 0, 1_024)
    return options


def _classes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise ValueError(f"has classes {shown(value)}; a list of one or more names is needed")
    if len(value) > MAX_CLASSES:
        raise ValueError(f"has {len(value):,} classes; at most {MAX_CLASSES:,} are taken")
    names = tuple(text(name, "classes", longest=MAX_NAME) for name in value)
    if len(set(names)) != len(names):
        raise ValueError("names a class twice")
    return names


def _channels(value: object, name: str, *, low: float) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError(f"has {name} {shown(value)}; three numbers are needed")
    numbers = tuple(finite_number(item, name) for item in value)
    if min(numbers) < low or max(numbers) > 1e6:
        raise ValueError(f"has {name} {list(numbers)}; each must be between {low:g} and 1e+06")
    return numbers
