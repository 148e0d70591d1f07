"""Numbers in the kernel's files, read through descriptors that stay open, and the two sorts of meter made of them."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from firstspike.energy import Kind, Reading, Scope, Unavailable

AGAIN_NS = 1_000_000_000
"""A file that could not be opened is tried again after so long."""
IMPLAUSIBLE_W = 20_000.0
"""A counter that went back and would have counted faster than this was set back: it did not wrap around."""

_GONE = frozenset((errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.ENXIO, errno.ESTALE, errno.EBADF))


_NUMBERED = re.compile(r"(hwmon|iio:device)\d+")


def text(path: Path) -> str:
    """What a small file says, without the space around it; empty if it cannot be read."""
    try:
        with path.open("rb", buffering=0) as file:
            return (file.read(256) or b"").decode("utf-8", "replace").strip("\0 \t\r\n")
    except OSError:
        return ""


def refused(path: Path, error: OSError, permission: str = "") -> Unavailable:
    """Why a file gives no number.

    Args:
        path: which file.
        error: what the kernel said.
        permission: what the user can do if it is not allowed.
    """
    if error.errno in (errno.EACCES, errno.EPERM):
        return Unavailable(f"{path}: may not be read", permission or "give the user that runs it permission to read it")
    if error.errno == errno.ENODATA:
        return Unavailable(f"{path}: has no value: the channel is switched off")
    if error.errno in _GONE:
        return Unavailable(f"{path}: the sensor is gone", "attach it again, or load its driver")
    said = os.strerror(error.errno) if error.errno else str(error)
    return Unavailable(f"{path}: the sensor does not answer: {said}", "see the kernel's log (dmesg)")


def forbidden(path: Path, permission: str = "") -> Unavailable | None:
    """Why a file may not be read; None if it may, or is not there."""
    if os.access(path, os.R_OK) or not path.exists():
        return None
    return refused(path, PermissionError(errno.EACCES, ""), permission)


def _place_now(path: Path, chip: str) -> Path:
    """Where a chip's file is now: one that went away comes back under another number, and another chip under its own.

    Args:
        path: where it was, below the chip's device.
        chip: its name, by its file `name`.

    Raises:
        FileNotFoundError: it is not there, or nobody knows which of several it is.
    """
    folder = path.parent
    if text(folder / "name") == chip:
        return path
    others = folder.parent.glob(folder.name.rstrip("0123456789") + "[0-9]*")
    now = [one / path.name for one in others if text(one / "name") == chip]
    if len(now) != 1:
        raise FileNotFoundError(errno.ENOENT, "")
    return now[0]


class File:
    """A file that is read again and again.

    Args:
        path: which; of a chip in hwmon or iio below its device, not below the class, whose numbers are given anew.
        permission: what the user can do if it may not be read.
    """

    __slots__ = ("_chip", "_fd", "_refused", "_until_ns", "path", "permission")

    def __init__(self, path: Path, permission: str = "") -> None:
        self.path = path
        self.permission = permission
        self._chip = text(path.parent / "name") if _NUMBERED.fullmatch(path.parent.name) else ""
        self._fd = -1
        self._refused: Unavailable | None = None
        self._until_ns = 0

    def raw(self) -> bytes | Unavailable:
        """What it holds now, its first 64 bytes."""
        fd = self.descriptor()
        if isinstance(fd, Unavailable):
            return fd
        try:
            return os.pread(fd, 64, 0)
        except OSError as error:
            return self.failed(error)

    def descriptor(self) -> int | Unavailable:
        """It, open."""
        if self._fd < 0:
            unavailable = self._open()
            if unavailable is not None:
                return unavailable
        return self._fd

    @property
    def closed(self) -> bool:
        """There is no descriptor."""
        return self._fd < 0

    def failed(self, error: OSError) -> Unavailable:
        """Why reading it failed."""
        if error.errno in _GONE:
            self.close()  # the same path may be another sensor's when it comes back
        return refused(self.path, error, self.permission)

    def _open(self) -> Unavailable | None:
        now = time.monotonic_ns()
        if self._refused is not None and now < self._until_ns:
            return self._refused
        try:
            if self._chip:
                self.path = _place_now(self.path, self._chip)
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            self._refused, self._until_ns = refused(self.path, error, self.permission), now + AGAIN_NS
            return self._refused
        self._refused = None
        return None

    def close(self) -> None:
        """Let the descriptor go; the next read opens it anew."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Number(File):
    """A file that holds a whole number."""

    __slots__ = ()

    def value(self, raw: bytes | Unavailable) -> int | Unavailable:
        """The number that it held."""
        if isinstance(raw, Unavailable):
            return raw
        try:
            return int(raw)
        except ValueError:
            return Unavailable(f"{self.path}: holds {raw[:40]!r}, which is no number", "see its driver's documentation")


class Word(File):
    """A file that holds a word."""

    __slots__ = ()

    def value(self, raw: bytes | Unavailable) -> str:
        """The word that it held; empty if it could not be read."""
        return "" if isinstance(raw, Unavailable) else raw.decode("utf-8", "replace").strip("\0 \t\r\n")


