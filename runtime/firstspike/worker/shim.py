"""The worker's end of the link: one file, standard library and NumPy, Python 3.6 or newer.

It is sent to the worker's interpreter on standard input (see `start`), so nothing has to be installed where the worker
runs but the SDK: under another Python, in a container, or on another host through ssh. Frames come in on descriptor 0
and leave on descriptor 1, which the shim keeps for itself: what an SDK prints goes to standard error.

A frame is a header (`HEADER`), `meta` (a JSON object) and a body of bytes. Arrays lie in the body one after another in
C order, `meta["arrays"]` says their names, dtypes and shapes. The worker greets with HELLO; each request has one reply
of the same `number`, FAILURE among them.

Python 3.6 is what JetPack 4.6, the last one of the Jetson Nano, gives TensorRT.
"""

import ctypes
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
HEADER = struct.Struct("<4sBxxxIII")
"""Magic, kind, number of the request, bytes of meta, bytes of the body: 20 bytes, little-endian."""
MAX_META = 1 << 20
MAX_BODY = 1 << 28

HELLO, LOAD, LOADED, INFER, ANSWER, PING, PONG, PROBE, PROBED, STOP, FAILURE = range(1, 12)
"""Kinds of frames. Requests: LOAD, INFER, PING, PROBE, STOP; the rest are the worker's."""

PR_SET_PDEATHSIG = 1


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


def pack(arrays: Dict[str, Any]) -> Tuple[List[Any], bytes]:
    """Arrays as `meta["arrays"]` and a body."""
    described = [[name, array.dtype.str, list(array.shape)] for name, array in arrays.items()]
    return described, b"".join(np.ascontiguousarray(array).tobytes() for array in arrays.values())


def unpack(described: Any, body: Any) -> Dict[str, Any]:
    """The arrays of a frame, as views of its body.

    Raises:
        ValueError: the description is no list of arrays, or does not fit the body.
    """
    arrays, at = {}, 0
    if not isinstance(described, list):
        raise ValueError("no list of arrays")
    for entry in described:
        if not (isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], list)):
            raise ValueError("an array without name, dtype and shape")
        name, code, shape = entry
        if not (isinstance(name, str) and isinstance(code, str)) or code[:1] not in "<|" or code[1:2] not in "uifb":
            raise ValueError("an array of dtype %.20r" % (code,))
        if len(shape) > 8 or not all(isinstance(n, int) and 0 <= n <= MAX_BODY for n in shape):
            raise ValueError("an array of shape %.80r" % (shape,))
        try:
            dtype = np.dtype(code)
        except TypeError:
            raise ValueError("an array of dtype %.20r" % (code,)) from None
        count = 1
        for n in shape:
            count *= n
        if at + count * dtype.itemsize > len(body):
            raise ValueError("an array longer than its frame")
        arrays[name] = np.frombuffer(body, dtype, count, at).reshape(shape)
        at += count * dtype.itemsize
    if at != len(body):
        raise ValueError("%d bytes that belong to no array" % (len(body) - at))
    return arrays


class Pipe:
    """Blocking frames over two descriptors."""

    def __init__(self, source: int, sink: int) -> None:
        self.source, self.sink = source, sink
        self.lock = threading.Lock()

    def read(self, size: int) -> bytearray:
        """Exactly `size` bytes; the end of input ends the process, since nobody is left to answer."""
        data = bytearray(size)
        view, have = memoryview(data), 0
        while have < size:
            got = os.readv(self.source, [view[have:]])
            if got == 0:
                os._exit(0)  # no finally, no atexit: an SDK may hang in them
            have += got
        return data

    def receive(self) -> Tuple[int, int, Any, bytearray]:
        """Kind, number, meta and body of the next request."""
        magic, kind, number, n_meta, n_body = HEADER.unpack(self.read(HEADER.size))
        if magic != MAGIC or n_meta > MAX_META or n_body > MAX_BODY:
            raise SystemExit("firstspike worker: a request that is no frame")
        meta = json.loads(self.read(n_meta).decode()) if n_meta else {}
        return kind, number, meta, self.read(n_body)

    def send(self, kind: int, number: int, meta: Any, body: bytes = b"") -> None:
        """Send a frame, all of it."""
        text = json.dumps(meta).encode()
        data = memoryview(HEADER.pack(MAGIC, kind, number, len(text), len(body)) + text + body)
        with self.lock:
            while data:
                data = data[os.write(self.sink, data) :]


def claim_output() -> Pipe:
    """Keep descriptors 0 and 1 for frames; whoever prints from now on prints to standard error."""
    source, sink = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return Pipe(source, sink)


