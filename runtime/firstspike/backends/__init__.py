"""Who answers: one file a back end, found by its name in `[backend] kind`.

A back end module offers `Options` (the keys of `[backend.<kind>]`) and `create(options, bundle) -> Backend`.
"""

from __future__ import annotations

from typing import Protocol

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


class BackendModule(Protocol):
    """What a file in this folder offers."""

    Options: type[BaseModel]

    def create(self, options: BaseModel, bundle: Bundle) -> Backend:
        """Load the bundle.

        Raises:
            BundleError: this back end cannot run it; the text says why.
            UnavailableError: what it needs is not there.
        """
