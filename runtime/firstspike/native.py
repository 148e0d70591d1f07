"""The native library: found beside the package, checked, and declared for ctypes.

The library is plain C++ behind a C interface (`runtime/native`), so that installing it needs a compiler and nothing of
Python's, and one build serves every interpreter.
"""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import firstspike
from firstspike.errors import UnavailableError

ABI_VERSION = 1
"""Equal to `fs_abi_version()` in runtime/native/version.cpp; raised together whenever a signature changes."""


@cache
def library() -> ctypes.CDLL:
    """Load the native library once.

    Raises:
        UnavailableError: it is missing or was built from other sources; the text says how to build it.
    """
    # An editable install has two places: the sources, and site-packages with what was compiled.
    places = [Path(place) / "libfirstspike.so" for place in firstspike.__path__]
    found = next((place for place in places if place.exists()), None)
    if found is None:
        raise UnavailableError(
            f"native library libfirstspike.so was not found in {firstspike.__path__}: run 'make setup'"
        )
    lib = ctypes.CDLL(str(found))
    if (version := lib.fs_abi_version()) != ABI_VERSION:
        raise UnavailableError(f"{found} has version {version}, this firstspike needs {ABI_VERSION}: run 'make setup'")
    return lib
