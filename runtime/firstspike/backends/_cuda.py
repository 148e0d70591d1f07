"""CUDA as far as the TensorRT back end needs it, through ctypes: devices, memory, copies, one stream.

Only the driver's own library is used. It is there wherever a GPU can work and has one name, while the runtime library
(libcudart) changes its name with every CUDA version and is missing where TensorRT carries it inside. TensorRT works
through the runtime library in the device's primary context; that is the one retained here, and a stream of the driver
is a stream of the runtime.

Runs in a worker under Python 3.6 or newer.
"""

import ctypes
from contextlib import suppress
from typing import Any, Dict, List, NamedTuple, Tuple

from firstspike.worker.shim import AbsentError

LIBRARY = "libcuda.so.1"

_INT, _SIZE, _PTR, _ADDRESS = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint64
_TEXT = ctypes.POINTER(ctypes.c_char_p)
FUNCTIONS: Dict[str, Tuple[Any, ...]] = {
    "cuInit": (ctypes.c_uint,),
    "cuDriverGetVersion": (ctypes.POINTER(_INT),),
    "cuDeviceGetCount": (ctypes.POINTER(_INT),),
    "cuDeviceGet": (ctypes.POINTER(_INT), _INT),
    "cuDeviceGetName": (ctypes.c_char_p, _INT, _INT),
    "cuDeviceGetAttribute": (ctypes.POINTER(_INT), _INT, _INT),
    "cuDeviceTotalMem_v2": (ctypes.POINTER(_SIZE), _INT),
    "cuDevicePrimaryCtxRetain": (ctypes.POINTER(_PTR), _INT),
    "cuDevicePrimaryCtxRelease": (_INT,),
    "cuCtxSetCurrent": (_PTR,),
    "cuMemAlloc_v2": (ctypes.POINTER(_ADDRESS), _SIZE),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemHostAlloc": (ctypes.POINTER(_PTR), _SIZE, ctypes.c_uint),
    "cuMemFreeHost": (_PTR,),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, _PTR, _SIZE, _PTR),
    "cuMemcpyDtoHAsync_v2": (_PTR, _ADDRESS, _SIZE, _PTR),
    "cuStreamCreate": (ctypes.POINTER(_PTR), ctypes.c_uint),
    "cuStreamSynchronize": (_PTR,),
    "cuStreamDestroy_v2": (_PTR,),
    "cuGetErrorName": (_INT, _TEXT),
    "cuGetErrorString": (_INT, _TEXT),
}
"""Arguments of what is called; all return a CUresult. All are there since CUDA 7."""

MULTIPROCESSORS, CAPABILITY_MAJOR, CAPABILITY_MINOR = 16, 75, 76
"""CUdevice_attribute."""
STREAM_NON_BLOCKING = 1
NOT_FATAL = {1, 2, 600}
"""CUDA_ERROR_INVALID_VALUE, _OUT_OF_MEMORY, _NOT_READY: the process may go on. After any other it may not."""

NAMES = {
    2: "CUDA_ERROR_OUT_OF_MEMORY", 3: "CUDA_ERROR_NOT_INITIALIZED", 34: "CUDA_ERROR_STUB_LIBRARY",
    46: "CUDA_ERROR_DEVICE_UNAVAILABLE", 100: "CUDA_ERROR_NO_DEVICE", 101: "CUDA_ERROR_INVALID_DEVICE",
    304: "CUDA_ERROR_OPERATING_SYSTEM", 700: "CUDA_ERROR_ILLEGAL_ADDRESS", 719: "CUDA_ERROR_LAUNCH_FAILED",
    802: "CUDA_ERROR_SYSTEM_NOT_READY", 803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
    804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE", 999: "CUDA_ERROR_UNKNOWN",
}  # fmt: skip
"""Where the library does not tell: it may not before cuInit has succeeded."""

_SEE = "see that the GPU is there: nvidia-smi, on a Jetson /dev/nvhost-gpu or /dev/nvgpu"
_ACCESS = "on a Jetson add the user to the group video; in a container pass the GPU in (--gpus all or --runtime nvidia)"
FIXES = {
    2: "free memory of the GPU: another process holds it",
    34: "take the folder stubs out of LD_LIBRARY_PATH: that libcuda.so.1 is for linking only",
    46: "end the process that has the GPU for itself, or set its compute mode to default",
    100: f"{_SEE}; {_ACCESS}; see that CUDA_VISIBLE_DEVICES does not hide it",
    304: f"{_SEE}; {_ACCESS}",
    802: "start the GPU's services (the fabric manager) and try again",
    803: "restart: the driver was updated and the kernel still runs the older one",
    804: "remove the CUDA compatibility package: this GPU works with the driver's own libcuda.so.1 only",
    999: f"load the kernel module (modprobe nvidia_uvm) or restart; {_ACCESS}",
}


class CudaError(Exception):
    """A call failed.

    Args:
        call: the function.
        code: its CUresult.
        text: the code's name and meaning.
    """

    def __init__(self, call: str, code: int, text: str) -> None:
        super().__init__(f"{call} failed: {text}")
        self.code = code
        self.fatal = code not in NOT_FATAL


class Found(NamedTuple):
    """A device that the driver lists."""

    ordinal: int
    name: str
    capability: Tuple[int, int]
    multiprocessors: int
    memory: int
    """Bytes."""
    driver: str
    """The newest CUDA that the driver supports, such as 12.2."""


