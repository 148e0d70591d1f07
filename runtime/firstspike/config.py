"""The configuration: its keys, and how files, environment and command line make one.

Later layers win: the defaults here, the file (`--config`, `$FIRSTSPIKE_CONFIG` or /etc/firstspike/config.toml), the
files of `conf.d` beside it in order of name, `FIRSTSPIKE__SECTION__KEY`, `--set section.key=value`. Every value
remembers where it came from, and an unknown key is an error that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from firstspike.bundle import DecideSpec, WindowSpec, find
from firstspike.config_layers import STREAM, Layers, Origin
from firstspike.config_plugins import BackendChoice, PluginSection, backend_choices, explain, source_options
from firstspike.errors import ConfigError, FirstspikeError
from firstspike.filters.section import FilterSection
from firstspike.lookback import On, Rules
from firstspike.recording_writer import Format
from firstspike.schedule import Policy, Settings

OF_A_STREAM = ("model", "source", "filter", "window", "decide", "schedule", "record")
"""Sections that `[stream.NAME]` may set; the others are the whole daemon's."""


class Section(BaseModel):
    """A section whose keys are all known."""

    # Numbers as text: the environment's values are read as TOML first.
    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)


class ModelSection(Section):
    """`[model]`."""

    path: Annotated[str, Field(description="The bundle's folder; relative to the configuration file.")]


class WindowSection(Section):
    """`[window]`; what is left out is as the bundle wants it."""

    kind: Literal["time", "count"] | None = None
    size: Annotated[int | None, Field(ge=1, le=1 << 40, description="µs (time) or events (count)")] = None
    hop: Annotated[int | None, Field(ge=1, le=1 << 40, description="as size; default: size")] = None
    max_events: Annotated[int, Field(ge=1, le=100_000_000, description="most events held for open windows")] = 4_000_000
    reset_us: Annotated[int, Field(ge=1, description="a jump back by more is a new time base")] = 1_000_000

    def over(self, wanted: WindowSpec) -> WindowSpec:
        """The bundle's windows with what this section sets.

        Raises:
            ConfigError: the two together make no sense.
        """
        kind = self.kind or wanted.kind
        if self.size is None and kind != wanted.kind:
            raise ConfigError(f"window.kind is {kind!r}, the model's is {wanted.kind!r}: set window.size too")
        size = self.size or wanted.size
        hop = self.hop or (size if self.size or self.kind else wanted.hop)
        if hop > size:
            raise ConfigError(
                f"window.hop {hop} is larger than window.size {size}: events between windows would be lost"
            )
        if kind == "count" and size > self.max_events:
            raise ConfigError(
                f"window.size is {size} events, more than window.max_events {self.max_events}: raise that"
            )
        return WindowSpec(kind=kind, size=size, hop=hop)


class DecideSection(Section):
    """`[decide]`; what is left out is as the bundle wants it."""

    min_events: Annotated[int | None, Field(ge=0)] = None
    decay: Annotated[float | None, Field(ge=0, le=1)] = None
    min_evidence: Annotated[float | None, Field(ge=0)] = None
    min_confidence: Annotated[float | None, Field(ge=0, le=1)] = None

    def over(self, wanted: DecideSpec) -> DecideSpec:
        """The bundle's rules with what this section sets."""
        return wanted.model_copy(update=self.model_dump(exclude_none=True))


class ScheduleSection(Section):
    """`[schedule]`."""

    plans: Annotated[
        list[str],
        Field(min_length=1, max_length=16, description="who answers, in order of preference: names of [backend.NAME]"),
    ] = ["emulator"]
    policy: Annotated[
        Policy, Field(description="order: the first that can; latency, energy, edp: the best measured")
    ] = "order"
    deadline_ms: Annotated[float, Field(gt=0, le=3_600_000)] = 100.0
    queue: Annotated[int, Field(ge=1, le=1000, description="most windows that wait; the oldest gives way")] = 2
    better: Annotated[
        float, Field(ge=0, lt=1, description="a plan must be better by this fraction to be preferred")
    ] = 0.1
    hold: Annotated[int, Field(ge=1, le=1_000_000, description="for so many windows on end")] = 20
    probe_every: Annotated[
        int, Field(ge=0, le=1_000_000, description="one window in so many goes to another plan; 0: none")
    ] = 50
    start_s: Annotated[float, Field(ge=0, le=3600, description="longest wait for a plan to be ready at the start")] = (
        30.0
    )

    @field_validator("probe_every")
    @classmethod
    def _a_trickle(cls, value: int) -> int:
        if value == 1:
            raise ValueError("must be 0 or 2 or more: every window would be a probe")
        return value

    @property
    def deadline_ns(self) -> int:
        """The deadline in ns."""
        return round(self.deadline_ms * 1e6)

    def settings(self) -> Settings:
        """As the scheduler takes them."""
        return Settings(
            deadline_ns=self.deadline_ns, policy=self.policy, better=self.better, hold=self.hold,
            probe_every=self.probe_every, queue=self.queue,
        )  # fmt: skip


