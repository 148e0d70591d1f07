"""What leaves the daemon: the schema of every message, and its bytes on the wire.

A message is a msgpack map. Its `schema` field says which of these models it is and in which version; fields may be
added within a version, so readers ignore the ones that they do not know. `firstspike schemas` prints the models as JSON
Schema, and docs/protocol.md says how to read them from any language.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from firstspike.errors import DataError
from firstspike.messages_energy import METHOD, ClassificationEnergy, DecisionEnergy, EnergyMethod, EnergySoFar
from firstspike.messages_health import BackendHealth, Counters

MAX_MESSAGE_BYTES = 1 << 20
"""Larger ones are refused by every reader."""

Status = Literal["ok", "late", "dropped", "degraded"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    epoch: Annotated[str, Field(description="Names one run of the daemon: it changes when the daemon restarts.")]
    seq: Annotated[
        int, Field(ge=0, description="Counts the messages of this topic and stream within the epoch; a gap is a loss.")
    ]
    stream: Annotated[str | None, Field(description="Of [stream.NAME]; null: the daemon has but one.")] = None


class WindowAnswer(BaseModel):
    """What one window says by itself, and what it was made of."""

    model_config = ConfigDict(frozen=True)

    index: Annotated[int, Field(description="Number of the window in its stream; silent windows count, unpublished.")]
    t_start_us: Annotated[int, Field(description="First µs of the window, sensor clock.")]
    t_end_us: Annotated[int, Field(description="First µs after the window, sensor clock.")]
    events: Annotated[int, Field(description="Events that reached the model.")]
    label: Annotated[str | None, Field(description="Most likely class; null: too few events, or no inference.")]
    confidence: Annotated[float | None, Field(description="Its probability.")]
    log_probabilities: Annotated[
        list[float] | None, Field(description="Natural logarithms, in the order of the model's labels.")
    ]
    partial: Annotated[bool, Field(description="The stream ended before the window was complete.")]
    backward: Annotated[int, Field(description="Events with a timestamp below an earlier one, since the last window.")]
    late: Annotated[int, Field(description="Events dropped because their windows were closed, since the last window.")]
    overflow: Annotated[int, Field(description="Events dropped because the window was full, since the last window.")]
    resets: Annotated[int, Field(description="Restarts of the sensor's clock since the last window.")]
    out_of_bounds: Annotated[int, Field(description="Events outside the sensor's geometry: dropped.")]
    cropped: Annotated[int, Field(description="Events outside the model's field of view: dropped.")]


class Evidence(BaseModel):
    """What the recent windows say together: their log-probabilities summed, older ones decayed."""

    model_config = ConfigDict(frozen=True)

    label: Annotated[str | None, Field(description="Most likely class; null: abstained, there is too little evidence.")]
    confidence: Annotated[float | None, Field(description="Its probability.")]
    weight: Annotated[float, Field(description="Sum of decay^age over the windows that spoke.")]
    windows: Annotated[int, Field(description="Windows that spoke since the evidence began.")]


class FirstSpike(BaseModel):
    """The output layer's first spike: what a TTFS network says before it has finished. See `anytime`."""

    model_config = ConfigDict(frozen=True)

    step: Annotated[
        int | None,
        Field(
            description="Step of the output layer's own frame: 0 begins its input phase; below 0: its inputs were "
            "early; null: no output neuron spiked by itself."
        ),
    ]
    network_step: Annotated[int | None, Field(description="Steps of the whole network's time until then.")]
    known_step: Annotated[
        int | None,
        Field(
            description="Network step from which `label` is known: `network_step`, or, if several spiked at once "
            "before their input phase ended, that end, when the membranes decide."
        ),
    ]
    frame_steps: Annotated[int, Field(description="Steps of the output layer's frame: input phase and readout.")]
    network_steps: Annotated[int, Field(description="Steps of a whole inference.")]
    label: Annotated[
        str | None,
        Field(
            description="The class it names; of several at once the highest membrane potential, then the first of the "
            "model's labels. null: no spike, or too few events."
        ),
    ]
    candidates: Annotated[
        list[str],
        Field(description="All classes that spiked at that step, in the model's order: more than one is a tie."),
    ]
    agrees: Annotated[
        bool | None,
        Field(description="Whether `label` is the window's final label; null: one of them is null, or ahead."),
    ]


class Stamps(BaseModel):
    """When the window passed each stage, in ns of `clock`; virtual stamps belong to a deterministic replay."""

    model_config = ConfigDict(frozen=True)

    clock: Literal["monotonic", "virtual"]
    closed_ns: Annotated[int, Field(description="The window was complete.")]
    encoded_ns: Annotated[int | None, Field(description="It was encoded as spikes.")]
    inferred_ns: Annotated[int | None, Field(description="The back end had answered.")]
    published_ns: Annotated[int, Field(description="The message was handed to ZeroMQ.")]


