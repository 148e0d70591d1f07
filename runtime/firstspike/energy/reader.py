"""Reads a meter's files in a native thread, and makes readings of what they held when somebody asks.

A Python thread that wakes up 100 times a second takes 1 % of a core and more: caches gone cold, the interpreter's lock,
a meter's few dozen lines. So the thread is C++ (runtime/native/sample.cpp): it keeps the bytes that each file held, or
the error, with the times before and after. What they mean is found here, in batches, by the same lines as ever
(`FileMeter.of`): a counter's wraps, words that are no numbers, sensors that are gone. Reading the meter's files by hand
at those times would have given the same, but for a file that is opened anew only when the batch is taken.
"""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Iterator

import numpy as np

from firstspike.energy import Reading, Unavailable
from firstspike.energy.sensors._files import File, FileMeter
from firstspike.native import library, pointer

FILE = np.dtype([("length", np.int32), ("bytes", "S28")])
"""`fs_sample_file` of runtime/native/firstspike.h."""
BATCH = 256


class Reader:
    """Reads one meter from when it is made until it is closed; to be asked by one thread at a time.

    Args:
        meter: open; nobody else reads it meanwhile.
        interval_s: between two readings.
        room: readings that are kept until they are taken.

    Raises:
        OSError: no thread or no memory could be had.
    """

    def __init__(self, meter: FileMeter, interval_s: float, room: int) -> None:
        self.meter = meter
        self._library = library()
        self._batch = np.zeros(BATCH, [("before", np.int64), ("after", np.int64), ("files", FILE, len(meter.files))])
        self._refused: list[Unavailable | None] = [None] * len(meter.files)
        self._sampler = self._library.fs_sampler_new(len(meter.files), room, round(interval_s * 1e9))
        if not self._sampler:
            raise OSError(errno.ENOMEM, f"{len(meter.files)} files cannot be sampled {1 / interval_s:g} times a second")
        for place, file in enumerate(meter.files):
            self._open(place, file)
        if self._library.fs_sampler_start(self._sampler):
            self.close()
            raise OSError(errno.EAGAIN, "no thread could be had to sample a meter")

    def every(self, interval_s: float) -> None:
        """Change the time between two readings."""
        self._library.fs_sampler_interval(self._sampler, round(interval_s * 1e9))

    def take(self) -> Iterator[tuple[int, Reading | Unavailable]]:
        """What was read since the last call, each with its time in ns; a gap is one that is unavailable."""
        lost = ctypes.c_int64()
        n = BATCH
        while n == BATCH:
            n = self._library.fs_sampler_take(self._sampler, pointer(self._batch), BATCH, ctypes.byref(lost))
            batch = self._batch[:n]
            lengths = batch["files"]["length"]
            t_ns = (batch["before"] + (batch["after"] - batch["before"]) // 2).tolist()
            held = batch["files"]["bytes"].tolist()
            if lost.value:
                yield t_ns[0] - 1, Unavailable(f"{lost.value} readings were lost: nobody took them in time")
            failed = set(np.flatnonzero((lengths < 0).any(axis=1)).tolist())
            for index, (at, raws) in enumerate(zip(t_ns, held, strict=True)):
                if index in failed:
                    yield at, self.meter.of(list(map(self._raw, range(len(raws)), lengths[index].tolist(), raws)), at)
                else:
                    yield at, self.meter.of(raws, at)
        for place, file in enumerate(self.meter.files):
            if file.closed:
                self._open(place, file)

    def _raw(self, place: int, length: int, raw: bytes) -> bytes | Unavailable:
        if length >= 0:
            return raw
        unopened = self._refused[place]
        if length == -errno.EBADF and unopened is not None:
            return unopened
        return self.meter.files[place].failed(OSError(-length, ""))

    def _open(self, place: int, file: File) -> None:
        fd = file.descriptor()
        if isinstance(fd, Unavailable):
            self._refused[place] = fd
            fd = -1  # nor is the one kept of a sensor that is gone
        if self._library.fs_sampler_file(self._sampler, place, fd):
            self._refused[place] = Unavailable(f"{file.path}: no descriptor could be had to read it by")
            file.close()  # to be tried again

    def close(self) -> None:
        """End the thread, and let its descriptors go; the meter stays open."""
        if self._sampler:
            self._library.fs_sampler_free(self._sampler)
            self._sampler = None