class EnergySection(Section):
    """`[energy]`."""

    enabled: Annotated[bool, Field(description="say of each decision what it cost")] = True
    meters: Annotated[
        list[str], Field(max_length=16, description="auto: the machine's total; or names; none: no meter is read")
    ] = ["auto"]
    root: Annotated[str, Field(description="where /sys is looked for")] = "/"
    window_s: Annotated[float, Field(ge=0.1, le=60, description="energy is told once in so many seconds")] = 1.0
    sample_hz: Annotated[float, Field(ge=1, le=1000, description="most readings of a meter a second")] = 100.0
    baseline_s: Annotated[
        float, Field(ge=0, le=600, description="idle time before a live stream begins, where there is a meter")
    ] = 1.0


class PublishSection(Section):
    """`[publish]`."""

    endpoint: Annotated[str, Field(description="ipc:///path, or auto")] = "auto"
    group: Annotated[str, Field(description="whose members may subscribe on this machine; empty: the daemon's own")] = (
        ""
    )
    tcp: Annotated[
        str, Field(description="tcp://ADDRESS:PORT, for subscribers with keys; empty: nothing leaves this machine")
    ] = ""
    keys: Annotated[str, Field(description="folder of keys; auto: /etc/firstspike/keys or the user's own")] = "auto"
    max_connections: Annotated[int, Field(ge=1, le=10_000, description="at a time, of each of ipc and TCP")] = 128
    high_water_mark: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    health_period_s: Annotated[float, Field(ge=0.05, le=3600)] = 1.0
    wait_for_subscriber_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    provisional: Annotated[bool, Field(description="publish what the first output spike says, ahead of decisions")] = (
        False
    )


class MetricsSection(Section):
    """`[metrics]`."""

    enabled: bool = False
    address: Annotated[str, Field(description="ADDRESS:PORT of GET /metrics and /healthz")] = "127.0.0.1:9464"
    allow_remote: Annotated[bool, Field(description="let other machines read: whoever reaches the address can")] = False


class RecordSection(Section):
    """`[record]`: clips around decisions."""

    on: Annotated[
        On,
        Field(
            description="label: a label that is new; unsure: confidence below `below`; fault: a status other than ok"
        ),
    ] = "off"
    folder: Annotated[str, Field(description="of the clips; relative to the configuration file")] = "clips"
    labels: Annotated[list[str], Field(max_length=1000, description="of on = 'label'; empty: all")] = []
    below: Annotated[float, Field(ge=0, le=1)] = 0.6
    lookback_s: Annotated[float, Field(ge=0, le=3600, description="before the decision's window")] = 5.0
    after_s: Annotated[float, Field(ge=0, le=3600, description="after it")] = 1.0
    max_s: Annotated[float, Field(gt=0, le=86_400, description="of a clip; decisions within it share it")] = 60.0
    memory_mib: Annotated[float, Field(ge=1, le=65_536, description="of events that are kept; as much may wait")] = 64.0
    free_mib: Annotated[float, Field(ge=0, description="below so much free space no clip is written")] = 512.0
    format: Format = "aedat4"

    @model_validator(mode="after")
    def _has_room(self) -> RecordSection:
        if self.lookback_s + self.after_s > self.max_s:
            raise ValueError("max_s must be lookback_s + after_s at least: a clip around one decision has to fit")
        return self

    def rules(self, base: Path) -> Rules:
        """As the ring takes them; the folder counts from `base`."""
        return Rules(
            on=self.on, folder=base / self.folder, labels=tuple(self.labels), below=self.below,
            lookback_us=round(self.lookback_s * 1e6), after_us=round(self.after_s * 1e6),
            max_us=round(self.max_s * 1e6), memory_bytes=round(self.memory_mib * (1 << 20)),
            free_bytes=round(self.free_mib * (1 << 20)), format=self.format,
        )  # fmt: skip


class ClockSection(Section):
    """`[clock]`."""

    kind: Annotated[Literal["monotonic", "virtual"], Field(description="virtual: deterministic replays")] = "monotonic"


