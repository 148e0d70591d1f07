"""The worker's end of the link: one file, standard library and NumPy, Python 3.6 or newer.

It is sent to the worker's interpreter on standard input (see `start`), so nothing has to be installed where the worker
runs but the SDK: under another Python, in a container, or on another host through ssh. Frames come in on descriptor 0
and leave on descriptor 1, which the shim keeps for itself: what an SDK prints goes to standard error.

A frame is a header (`HEADER`), `meta` (a JSON object) and a body of bytes. Arrays lie in the body one after another in
C order, `meta["arrays"]` says their names, dtypes and shapes. The worker greets with HELLO; each request has one reply
of the same `number`, FAILURE among them. Meta is the same bytes for every window of a shape, so that both ends parse it
once; what changes, the driver's time, is in the header.

Python 3.6 is what JetPack 4.6, the last one of the Jetson Nano, gives TensorRT.
"""

import contextlib
import ctypes
import faulthandler
import json
import os
import select
import signal
import struct
import sys
import threading
import time
import traceback
import types
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

import numpy as np

PROTOCOL = 1
MAGIC = b"FSW1"
HEADER = struct.Struct("<4sBxxxIIIxxxxQ")
"""Magic, kind, number of the request, bytes of meta, bytes of the body, nanoseconds that the driver took (replies):
32 bytes, little-endian."""
MAX_META = 1 << 20
MAX_BODY = 1 << 28

HELLO, LOAD, LOADED, INFER, ANSWER, PING, PONG, PROBE, PROBED, STOP, FAILURE = range(1, 12)
"""Kinds of frames. Requests: LOAD, INFER, PING, PROBE, STOP; the rest are the worker's."""

PR_SET_PDEATHSIG = 1
BUFFER = 1 << 18
"""Bytes that one read may take: a request for a window comes whole."""
KEPT_FORMS = 64
"""Descriptions of arrays that are remembered parsed."""


class Option(NamedTuple):
    """One key of a back end's section, in its table `OPTIONS`."""

    default: Any
    """Its value where the configuration says nothing; its type is the key's type."""
    help: str
    """What it does, with the unit."""
    choices: Optional[Tuple[Any, ...]] = None
    """All values that are allowed; None: any of the type."""
    low: Optional[float] = None
    """The least number allowed."""
    high: Optional[float] = None
    """The greatest number allowed."""


class AbsentError(Exception):
    """What the back end needs is not there: no device, no driver, no library. The worker itself is sound.

    Args:
        reason: what is missing, one sentence.
        fix: what the user can do, one sentence.
    """

    def __init__(self, reason: str, fix: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.fix = fix


class Layout(NamedTuple):
    """Where the arrays of a body lie."""

    parts: List[Tuple[str, Any, int, List[int], int]]
    """Name, dtype, number of elements, shape, first byte."""
    size: int
    """Bytes of the body."""


def describe(arrays: Dict[str, Any]) -> List[Any]:
    """Arrays as `meta["arrays"]`.

    Raises:
        TypeError: something else than arrays of numbers.
    """
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "uifb":
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError("%s is %.40s where an array of real numbers is asked for" % (name, kind))
    return [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]


def layout(described: Any) -> Layout:
    """What `describe` made, checked: it comes from another process.

    Raises:
        ValueError: it is no list of arrays of numbers, or one that fits into no frame.
    """
    parts, at = [], 0
    if not isinstance(described, list) or len(described) > 1000:
        raise ValueError("no list of arrays")
    for entry in described:
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], list)):
            raise ValueError("an array without name, dtype and shape")
        name, code, shape = entry
        try:
            dtype = np.dtype(code) if isinstance(code, str) else None
        except (TypeError, ValueError, SyntaxError):
            dtype = None
        if dtype is None or not isinstance(name, str) or dtype.str != code or code[0] == ">" or code[1] not in "uifb":
            raise ValueError("an array of dtype %.20r" % (code,))
        if len(shape) > 8 or not all(type(n) is int and 0 <= n <= MAX_BODY for n in shape):
            raise ValueError("an array of shape %.80r" % (shape,))
        count = 1
        for n in shape:
            count *= n
        parts.append((name, dtype, count, shape, at))
        at += count * dtype.itemsize
        if at > MAX_BODY:
            raise ValueError("arrays longer than a frame")
    return Layout(parts, at)


def unpack(form: Layout, body: Any) -> Dict[str, Any]:
    """The arrays of a frame, as views of its body.

    Raises:
        ValueError: they are not what the body holds.
    """
    if form.size != len(body):
        raise ValueError("arrays of %d bytes in a body of %d" % (form.size, len(body)))
    return {
        name: np.frombuffer(body, dtype, count, at).reshape(shape) if count else np.zeros(shape, dtype)
        for name, dtype, count, shape, at in form.parts
    }