class Driver:
    """The driver's library, initialised.

    Raises:
        AbsentError: it is not there, or does not start; the fix says what helps.
    """

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL(LIBRARY)
        except OSError as error:
            if "cannot open shared object file" in str(error):
                reason = f"{LIBRARY} is not there: no NVIDIA driver is installed"
                fix = "install the GPU's driver (a Jetson's comes with JetPack); in a container pass it in (--gpus all)"
            else:
                reason, fix = f"{LIBRARY} cannot be loaded: {error}", "install the driver for this processor"
            raise AbsentError(reason, fix) from None
        for name, arguments in FUNCTIONS.items():
            if not hasattr(self._library, name):
                raise AbsentError(f"{LIBRARY} has no {name}", "update the driver: CUDA 10.2 or newer is needed")
            getattr(self._library, name).argtypes = arguments
        try:
            self.call("cuInit", 0)
        except CudaError as error:
            raise AbsentError(f"CUDA does not start: {error}", FIXES.get(error.code, _SEE)) from None

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            CudaError: it did not return CUDA_SUCCESS.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            raise CudaError(name, code, self._text(code))

    def _text(self, code: int) -> str:
        told = []
        for function in ("cuGetErrorName", "cuGetErrorString"):
            text = ctypes.c_char_p()
            if getattr(self._library, function)(code, ctypes.byref(text)) == 0 and text.value:
                told.append(text.value.decode("utf-8", "replace"))
        return ": ".join(told) or NAMES.get(code, f"CUDA error {code}")

    def integer(self, name: str, *arguments: Any) -> int:
        """Call a function whose first argument is an integer that it sets."""
        value = _INT()
        self.call(name, ctypes.byref(value), *arguments)
        return value.value

    def devices(self) -> List[Found]:
        """What is attached.

        Raises:
            AbsentError: nothing, or what is there does not answer.
        """
        try:
            count = self.integer("cuDeviceGetCount")
            version = self.integer("cuDriverGetVersion")
            found = [self._device(ordinal, f"{version // 1000}.{version % 1000 // 10}") for ordinal in range(count)]
        except CudaError as error:
            raise AbsentError(f"the GPU does not answer: {error}", FIXES.get(error.code, _SEE)) from None
        if not found:
            raise AbsentError("the NVIDIA driver is there and lists no GPU", FIXES[100])
        return found

    def _device(self, ordinal: int, driver: str) -> Found:
        handle = self.integer("cuDeviceGet", ordinal)
        name, memory = ctypes.create_string_buffer(256), _SIZE()
        self.call("cuDeviceGetName", name, len(name), handle)
        self.call("cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
        processors, major, minor = (
            self.integer("cuDeviceGetAttribute", which, handle)
            for which in (MULTIPROCESSORS, CAPABILITY_MAJOR, CAPABILITY_MINOR)
        )
        text = name.value.decode("utf-8", "replace")
        return Found(ordinal, text, (major, minor), processors, memory.value, driver)


class Session:
    """A device in use by this thread: its primary context and one stream. `close` gives everything back.

    Args:
        driver: the driver.
        ordinal: of the device, by the driver's count.

    Raises:
        AbsentError: there is no such device, or it takes nobody in.
    """

    def __init__(self, driver: Driver, ordinal: int) -> None:
        found = driver.devices()
        if ordinal >= len(found):
            names = ", ".join(f"{device.ordinal} ({device.name})" for device in found)
            raise AbsentError(f"there is no CUDA device {ordinal}; there are: {names}", "set the key device to one")
        self.device = found[ordinal]
        self._driver = driver
        self._undo: List[Tuple[str, Any]] = []
        """What gives back what is held, in the order in which it was taken."""
        context, stream = _PTR(), _PTR()
        try:
            handle = driver.integer("cuDeviceGet", ordinal)
            self._take("cuDevicePrimaryCtxRelease", handle, "cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
            driver.call("cuCtxSetCurrent", context)
            # Not blocking: what else TensorRT does on the default stream is not waited for.
            driver.call("cuStreamCreate", ctypes.byref(stream), STREAM_NON_BLOCKING)
        except CudaError as error:
            self.close()
            raise AbsentError(f"{self.device.name} cannot be used: {error}", FIXES.get(error.code, _SEE)) from None
        self._undo.append(("cuStreamDestroy_v2", stream))
        self._stream = stream

    def _take(self, undo: str, argument: Any, name: str, *arguments: Any) -> None:
        self._driver.call(name, *arguments)
        self._undo.append((undo, argument))

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream.value or 0)

    def memory(self, size: int) -> int:
        """The address of `size` bytes of the device."""
        address = _ADDRESS()
        self._driver.call("cuMemAlloc_v2", ctypes.byref(address), size)
        self._undo.append(("cuMemFree_v2", address))
        return address.value

    def host(self, size: int) -> Any:
        """`size` bytes of this machine that the device copies from and to by itself: a ctypes array."""
        address = _PTR()
        self._driver.call("cuMemHostAlloc", ctypes.byref(address), size, 0)
        self._undo.append(("cuMemFreeHost", address))
        return (ctypes.c_char * size).from_address(address.value or 0)

    def send(self, device: int, host: Any) -> None:
        """Begin to copy all of `host` to the address `device`."""
        self._driver.call("cuMemcpyHtoDAsync_v2", device, ctypes.addressof(host), len(host), self._stream)

    def fetch(self, host: Any, device: int) -> None:
        """Begin to copy from the address `device` to all of `host`."""
        self._driver.call("cuMemcpyDtoHAsync_v2", ctypes.addressof(host), device, len(host), self._stream)

    def wait(self) -> None:
        """Until everything that was begun is done."""
        self._driver.call("cuStreamSynchronize", self._stream)

    def close(self) -> None:
        """Give back what is held, last first; what the device refuses is left: the process ends soon."""
        while self._undo:
            name, argument = self._undo.pop()
            with suppress(CudaError):
                self._driver.call(name, argument)
