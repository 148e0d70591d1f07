"""The native library: found beside the package, checked, and declared for ctypes.

The library is plain C++ behind a C interface (`runtime/native`), so that installing it needs a compiler and nothing of
Python's, and one build serves every interpreter.
"""

from __future__ import annotations

import ctypes
import os
from ctypes import c_char, c_char_p, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

import firstspike
from firstspike.errors import UnavailableError

ABI_VERSION = 10
"""Equal to `fs_abi_version()` in runtime/native/version.cpp; raised together whenever a signature changes."""


OVERRIDE = "FIRSTSPIKE_LIBRARY"
"""Environment variable that names another build of the library, such as one under sanitizers."""

_SIGNATURES: dict[str, tuple[type | None, list[Any]]] = {
    "fs_encoder_new": (c_void_p, [c_int] * 8 + [c_void_p] * 2),
    "fs_encoder_free": (None, [c_void_p]),
    "fs_encoder_kernels": (c_int, [c_void_p, c_int]),
    "fs_encode": (None, [c_void_p, c_void_p, c_int64, c_int64, c_int64, c_void_p, c_void_p]),
    "fs_evt3_decode": (c_int64, [c_void_p, c_void_p, c_int64, c_void_p, c_int64, c_void_p]),
    "fs_network_new": (c_void_p, [c_int] * 5),
    "fs_network_add_conv": (c_int, [c_void_p] * 3 + [c_int] * 10),
    "fs_network_add_dense": (c_int, [c_void_p] * 3 + [c_int] * 4),
    "fs_network_add_maxpool": (c_int, [c_void_p] + [c_int] * 4),
    "fs_network_add_flatten": (c_int, [c_void_p]),
    "fs_network_finish": (c_int, [c_void_p]),
    "fs_network_kernels": (c_int, [c_void_p, c_int]),
    "fs_network_error": (c_char_p, [c_void_p]),
    "fs_network_free": (None, [c_void_p]),
    "fs_network_run": (c_int, [c_void_p] * 5),
    "fs_rate_new": (c_void_p, [c_int] * 5 + [c_void_p, c_int, c_void_p, c_int]),
    "fs_rate_free": (None, [c_void_p]),
    "fs_rate_run": (c_int, [c_void_p] * 5),
    "fs_cuba_new": (c_void_p, [c_int] * 3 + [c_void_p, c_int, c_void_p, c_int]),
    "fs_cuba_free": (None, [c_void_p]),
    "fs_cuba_run": (c_int, [c_void_p] * 2 + [c_int] + [c_void_p] * 4),
    "fs_filter_new": (c_void_p, [c_int] * 6 + [c_int64]),
    "fs_filter_free": (None, [c_void_p]),
    "fs_filter_places": (c_int, [c_void_p] * 2),
    "fs_filter_run": (c_int64, [c_void_p] * 2 + [c_int64] + [c_void_p] * 2),
    "fs_sampler_new": (c_void_p, [c_int, c_int64, c_int64]),
    "fs_sampler_free": (None, [c_void_p]),
    "fs_sampler_start": (c_int, [c_void_p]),
    "fs_sampler_file": (c_int, [c_void_p, c_int, c_int]),
    "fs_sampler_interval": (None, [c_void_p, c_int64]),
    "fs_sampler_take": (c_int64, [c_void_p, c_void_p, c_int64, c_void_p]),
}
"""Results and arguments of what runtime/native/firstspike.h declares."""


@cache
def library() -> ctypes.CDLL:
    """Load the native library once.

    Raises:
        UnavailableError: it is missing or was built from other sources; the text says how to build it.
    """
    # An editable install has two places: the sources, and site-packages with what was compiled.
    places = [Path(place) / "libfirstspike.so" for place in firstspike.__path__]
    if override := os.environ.get(OVERRIDE):
        places = [Path(override)]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise UnavailableError(
            f"native library libfirstspike.so was not found in {[str(p.parent) for p in places]}: run 'make setup'"
        )
    try:
        lib = ctypes.CDLL(str(found))
    except OSError as error:
        raise UnavailableError(f"{found}: is no library for this machine: {error}: run 'make setup'") from None
    if (version := lib.fs_abi_version()) != ABI_VERSION:
        raise UnavailableError(f"{found} has version {version}, this firstspike needs {ABI_VERSION}: run 'make setup'")
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


Kernels = Literal["best", "portable", "x86-64-v3", "x86-64-v4", "armv8-dotprod"]
"""Which vector units to use. All give the same results; tests and measurements compare them."""
KERNELS: dict[Kernels, int] = {"best": -1, "portable": 0, "x86-64-v3": 3, "x86-64-v4": 4, "armv8-dotprod": 82}
"""The levels of runtime/native/firstspike.h."""

_Bytes: Any = c_char * 0


def pointer(array: NDArray[Any]) -> Any:
    """An array's data, in C order, as an argument of type `void *`; `array.ctypes.data` takes three times as long.

    What is read-only or not in C order is copied, so write only to arrays that are neither.
    """
    try:
        return _Bytes.from_buffer(array)
    except TypeError:  # the array is read-only or not contiguous; `ctypes` keeps a copy alive
        return np.ascontiguousarray(array).ctypes