class Memory(Dict[bytes, Any]):
    """The last few things that were made of some bytes."""

    def keep(self, key: bytes, value: Any) -> Any:
        """Remember `value`; where there is too much, all else is forgotten."""
        if len(self) >= KEPT_FORMS:
            self.clear()
        self[key] = value
        return value


class Pipe:
    """Blocking frames over two descriptors."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink
        self.view, self.have = memoryview(bytearray(BUFFER)), 0

    def fill(self, need: int) -> None:
        """Have at least `need` bytes; the end of input ends the process, since nobody is left to answer."""
        if need > len(self.view):
            self.move(self.view[: self.have], need)
        while self.have < need:
            got = os.readv(self.source, [self.view[self.have :] if self.have else self.view])
            if got == 0:
                os._exit(0)  # no finally, no atexit: an SDK may hang in them
            self.have += got

    def move(self, had: memoryview, size: int) -> None:
        """Go on with these bytes in a buffer of this size, or of the usual one if that is larger."""
        self.view, self.have = memoryview(bytearray(max(BUFFER, size))), len(had)
        self.view[: self.have] = had

    def receive(self) -> Tuple[int, int, bytes, bytearray]:
        """Kind, number, meta as bytes and body of the next request."""
        self.fill(HEADER.size)
        magic, kind, number, n_meta, n_body, _ = HEADER.unpack_from(self.view)
        if magic != MAGIC or n_meta > MAX_META or n_body > MAX_BODY:
            raise SystemExit("firstspike worker: a request that is no frame")
        at = HEADER.size + n_meta
        end = at + n_body
        if self.have < end:
            self.fill(end)
        meta, body = bytes(self.view[HEADER.size : at]), bytearray(self.view[at:end])
        if self.have > end or end > BUFFER:
            self.move(self.view[end : self.have], self.have - end)
        else:
            self.have = 0
        return kind, number, meta, body

    def send(self, kind: int, number: int, meta: bytes, body: bytes = b"", nanoseconds: int = 0) -> None:
        """Send a frame, all of it."""
        data = HEADER.pack(MAGIC, kind, number, len(meta), len(body), nanoseconds) + meta + body
        sent = os.write(self.sink, data)
        while sent < len(data):
            sent += os.write(self.sink, data[sent : sent + BUFFER])


def claim_output() -> Pipe:
    """Keep descriptors 0 and 1 for frames; whoever prints from now on prints to standard error."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    # Before Python 3.9 standard error keeps lines back when it is a pipe: those before a crash would be lost.
    sys.stderr = open(2, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stdout = sys.stderr
    faulthandler.enable(sys.stderr)
    return Pipe(source, sink)


def die_with(parent: int) -> None:
    """End when the parent does, even while an SDK does not return: the kernel sees to it on Linux.

    Args:
        parent: the daemon's process; 0 if it is not this one's parent (ssh, a container).
    """
    if parent:
        with contextlib.suppress(OSError, AttributeError):  # no Linux
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before this was asked for, or something stands between
            raise SystemExit("firstspike worker: not started by the daemon itself: is the command an interpreter?")


def watch_input(source: int) -> None:
    """End when the other end of the link is closed, even while an SDK does not return (ssh and containers)."""
    poll = select.poll()
    poll.register(source, select.POLLHUP | getattr(select, "POLLRDHUP", 0x2000))
    poll.poll()
    time.sleep(0.2)  # a request to stop that came with it is answered first
    os._exit(0)


def to_json(meta: Any) -> bytes:
    """A description as bytes; what JSON has no word for becomes text."""
    return json.dumps(meta, default=str).encode()


class Serving:
    """Answers requests with a back end's module: its `probe`, and its `Driver` once a network is loaded.

    Each method takes meta and body of a request and returns kind, meta, body and nanoseconds of its reply.
    """

    def __init__(self, pipe: Pipe, module: Any) -> None:
        self.pipe, self.module = pipe, module
        self.driver: Any = None
        self.asked, self.answered = Memory(), Memory()
        self.alarm_s = 0
        """Seconds after which the kernel ends a request that does not return; 0: the daemon sees to it alone."""

    def load(self, meta: bytes, body: bytearray) -> Tuple[int, bytes, bytes, int]:
        """Make the driver ready for a network."""
        self.close()
        request = json.loads(meta.decode())
        signal.alarm(request.get("start_s", 0))
        self.alarm_s = request.get("hang_s", 0)
        started = time.perf_counter()
        self.driver = self.module.Driver(request["options"], request["model"], bytes(body))
        taken = int((time.perf_counter() - started) * 1e9)
        return LOADED, to_json({"about": dict(getattr(self.driver, "about", {}))}), b"", taken

    def infer(self, meta: bytes, body: bytearray) -> Tuple[int, bytes, bytes, int]:
        """One window."""
        if self.driver is None:
            raise RuntimeError("no network is loaded")
        form = self.asked.get(meta)
        if form is None:
            form = self.asked.keep(meta, layout(json.loads(meta.decode())["arrays"]))
        times = unpack(form, body)["times"]
        started = time.perf_counter()
        arrays = self.driver.infer(times)
        taken = int((time.perf_counter() - started) * 1e9)
        key: Any = tuple([(name, array.dtype, array.shape) for name, array in arrays.items()])
        text = self.answered.get(key)
        if text is None:
            text = self.answered.keep(key, to_json({"arrays": describe(arrays)}))
        return ANSWER, text, b"".join([array.tobytes() for array in arrays.values()]), taken

    def probe(self, meta: bytes, _: bytearray) -> Tuple[int, bytes, bytes, int]:
        """What is there."""
        return PROBED, to_json({"found": self.module.probe(json.loads(meta.decode())["options"])}), b"", 0

    def ping(self, meta: bytes, body: bytearray) -> Tuple[int, bytes, bytes, int]:
        """A sign of life."""
        return PONG, meta, bytes(body), 0

    def unknown(self, meta: bytes, _: bytearray) -> Tuple[int, bytes, bytes, int]:
        """What no daemon of this version asks."""
        raise RuntimeError("a request of unknown kind, described by %.80r" % meta)

    def close(self) -> None:
        """Let the driver go."""
        driver, self.driver = self.driver, None
        if driver is not None:
            driver.close()

    def run(self) -> None:
        """Serve until told to stop."""
        answers: Dict[int, Callable[[bytes, bytearray], Tuple[int, bytes, bytes, int]]] = {
            LOAD: self.load, INFER: self.infer, PROBE: self.probe, PING: self.ping,
        }  # fmt: skip
        while True:
            kind, number, meta, body = self.pipe.receive()
            if kind == STOP:
                self.close()
                return
            if self.alarm_s:
                signal.alarm(self.alarm_s)
            try:
                reply = answers.get(kind, self.unknown)(meta, body)
            except AbsentError as error:
                reply = FAILURE, to_json({"absent": True, "reason": error.reason, "fix": error.fix}), b"", 0
            except Exception as error:  # noqa: BLE001 (whatever an SDK raises is an answer, not the worker's end)
                traceback.print_exc()
                text = "%s: %s" % (type(error).__name__, " ".join(str(error).split()))
                reply = FAILURE, to_json({"absent": False, "reason": text[:500], "fix": ""}), b"", 0
            self.pipe.send(reply[0], number, *reply[1:])
            if self.alarm_s:
                signal.alarm(0)


def module_from(name: str, source: str) -> types.ModuleType:
    """A module from its source; so that the parents of its dotted name exist, they are made empty."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        parent = ".".join(parts[:depth])
        if parent not in sys.modules:
            package = types.ModuleType(parent)
            package.__dict__["__path__"] = []
            sys.modules[parent] = package
    module = types.ModuleType(name)
    sys.modules[name] = module
    module.__dict__["__file__"] = "<%s>" % name
    exec(compile(source, "<%s>" % name, "exec"), module.__dict__)  # noqa: S102 (that is what it was sent for)
    # `from firstspike.backends import _sibling` looks for an attribute of the package.
    setattr(sys.modules[".".join(parts[:-1])], parts[-1], module)
    return module


def main(parent: int, sources: Dict[str, str], driver: str) -> None:
    """Greet and serve.

    Args:
        parent: see `die_with`.
        sources: modules that the driver may import, by their full name, and the driver itself, in order.
        driver: name of the back end's module.
    """
    pipe = claim_output()
    die_with(parent)
    threading.Thread(target=watch_input, args=(pipe.source,), daemon=True).start()
    # Imports of the shim by the driver's file give this very module.
    module_from("firstspike.worker.shim", "").__dict__.update(globals())
    for name, source in sources.items():
        module_from(name, source)
    hello = {
        "protocol": PROTOCOL,
        "pid": os.getpid(),
        "python": ".".join(map(str, sys.version_info[:3])),
        "numpy": np.__version__,
        "machine": os.uname().machine,
        "driver": driver,
        "capabilities": ["load", "infer", "ping", "probe", "stop"],
    }
    pipe.send(HELLO, 0, to_json(hello))
    Serving(pipe, sys.modules[driver]).run()
    sys.stderr.flush()
    os._exit(0)  # the Myriad plug-in's clean-up may hang for ever
