"""Between the pipeline and whoever answers: the place where another answerer takes over between two windows."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import TracebackType

from firstspike.answer import Due
from firstspike.bundle import InputSpec
from firstspike.encode_frames import WindowEncoder, encoder_for
from firstspike.handover import Handover


class Switch:
    """A handover whose far side can be changed while windows come in; see `handover.Handover`.

    Args:
        handover: the first.
        spec: of the model's input, for which the pipeline makes encoders.
    """

    def __init__(self, handover: Handover, spec: InputSpec) -> None:
        self._handover = handover
        self._pipelines_spec = self._spec = spec
        self._encoders: tuple[WindowEncoder, WindowEncoder] | None = None
        """The pipeline's of the current segment, and ours in its place."""
        self._turn = threading.Condition()
        self._wanted = self._held = False
        """Somebody waits to hold it; it is held."""
        self._fault: BaseException | None = None
        self._open = False

    @property
    def broken(self) -> bool:
        """Whether the far side raised at its end; the pipeline is told with its next window."""
        return self._fault is not None

    def put(self, due: Due) -> None:
        """See `Handover.put`."""
        with self._turn:
            self._turn.wait_for(self._free)
            if self._fault is not None:
                raise self._fault
            self._handover.put(self._fitted(due))

    def _free(self) -> bool:
        return not (self._wanted or self._held)

    def _fitted(self, due: Due) -> Due:
        if self._spec == self._pipelines_spec:
            return due
        if self._encoders is None or self._encoders[0] is not due.encoder:
            self._encoders = due.encoder, encoder_for(self._spec, *due.encoder.sensor)
        return replace(due, encoder=self._encoders[1])

    def hold(self) -> bool:
        """Let what was put be answered, and windows that come from now on wait until `go_on`.

        Returns:
            False if the pipeline does not run: there is nothing to hold.
        """
        self._wanted = True  # before the lock, which the pipeline would else take again and again
        with self._turn:
            try:
                if not self._open or self._fault is not None:
                    return False
                try:
                    self._handover.__exit__(None, None, None)
                except BaseException as error:  # noqa: BLE001 (raised again in the reader's thread)
                    self._fault = error
                    return False
                self._held = True
                return True
            finally:
                self._wanted = False
                self._turn.notify_all()

    def go_on(self, handover: Handover, spec: InputSpec) -> None:
        """Let another take over, after `hold`.

        Args:
            handover: the next.
            spec: of its model's input.
        """
        with self._turn:
            self._handover, self._spec, self._encoders = handover, spec, None
            try:
                self._handover.__enter__()
            except BaseException as error:  # noqa: BLE001 (raised again in the reader's thread, which must not wait on)
                self._fault = error
            self._held = False
            self._turn.notify_all()

    def __enter__(self) -> Switch:
        with self._turn:
            self._handover.__enter__()
            self._open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        with self._turn:
            self._turn.wait_for(lambda: not self._held)
            self._open = False
            if self._fault is None:
                self._handover.__exit__(kind, error, trace)
            elif kind is None:
                raise self._fault