class LogSection(Section):
    """`[log]`."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """The whole configuration."""

    model: ModelSection
    source: PluginSection
    backend: dict[str, dict[str, Any]] = {}
    filter: FilterSection = FilterSection()
    window: WindowSection = WindowSection()
    decide: DecideSection = DecideSection()
    schedule: ScheduleSection = ScheduleSection()
    energy: EnergySection = EnergySection()
    publish: PublishSection = PublishSection()
    metrics: MetricsSection = MetricsSection()
    record: RecordSection = RecordSection()
    clock: ClockSection = ClockSection()
    log: LogSection = LogSection()
    stream: Annotated[
        dict[str, dict[str, Any]],
        Field(description="several streams: by name, sections that differ from those above (docs/streams.md)"),
    ] = {}


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid configuration, the options of the source and back ends that it names, and where each value came from."""

    config: Config
    source_options: BaseModel
    backends: tuple[BackendChoice, ...]
    """Those of `schedule.plans`, in their order."""
    base: Path
    """Relative paths count from here: the configuration file's folder."""
    values: dict[tuple[str, ...], tuple[Any, Origin]]
    streams: tuple[tuple[str, Loaded], ...] = ()
    """Of `[stream.NAME]`, each as if it were the only one; then the rest here is the first one's. Empty: there is but
    one stream, without a name."""

    @property
    def model_path(self) -> Path:
        """The bundle's folder."""
        return find(self.config.model.path, self.base)

    def origin(self, *key: str) -> Origin:
        """Where a value came from; for a section the first of its keys that was set."""
        found = [origin for other, (_, origin) in self.values.items() if other[: len(key)] == key]
        return found[0] if found else "default"

    @contextmanager
    def blame(self, *key: str) -> Iterator[None]:
        """Let an error inside name the key that it comes from, and where that was set."""
        try:
            yield
        except FirstspikeError as error:
            name = ".".join(key)
            text = str(error).removeprefix(f"{name}: ").removeprefix(name)
            raise type(error)(f"{name} ({self.origin(*key)}): {text}") from None


def load(layers: Layers) -> Loaded:
    """Validate the layers.

    Raises:
        ConfigError: one line for each fault: key, value, origin, and what is wrong.
    """
    if not (names := layers.streams()):
        return _load_one(layers)
    faults: list[str] = []
    found: list[tuple[str, Loaded]] = []
    for name in names:
        faults += _misplaced(name, layers)
        try:
            found.append((name, _load_one(layers.for_stream(name))))
        except ConfigError as error:
            faults += str(error).splitlines()
    faults += _shared_pixels(found)
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))  # what is wrong for all is told once
    return replace(found[0][1], streams=tuple(found), values=layers.values())


def _misplaced(name: str, layers: Layers) -> list[str]:
    """What is wrong about a stream's section itself."""
    faults = []
    if not re.fullmatch(r"[a-z0-9_-]{1,32}", name):
        faults.append(
            f"stream.{name} ({layers.origin((STREAM, name))}): a stream's name has 1 to 32 of a-z, 0-9, _ and -"
        )
    for key, (value, _) in layers.values().items():
        if key[:2] != (STREAM, name) or (len(key) == 2 and value == {}):
            continue
        if len(key) < 4 or key[2] not in OF_A_STREAM:
            where = ".".join(key)
            faults.append(
                f"{where} ({layers.origin(key)}): a stream has sections of its own, and only these: "
                f"{', '.join(f'[stream.{name}.{section}]' for section in OF_A_STREAM)}"
            )
    return faults


def _shared_pixels(streams: list[tuple[str, Loaded]]) -> list[str]:
    """Streams that name one file of hot pixels, which are one sensor's."""
    faults: list[str] = []
    seen: dict[str, str] = {}
    for name, own in streams:
        file = own.config.filter.hot_pixels
        if file and (other := seen.setdefault(file, name)) != name:
            origin = own.origin("filter", "hot_pixels")
            faults.append(
                f"filter.hot_pixels = {file!r} ({origin}): streams {other} and {name} share it, and hot pixels are one "
                f"sensor's: set stream.{name}.filter.hot_pixels"
            )
    return faults


def _load_one(layers: Layers) -> Loaded:
    faults: list[str] = []
    try:
        config = Config.model_validate(layers.tree())
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, (), layers))) from None
    source = source_options(config.source, layers, faults)
    backends = backend_choices(config.backend, config.schedule.plans, layers, faults)
    if faults:
        raise ConfigError("\n".join(faults))
    return Loaded(config, source, backends, layers.base, layers.values())