def die_with(parent: int) -> None:
    """End when the parent does, even while an SDK does not return: the kernel sees to it on Linux.

    Args:
        parent: the daemon's process; 0 if it is not this one's parent (ssh, a container).
    """
    if parent:
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        except (OSError, AttributeError):
            pass
        if os.getppid() != parent:  # it ended before this was asked for
            os._exit(0)


def watch_input(source: int) -> None:
    """End when the other end of the link is closed, even while an SDK does not return (ssh and containers)."""
    poll = select.poll()
    poll.register(source, select.POLLHUP | getattr(select, "POLLRDHUP", 0x2000))
    poll.poll()
    time.sleep(0.2)  # a request to stop that came with it is answered first
    os._exit(0)


class Serving:
    """Answers requests with a back end's module: its `probe`, and its `Driver` once a network is loaded."""

    def __init__(self, pipe: Pipe, module: types.ModuleType) -> None:
        self.pipe, self.module = pipe, module
        self.driver = None  # type: Any

    def load(self, meta: Any, body: bytearray) -> Tuple[int, Any, bytes]:
        """Make the driver ready for a network."""
        if self.driver is not None:
            self.driver.close()
            self.driver = None
        started = time.monotonic()
        self.driver = self.module.Driver(meta["options"], meta["model"], bytes(body))  # type: ignore[attr-defined]
        about = dict(getattr(self.driver, "about", {}))
        return LOADED, {"about": about, "seconds": time.monotonic() - started}, b""

    def infer(self, meta: Any, body: bytearray) -> Tuple[int, Any, bytes]:
        """One window."""
        if self.driver is None:
            raise RuntimeError("no network is loaded")
        arrays = unpack(meta["arrays"], body)
        started = time.perf_counter()
        answers = self.driver.infer(arrays["times"])
        seconds = time.perf_counter() - started
        described, out = pack(answers)
        return ANSWER, {"arrays": described, "seconds": seconds}, out

    def probe(self, meta: Any, _: bytearray) -> Tuple[int, Any, bytes]:
        """What is there."""
        return PROBED, {"found": self.module.probe(meta["options"])}, b""  # type: ignore[attr-defined]

    def run(self) -> None:
        """Serve until told to stop."""
        kinds = {
            LOAD: self.load,
            INFER: self.infer,
            PROBE: self.probe,
            PING: lambda meta, body: (PONG, meta, bytes(body)),
        }  # type: Dict[int, Callable[[Any, bytearray], Tuple[int, Any, bytes]]]
        while True:
            kind, number, meta, body = self.pipe.receive()
            if kind == STOP:
                if self.driver is not None:
                    self.driver.close()
                return
            try:
                if kind not in kinds:
                    raise RuntimeError("a request of unknown kind %d" % kind)
                reply = kinds[kind](meta, body)
            except AbsentError as error:
                reply = FAILURE, {"absent": True, "reason": error.reason, "fix": error.fix}, b""
            except Exception as error:  # noqa: BLE001 (whatever an SDK raises is an answer, not the worker's end)
                traceback.print_exc()
                text = "%s: %s" % (type(error).__name__, " ".join(str(error).split()))
                reply = FAILURE, {"absent": False, "reason": text[:500], "fix": ""}, b""
            self.pipe.send(reply[0], number, reply[1], reply[2])


def module_from(name: str, source: str) -> types.ModuleType:
    """A module from its source; so that the parents of its dotted name exist, they are made empty."""
    parts = name.split(".")
    for depth in range(1, len(parts)):
        parent = ".".join(parts[:depth])
        if parent not in sys.modules:
            sys.modules[parent] = types.ModuleType(parent)
            sys.modules[parent].__path__ = []  # type: ignore[attr-defined]
    module = types.ModuleType(name)
    sys.modules[name] = module
    module.__dict__["__file__"] = "<%s>" % name
    exec(compile(source, "<%s>" % name, "exec"), module.__dict__)  # noqa: S102 (that is what it was sent for)
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
    pipe.send(
        HELLO,
        0,
        {
            "protocol": PROTOCOL,
            "pid": os.getpid(),
            "python": ".".join(map(str, sys.version_info[:3])),
            "numpy": np.__version__,
            "machine": os.uname().machine,
            "driver": driver,
            "capabilities": ["load", "infer", "ping", "probe", "stop"],
        },
    )
    Serving(pipe, sys.modules[driver]).run()
    sys.stderr.flush()
    os._exit(0)  # the Myriad plug-in's clean-up may hang for ever
