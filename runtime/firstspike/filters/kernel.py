"""The native filters: equal to `definition` in every event, one pass over the packed events."""

from __future__ import annotations

import weakref
from ctypes import c_int64

import numpy as np

from firstspike.errors import DataError, UnavailableError
from firstspike.filters.definition import MAX_TIME_US, REASONS, Places, Rules, check_sensor
from firstspike.native import library, pointer
from firstspike.types import EVENT, Events


class Kernel:
    """Filters a stream. For one thread at a time.

    Args:
        rules: what to drop.
        width, height: of the sensor, pixels.
        places: where each pixel's events go; None: they stay.

    Raises:
        DataError: the sensor is too large, or the table is not its own.
        UnavailableError: the native library or memory is missing.
    """

    def __init__(self, rules: Rules, width: int, height: int, places: Places | None = None) -> None:
        check_sensor(width, height, places)
        lib = library()
        handle = lib.fs_filter_new(
            width, height, rules.refractory_us, int(rules.by_polarity), rules.background_us, rules.support,
            rules.back_us,
        )  # fmt: skip
        if not handle:
            raise UnavailableError(f"no memory for filters of {width}×{height} pixels")
        weakref.finalize(self, lib.fs_filter_free, handle)
        self._handle, self._lib = handle, lib
        self._size = (width, height)
        self._counts = (c_int64 * len(REASONS))()
        self._room = np.empty(0, EVENT)
        if places is not None:
            self.set_places(places)

    def set_places(self, places: Places) -> None:
        """Take another table, from the next event on.

        Raises:
            DataError: it is not the sensor's, or holds a reason that there is not.
        """
        check_sensor(*self._size, places)
        if self._lib.fs_filter_places(self._handle, np.ascontiguousarray(places).ctypes.data):
            raise DataError("a table of places that holds neither places nor reasons")

    @property
    def counts(self) -> list[int]:
        """Events dropped so far, in the order of `definition.REASONS`."""
        return list(self._counts)

    def apply(self, events: Events) -> Events:
        """The events that pass, in memory that the next call uses again.

        Args:
            events: any length, in any order; not written to.

        Raises:
            DataError: events of another dtype, or a timestamp that cannot be a time.
        """
        if events.dtype != EVENT or events.ndim != 1:
            raise DataError(f"events are {events.dtype} of shape {events.shape}, must be one dimension of types.EVENT")
        if not events.flags.c_contiguous:
            events = np.ascontiguousarray(events)
        if len(self._room) < len(events):
            self._room = np.empty(len(events), EVENT)
        kept = self._lib.fs_filter_run(self._handle, pointer(events), len(events), pointer(self._room), self._counts)
        if kept < 0:
            raise DataError(f"a timestamp beyond ±{MAX_TIME_US} µs: the recording is corrupt")
        return self._room[:kept]
