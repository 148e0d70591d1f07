"""A start for a new back end: copy it to `<kind>.py` beside it and name it in `schedule.plans`. Nothing else changes.

It works as it stands: a back end whose device is never there. A vendor's SDK must not be imported here: it belongs in
a process of its own.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from firstspike.bundle import Bundle
from firstspike.types import Condition, Inference, Spikes


class Options(BaseModel):
    """`[backend.<kind>]`: every key with its type, limits and default. `forbid` makes a misspelt key an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str = "none"


class AbsentBackend:
    """Answers every window with the reason why there is no answer."""

    def __init__(self, options: Options, bundle: Bundle, name: str) -> None:
        self.name = name
        # Load bundle.path("ttfs") or bundle.path("ann") here; BundleError if this back end cannot run it.
        self._reason = f"device {options.device!r} is not there for model {bundle.manifest.name}"

    def infer(self, spikes: Spikes, within_s: float = 0.0) -> Inference:
        """Answer one window.

        Potentials are int32 of shape (classes,), in the order of the manifest's labels. A back end that has spikes says
        with them when its output layer works (`frame=`). A failure is a value with its reason: never an exception, and
        never zeros.
        """
        del spikes, within_s
        return Inference(self.name, potential=None, first_spike=None, failure=self._reason)

    def condition(self) -> Condition:
        """See `Backend.condition`."""
        return Condition("absent", self._reason)

    def close(self) -> None:
        """Called once, at the end."""


def create(options: Options, bundle: Bundle, name: str) -> AbsentBackend:
    """Make the back end ready to answer."""
    return AbsentBackend(options, bundle, name)