class Product:
    """Numbers times each other times a factor: a power from millivolts and milliamperes.

    Args:
        numbers: one or more.
        factor: from the product to W or J.
    """

    __slots__ = ("factor", "numbers")

    def __init__(self, numbers: Sequence[Number], factor: float) -> None:
        self.numbers = tuple(numbers)
        self.factor = factor

    def value(self, raws: Iterator[bytes | Unavailable]) -> float | Unavailable:
        """The product of what its files held, which come next in `raws`."""
        product = 1
        for number in self.numbers:
            value = number.value(next(raws))
            if isinstance(value, Unavailable):
                return value
            product *= value
        return product * self.factor


class FileMeter:
    """A meter that needs nothing but what some files hold, so that a thread without Python can read them.

    Args:
        files: in the order in which they are read.
    """

    def __init__(self, files: Sequence[File]) -> None:
        self.files = tuple(files)

    def read(self) -> Reading | Unavailable:
        """See `Meter`."""
        before = time.monotonic_ns()
        raws = [file.raw() for file in self.files]
        return self.of(raws, (before + time.monotonic_ns()) // 2)

    def of(self, raws: Sequence[bytes | Unavailable], t_ns: int) -> Reading | Unavailable:
        """What it means.

        Args:
            raws: what each file held, or why it could not be read; in order of time from one call to the next.
            t_ns: the middle of the time in which they were read.
        """
        raise NotImplementedError

    def begin(self) -> None:
        """What was read before is not to be compared with what is read from now on."""

    def close(self) -> None:
        """See `Meter`."""
        for file in self.files:
            file.close()


class PowerMeter(FileMeter):
    """A power: a sum of products. The sum is read one after the other, and is unavailable if any of them is."""

    kind: Kind = "power"

    def __init__(
        self, name: str, what: str, scope: Scope, products: Sequence[Product], *, resolution: float = 0.0,
        u95_fraction: float | None = None,
    ) -> None:  # fmt: skip
        self.name, self.what, self.scope = name, what, scope
        self.resolution, self.u95_fraction = resolution, u95_fraction
        self._products = tuple(products)
        super().__init__([number for product in products for number in product.numbers])

    def of(self, raws: Sequence[bytes | Unavailable], t_ns: int) -> Reading | Unavailable:
        """See `FileMeter`."""
        each, total = iter(raws), 0.0
        for product in self._products:
            value = product.value(each)
            if isinstance(value, Unavailable):
                return value
            total += value
        return Reading(t_ns, total)


class Counted:
    """One counter of energy, unwrapped: it starts at 0 and never falls.

    A counter that falls has wrapped around if it has a range and the energy that this would mean is plausible. Else it
    was set back (suspend, a driver that was loaded anew), nobody knows how much it would have counted, and that one
    reading is unavailable. So it is after a time in which it may have wrapped around unseen, as when the process was
    stopped: more than one wrap between two readings cannot be told from one.

    Args:
        number: the counter.
        factor: J a count.
        range_: counts after which it is 0 again; None: it never wraps.
    """

    __slots__ = ("_base", "_last", "_last_ns", "factor", "number", "range_")

    def __init__(self, number: Number, factor: float, range_: int | None) -> None:
        self.number, self.factor, self.range_ = number, factor, range_
        self._last: int | None = None
        self._last_ns = 0
        self._base = 0

    def value(self, held: bytes | Unavailable, now_ns: int) -> float | Unavailable:
        """J since the first reading, by what its file held."""
        raw = self.number.value(held)
        if isinstance(raw, Unavailable):
            return raw
        last, elapsed_s = self._last, (now_ns - self._last_ns) / 1e9
        self._last, self._last_ns = raw, now_ns
        if last is None:
            self._base -= raw
        elif self.range_ is not None and self.range_ * self.factor <= IMPLAUSIBLE_W * elapsed_s:
            self._base += last - raw
            return Unavailable(f"{self.number.path}: not read for {elapsed_s:.0f} s: it may have wrapped around unseen")
        elif raw < last:
            wrapped = raw + (self.range_ or 0) - last
            if self.range_ is None or not 0 <= wrapped * self.factor <= IMPLAUSIBLE_W * elapsed_s:
                self._base += last - raw
                return Unavailable(f"{self.number.path}: the counter was set back, from {last} to {raw}")
            self._base += self.range_
        return (self._base + raw) * self.factor

    def leave_out(self) -> None:
        """Let it stand still until the next reading: nobody wants to know what it counts meanwhile."""
        if self._last is not None:
            self._base += self._last
            self._last = None


class CounterMeter(FileMeter):
    """A counter of energy, or the sum of several that have nothing in common."""

    kind: Kind = "counter"

    def __init__(
        self, name: str, what: str, scope: Scope, counters: Sequence[Counted], *, resolution: float = 0.0,
        u95_fraction: float | None = None,
    ) -> None:  # fmt: skip
        self.name, self.what, self.scope = name, what, scope
        self.resolution, self.u95_fraction = resolution, u95_fraction
        self._counters = tuple(counters)
        super().__init__([counter.number for counter in counters])

    def begin(self) -> None:
        """See `FileMeter`."""
        for counter in self._counters:
            counter.leave_out()

    def of(self, raws: Sequence[bytes | Unavailable], t_ns: int) -> Reading | Unavailable:
        """See `FileMeter`."""
        total = 0.0
        unavailable = None
        for counter, raw in zip(self._counters, raws, strict=True):
            value = counter.value(raw, t_ns)
            if isinstance(value, Unavailable):
                unavailable = value  # the others go on all the same, or they could wrap unseen
            else:
                total += value
        return unavailable or Reading(t_ns, total)
