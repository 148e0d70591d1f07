"""A worker that starts when it is first needed: so that a configuration can be checked without starting any."""

from __future__ import annotations

import threading
from collections.abc import Callable

from firstspike.types import Condition
from firstspike.worker.supervisor import Supervisor


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

    @property
    def supervisor(self) -> Supervisor:
        """Looks after the worker, which from now on is there or on its way."""
        if self._supervisor is None:
            with self._once:
                if self._supervisor is None:
                    self._supervisor = self._start()
        return self._supervisor

    def condition(self) -> Condition:
        """See `Backend.condition`."""
        return self.supervisor.condition

    def close(self) -> None:
        """End the worker, if there is one."""
        if self._supervisor is not None:
            self._supervisor.close()
