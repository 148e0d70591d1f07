"""The seams: what one room hands to the next. Data flows one way, source to publisher.

    source --EVENT arrays--> window --Window--> encode --Spikes--> back end --Inference--> decide --> message

Every record is frozen; arrays are not to be written to by whoever receives them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

EVENT = np.dtype(
    {"names": ["t", "x", "y", "p"], "formats": ["<i8", "<u2", "<u2", "u1"], "offsets": [0, 8, 10, 12], "itemsize": 16}
)
"""One event: `t` µs (int64, the sensor's clock), `x` and `y` pixels from the upper left corner (uint16), `p` 1 for ON
(brighter) and 0 for OFF (uint8). 16 bytes with 3 of padding, so that native code loads one event at a time."""

_WHOLE = np.dtype((np.void, EVENT.itemsize))

Events = NDArray[np.void]
"""A one-dimensional C-contiguous array of dtype `EVENT`, aligned to 8 bytes: native code reads it."""


def join(parts: Sequence[Events]) -> Events:
    """Concatenate arrays of `EVENT`; `numpy.concatenate` would drop the padding and give another dtype."""
    if not parts:
        return np.empty(0, EVENT)
    # Seen as 16 opaque bytes each, events are copied whole instead of field by field.
    return np.concatenate([part.view(_WHOLE) for part in parts]).view(EVENT)


def pick(events: Events, mask: NDArray[np.bool_] | None = None) -> Events:
    """A copy of the events, or of those where `mask` is True: whole events, not field by field as NumPy would."""
    whole = events.view(_WHOLE)
    return (whole.copy() if mask is None else whole[mask]).view(EVENT)


@dataclass(frozen=True, slots=True)
class RecordingInfo:
    """What a recording says of itself before its events are read."""

    format: str
    """`aedat2`, `aedat3`, `aedat4`, `evt2`, `evt2.1`, `evt3`, `dat`, `es`, `atis`, `csv`, `npz`, `rosbag1` or
    `rosbag2`."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    geometry_from: str
    """Where width and height come from: `header`, `sensor` (the sensor's known size), `given` (by the user),
    `convention` (fixed by the format's data set) or `events` (one more than the largest coordinate in a first pass)."""
    sensor: str | None = None
    """The sensor's or camera's name as the file gives it, or None."""
    notes: tuple[str, ...] = ()
    """What a user should know, such as streams that are ignored."""


@dataclass(frozen=True, slots=True)
class RecordingStats:
    """What a recording turned out to hold; known at its end."""

    events: int
    bytes_read: int
    truncated_bytes: int
    """Bytes at the end that make up no whole event."""
    notes: tuple[str, ...]
    """Sentences for the user: what was ignored, what was assumed."""


@dataclass(frozen=True, slots=True)
class Window:
    """The events of one window, and what went wrong while it was filled.

    The counts cover what happened since the previous window was handed out, so their sums over all windows
    are exact totals.
    """

    index: int
    """0, 1, 2 … within a stream. Empty windows are not handed out but count: a gap in the index is a silence."""
    t_start_us: int
    """First µs of the window (sensor clock)."""
    t_end_us: int
    """First µs after the window."""
    events: Events
    """Events with t_start_us ≤ t < t_end_us for time windows; in order of arrival."""
    backward: int = 0
    """Events whose timestamp was below the largest seen so far."""
    late: int = 0
    """Events dropped because every window they belong to was closed already."""
    overflow: int = 0
    """Events dropped because the window was full (`window.max_events`)."""
    resets: int = 0
    """Times the sensor's clock jumped back by more than `window.reset_us`: a new time base began."""
    partial: bool = False
    """The stream or its time base ended before the window was complete."""


@dataclass(frozen=True, slots=True)
class Spikes:
    """A window encoded as one spike a pixel and channel: the network's input."""

    steps: int
    """T: the number of time steps of the input code."""
    times: NDArray[np.uint8]
    """Shape (channels, height, width): the step 0..T at which the pixel spikes; T carries no information."""
    n_events: int
    """Events that fell onto a pixel of the model."""
    out_of_bounds: int = 0
    """Events outside the sensor's stated geometry: dropped."""
    cropped: int = 0
    """Events inside the sensor but outside the model's field of view: dropped."""
    frames: NDArray[np.uint8] | None = None
    """Shape (steps, channels, height, width): 1 where the pixel had an event in that step. For models that take binary
    frames; `times` is empty then. None for all others."""
    active: int | None = None
    """How many of the input's neurons spike in the window; None: nobody has counted them."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A layer's time, in global steps: input phase `start` ≤ t < `end`, and `last`, when whoever is silent must spike.

    An input that spikes at s has the activation `end` − s, an output that spikes at s the activation `last` − s: a
    spike at `last` is the rectifier's and carries no information.
    """

    start: int
    end: int
    last: int


@dataclass(frozen=True, slots=True)
class PartRun:
    """What one part of a hybrid took for one window."""

    part: Literal["front", "back"]
    backend: str
    """Who ran it."""
    ns: int
    """From handing it its input until its output was there, the way to a worker and back included; the front's with
    the accumulator."""
    link_bytes: int | None
    """What it hands on to the next part; None: it is the last one."""
    spikes: int | None
    """That are counted in what it hands on, or that decide; None: it has none."""
    link_ns: int | None = None
    """Of `ns`, the way to its worker and back; None: it has no worker."""


@dataclass(frozen=True, slots=True)
class Inference:
    """A back end's answer to one `Spikes`, or why there is none."""

    backend: str
    """Name of the back end that answered."""
    potential: NDArray[np.int32] | None
    """Shape (classes,): membrane potentials of the output layer at the end of its input phase. None on failure."""
    first_spike: NDArray[np.int32] | None
    """Shape (classes,): step at which each output neuron fired, counted from the start of inference; `frame.last` for
    those that only the rectifier made fire. None on failure, and from a back end that has no spikes."""
    failure: str | None = None
    """Why there is no answer; None if there is one."""
    frame: Frame | None = None
    """When the output layer works: what `first_spike` is read against (`anytime`). None where there are no spikes."""
    parts: tuple[PartRun, ...] = ()
    """What each part of a hybrid took; empty for a TTFS network."""


State = Literal["starting", "ready", "busy", "failed", "backing-off", "absent"]


@dataclass(frozen=True, slots=True)
class Condition:
    """How a back end stands."""

    state: State
    reason: str | None = None
    """Why it is not ready; None if it is."""
    fix: str | None = None
    """What the user can do, one sentence, where that is known."""
    restarts: int = 0
    """How often its worker was started again."""
    pid: int | None = None
    """Its worker's process, if it has one."""


READY = Condition("ready")
