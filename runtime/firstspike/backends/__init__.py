"""Who answers: one file a back end, found by the name that `schedule.plans` or `kind` in `[backend.NAME]` gives.

A file here offers either `Options` (the keys of its section) and `create(options, bundle, name) -> Backend`, and runs
in the daemon; or `Driver` and what goes with it (`_template_worker.py`), and runs in a worker: all that needs an SDK.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from pydantic import BaseModel

from firstspike.bundle import Bundle
from firstspike.types import Condition, Inference, Spikes


class Backend(Protocol):
    """Answers windows, one at a time."""

    name: str

    def infer(self, spikes: Spikes, within_s: float) -> Inference:
        """Run the network on one window; a failure is a value with its reason, never an exception nor a zero.

        Args:
            spikes: the window.
            within_s: seconds from now that an answer may take; a back end that computes in the daemon takes what it
                needs.
        """

    def condition(self) -> Condition:
        """How it stands now; quick, and from any thread."""

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

    def create(self, options: BaseModel, bundle: Bundle, name: str) -> Backend:
        """Load the bundle.

        Args:
            options: valid ones.
            bundle: the model.
            name: what the back end is called in messages.

        Raises:
            BundleError: this back end cannot run it; the text says why.
            UnavailableError: what it needs is not there.
        """
