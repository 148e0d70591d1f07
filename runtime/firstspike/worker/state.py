"""What a worker may take and what it answers; how it stands is `types.Condition`, like that of any back end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


class WorkerError(Exception):
    """This window has no answer from this worker; the text is the reason."""


@dataclass(frozen=True)
class Limits:
    """Times that a worker may take, in seconds, and how often it may fail."""

    start_s: float = 60.0
    """From the start of the process until the network is loaded."""
    hang_s: float = 2.0
    """Of one answer; then the worker is killed."""
    restarts: int = 5
    """Restarts within `period_s` that are made at once; then the worker rests."""
    period_s: float = 60.0
    rest_s: float = 30.0
    """Rest between restarts of a worker that fails again and again."""
    look_s: float = 10.0
    """Between looks for a device that is absent."""
    ping_s: float = 1.0
    """Between signs of life that are asked of an idle worker. One that was stopped while idle is busy at the latest
    after this, and killed `hang_s` later."""


@dataclass(slots=True)
class Answer:
    """A worker's answer to one window."""

    arrays: dict[str, NDArray[Any]]
    """Read-only."""
    device_s: float
    """Seconds that the driver took, by the worker's own clock."""
    link_bytes: int
    """Bytes of the request and the reply."""