class PartRun(BaseModel):
    """What one part of a hybrid took for the window."""

    model_config = ConfigDict(frozen=True)

    part: Annotated[Literal["front", "back"], Field(description="The spiking front, or the ANN back.")]
    backend: Annotated[str, Field(description="The back end that ran it.")]
    time_us: Annotated[
        float | None,
        Field(description="From its input to its output, the way to a worker included; null: the clock is virtual."),
    ]
    link_bytes: Annotated[int | None, Field(description="What it handed on to the next part; null: it is the last.")]
    spikes: Annotated[
        int | None, Field(description="Spikes that are counted in those bytes, or decide; null: it has none.")
    ]
    link_us: Annotated[
        float | None,
        Field(description="Of time_us, the way to its worker and back; null: it has none, or the clock is virtual."),
    ] = None


class Decision(_Message):
    """One window's classification: topic `decision`."""

    schema_: Annotated[Literal["firstspike.decision/1"], Field(alias="schema")] = "firstspike.decision/1"
    label: Annotated[str | None, Field(description="The daemon's answer: `evidence.label`.")]
    confidence: Annotated[float | None, Field(description="Its probability: `evidence.confidence`.")]
    status: Annotated[
        Status,
        Field(
            description="ok; late: published after its deadline; dropped: not inferred, it was too old or a newer one "
            "took its place; degraded: no answer, one from incomplete input, or one of another plan than the one that "
            "should have answered: see reasons."
        ),
    ]
    reasons: Annotated[list[str], Field(description="Why the status is not ok.")]
    backend: Annotated[str | None, Field(description="The back end that answered; null if none did.")]
    plan: Annotated[str | None, Field(description="The plan that answered; null if none did.")] = None
    parts: Annotated[
        list[PartRun] | None, Field(description="What each part of a hybrid took; null: the model has none.")
    ] = None
    model: Annotated[str, Field(description="Name and version of the bundle.")]
    source: Annotated[str, Field(description="Recording or camera.")]
    t_us: Annotated[int, Field(description="Sensor time of the decision: the window's end.")]
    first_spike_step: Annotated[
        int | None, Field(description="`first_spike.network_step`; null: no output neuron spiked by itself.")
    ]
    first_spike: Annotated[
        FirstSpike | None, Field(description="null: no inference, or its back end has no spikes.")
    ] = None
    energy: Annotated[
        DecisionEnergy | None, Field(description="What it cost; null: no inference, or energy.enabled is false.")
    ] = None
    window: WindowAnswer
    evidence: Evidence
    stamps: Stamps


class ProvisionalStamps(BaseModel):
    """When the window passed each stage until the provisional decision, in ns of `clock`."""

    model_config = ConfigDict(frozen=True)

    clock: Literal["monotonic", "virtual"]
    closed_ns: Annotated[int, Field(description="The window was complete.")]
    encoded_ns: Annotated[int, Field(description="It was encoded as spikes.")]
    spiked_ns: Annotated[int, Field(description="The back end had told of the first output spike.")]
    published_ns: Annotated[int, Field(description="The message was handed to ZeroMQ.")]


class Provisional(_Message):
    """What a window's first output spike says, ahead of its decision: topic `provisional`."""

    schema_: Annotated[Literal["firstspike.provisional/1"], Field(alias="schema")] = "firstspike.provisional/1"
    decision_seq: Annotated[int, Field(ge=0, description="`seq` of the decision that follows for the same window.")]
    label: Annotated[
        str, Field(description="The class that this window's first spike names; compare with `window.label`.")
    ]
    backend: Annotated[str, Field(description="The back end that answers.")]
    in_steps: Annotated[
        bool,
        Field(
            description="true: the back end runs step by step, and later steps were still to come; false: it had "
            "computed them all, and this message is ahead of the decision by the judging and composing of that alone."
        ),
    ]
    model: Annotated[str, Field(description="Name and version of the bundle.")]
    source: Annotated[str, Field(description="Recording or camera.")]
    t_us: Annotated[int, Field(description="Sensor time of the decision: the window's end.")]
    window_index: Annotated[int, Field(description="`window.index` of the decision that follows.")]
    events: Annotated[int, Field(description="Events that reached the model.")]
    first_spike: FirstSpike
    stamps: ProvisionalStamps


