"""A worker that starts when it is first needed: so that a configuration can be checked without starting any."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.types import Condition
from firstspike.worker.supervisor import Supervisor, WorkerError


class Held:
    """What the daemon's views of a worker share: `WorkerBackend`, and the parts of a hybrid.

    Args:
        name: of the section, `[backend.NAME]`.
        start: makes the supervisor, which starts the worker; called once, when its state or an answer is asked for.
    """

    def __init__(self, name: str, start: Callable[[], Supervisor]) -> None:
        self.name = name
        self._start = start
        self._supervisor: Supervisor | None = None
        self._once = threading.Lock()
        self._closed = False
        self.link_s: float | None = None
        """What of `ask`'s last answer the way to the worker and back took, s; None: there was none."""

    @property
    def supervisor(self) -> Supervisor:
        """Looks after the worker, which from now on is there or on its way.

        Raises:
            WorkerError: it was closed before anybody asked, and nobody would end what is started now.
        """
        if self._supervisor is None:
            with self._once:
                if self._closed:
                    raise WorkerError(f"{self.name}: closed")
                if self._supervisor is None:
                    self._supervisor = self._start()
        return self._supervisor

    def ask(self, given: NDArray[np.uint8], within_s: float) -> dict[str, NDArray[Any]]:
        """The worker's answer to an array, within so many seconds.

        Raises:
            WorkerError: there is none.
        """
        began, self.link_s = time.monotonic(), None
        answer = self.supervisor.infer(given, began + within_s)
        self.link_s = max(0.0, time.monotonic() - began - answer.device_s)
        return answer.arrays

    def condition(self) -> Condition:
        """See `Backend.condition`."""
        try:
            return self.supervisor.condition
        except WorkerError as error:
            return Condition("failed", str(error))

    def close(self) -> None:
        """End the worker, if there is one."""
        with self._once:
            self._closed = True
        if self._supervisor is not None:
            self._supervisor.close()
