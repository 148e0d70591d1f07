"""Who answers: one file a back end, found by its name in `[backend] kind`.

A back end module offers `Options` (the keys of `[backend.<kind>]`) and `create(options, bundle) -> Backend`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from firstspike.bundle import Bundle
from firstspike.types import Inference, Spikes


class Backend(Protocol):
    """Answers windows, one at a time."""

    name: str

    def infer(self, spikes: Spikes) -> Inference:
        """Run the network on one window; a failure is a value with its reason, never an exception nor a zero."""

    def close(self) -> None:
        """Let go of what it holds."""


@runtime_checkable
class SteppingBackend(Backend, Protocol):
    """A back end that runs step by step, and so can tell of the first output spike before it has finished."""

    def infer_in_steps(self, spikes: Spikes, early: Callable[[Inference], None]) -> Inference:
        """As `infer`, and call `early` at most once, as soon as the class of the first spike is known.

        What `early` gets has `frame.last` for the neurons that have not spiked yet, and potentials that are complete
        from `frame.end` on: those before say nothing, and nothing is asked of them (`anytime`). It returns quickly;
        what it raises ends the run and must be let through.
        """


class BackendModule(Protocol):
    """What a file in this folder offers."""

    Options: type[BaseModel]

    def create(self, options: BaseModel, bundle: Bundle) -> Backend:
        """Load the bundle.

        Raises:
            BundleError: this back end cannot run it; the text says why.
            UnavailableError: what it needs is not there.
        """