class Health(_Message):
    """How the daemon is: topic `health`, once a period and at start, run and stop."""

    schema_: Annotated[Literal["firstspike.health/1"], Field(alias="schema")] = "firstspike.health/1"
    state: Literal["starting", "running", "degraded", "stopping"]
    reasons: Annotated[list[str], Field(description="Why it is degraded.")]
    uptime_s: float
    version: Annotated[str, Field(description="firstspike's version.")]
    model: str
    labels: list[str]
    source: str
    counters: Counters
    backends: list[BackendHealth]
    config_generation: Annotated[int, Field(description="Counts the configurations of this run; the first is 1.")] = 1
    reloads: Annotated[int, Field(description="How often another configuration was asked for.")] = 0
    reload_error: Annotated[str | None, Field(description="Why the last of those was refused.")] = None


class Energy(_Message):
    """What a back end, or the whole machine, used within one energy window: topic `energy`."""

    schema_: Annotated[Literal["firstspike.energy/1"], Field(alias="schema")] = "firstspike.energy/1"
    subject: Annotated[Literal["host", "backend"], Field(description="The daemon's machine, or a plan on its meter.")]
    name: Annotated[str, Field(description="The plan; of the machine, `host`.")]
    method: Annotated[EnergyMethod, Field(description=METHOD)]
    scope: Annotated[str | None, Field(description="board, rail, chip, package or battery.")] = None
    meter: str | None = None
    what: Annotated[str | None, Field(description="In words, what the meter or the model has in it.")] = None
    clock: Literal["monotonic", "virtual"]
    start_ns: Annotated[int, Field(description="The window's start, of that clock.")]
    end_ns: int
    window_s: float
    n_samples: Annotated[int, Field(description="Readings in the window.")] = 0
    effective_hz: Annotated[float | None, Field(description="New values of the sensor a second.")] = None
    baseline_w: Annotated[float | None, Field(description="Power while nothing is inferred.")] = None
    baseline_u95_w: float | None = None
    total_j: Annotated[float | None, Field(description="Of the meter, whoever used it.")] = None
    total_u95_j: float | None = None
    dynamic_j: Annotated[float | None, Field(description="total_j less idle power; may be below 0.")] = None
    u95_j: Annotated[float | None, Field(description="Of dynamic_j, 95 %.")] = None
    inferences: Annotated[int, Field(description="Answers in the window.")] = 0
    latency_ms: Annotated[float | None, Field(description="Mean of them; null: there are none, or virtual.")] = None
    classification: ClassificationEnergy | None = None
    modelled_j: Annotated[float | None, Field(description="By the operation model, mean of one inference.")] = None
    since_start: EnergySoFar
    reason: Annotated[str | None, Field(description="Why something above is null, or what is not in it.")] = None

    def is_of(self, other: Energy) -> bool:
        """Whether both are about the same thing."""
        return (self.stream, self.subject, self.name) == (other.stream, other.subject, other.name)


class StreamState(BaseModel):
    """The last messages of one of several streams."""

    model_config = ConfigDict(frozen=True)

    decision: Annotated[Decision | None, Field(description="The last one, or null.")] = None
    health: Annotated[Health | None, Field(description="The last one, or null.")] = None


class Snapshot(BaseModel):
    """Reply of the snapshot socket: the state for whoever joins late."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_: Annotated[Literal["firstspike.snapshot/1"], Field(alias="schema")] = "firstspike.snapshot/1"
    epoch: str
    next_seq: Annotated[
        dict[str, int], Field(description="The next `seq` of each topic; of a stream's as `decision.NAME`.")
    ]
    decision: Annotated[Decision | None, Field(description="The last one, or null.")]
    health: Annotated[Health | None, Field(description="The last one, or null.")]
    energy: Annotated[list[Energy], Field(description="The last one of the machine and of each plan.")] = []
    streams: Annotated[dict[str, StreamState], Field(description="By name, where the daemon has several.")] = {}


M = TypeVar("M", bound=BaseModel)


def to_plain(message: BaseModel) -> dict[str, Any]:
    """The message as plain values, field names as on the wire."""
    return message.model_dump(by_alias=True)


def encode(message: BaseModel) -> bytes:
    """The message's bytes on the wire: the same message always gives the same bytes."""
    packed: bytes = msgpack.packb(to_plain(message), use_bin_type=True)
    return packed


def decode(payload: bytes, model: type[M]) -> M:
    """Read a message from the wire.

    Raises:
        DataError: it is no valid message of that model; the text names the first fault.
    """
    if len(payload) > MAX_MESSAGE_BYTES:
        raise DataError(f"a message of {len(payload)} bytes: more than {MAX_MESSAGE_BYTES}")
    try:
        return model.model_validate(msgpack.unpackb(payload, raw=False, strict_map_key=True))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"not a {model.__name__} message: {where}: {first['msg']}") from None
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise DataError(f"not a {model.__name__} message: {error!s:.200}") from None
