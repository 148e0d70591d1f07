"""CUBA LIF networks in native code, equal to `definition` in every spike."""

from __future__ import annotations

import ctypes
import weakref
from ctypes import c_int32, c_int64, c_void_p
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firstspike.cuba.definition import Result, check_frames
from firstspike.cuba.limits import check
from firstspike.cuba.network import Conv, Dense, Flatten, Layer, Network, Pool
from firstspike.errors import BundleError, DataError
from firstspike.native import library, pointer

_KINDS = {Conv: 0, Dense: 0, Pool: 1, Flatten: 2}
_ERROR_BYTES = 200


class _Layer(ctypes.Structure):
    """`fs_cuba_layer` of runtime/native/firstspike.h."""

    _fields_ = (
        *((name, c_int32) for name in ("kind", "outputs", "kernel_y", "kernel_x", "stride_y", "stride_x")),
        *((name, c_int32) for name in ("padding_y", "padding_x", "current_decay", "voltage_decay", "threshold")),
        ("weights", c_void_p), ("bias", c_void_p), ("delay", c_void_p),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What one sample came to."""

    spikes: NDArray[np.uint8]
    """The last layer's, 0 or 1, shape (steps, channels, height, width)."""
    counts: NDArray[np.int64]
    """Shape (layers,): each layer's number of spikes."""
    wraps: int
    """How often a neuron's current left 24 bits: above 0, the network asks more of Loihi than it has."""


class Emulator:
    """One network, ready to run. For one thread at a time; distinct emulators are independent.

    Raises:
        BundleError: the network is not allowed.
        UnavailableError: the native library is missing.
    """

    def __init__(self, network: Network) -> None:
        check(network)
        self.network = network
        self._shapes = network.shapes()
        self._lib = library()
        arrays = [_arrays(layer) for layer in network.layers]  # alive until they are copied
        layers = (_Layer * len(arrays))(*(_layer(*pair) for pair in zip(network.layers, arrays, strict=True)))
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._handle = self._lib.fs_cuba_new(*network.input_shape, layers, len(arrays), error, _ERROR_BYTES)
        if not self._handle:
            raise BundleError(error.value.decode())
        weakref.finalize(self, self._lib.fs_cuba_free, self._handle)

    def run(self, frames: NDArray[np.uint8]) -> Answer:
        """Run one sample from rest.

        Args:
            frames: (steps, *network.input_shape), uint8, 0 or 1.

        Raises:
            DataError: `frames` does not fit the network.
        """
        return self._run(frames, None)

    def trace(self, frames: NDArray[np.uint8]) -> Result:
        """Run one sample and return every layer's spikes; arguments and errors as `run`."""
        check_frames(self.network.input_shape, frames)
        sizes = [len(frames) * prod(shape) for shape in self._shapes]
        spikes = np.empty(sum(sizes), np.uint8)
        answer = self._run(frames, spikes)
        parts = np.split(spikes, np.cumsum(sizes)[:-1])
        layers = (part.reshape(len(frames), *shape) for part, shape in zip(parts, self._shapes, strict=True))
        return Result(tuple(layers), answer.wraps)

    def _run(self, frames: NDArray[np.uint8], trace: NDArray[np.uint8] | None) -> Answer:
        check_frames(self.network.input_shape, frames)
        spikes = np.empty((len(frames), *self._shapes[-1]), np.uint8)
        counts, wraps = np.empty(len(self._shapes), np.int64), c_int64()
        if self._lib.fs_cuba_run(
            self._handle, pointer(frames), len(frames), pointer(spikes), pointer(counts), ctypes.byref(wraps),
            None if trace is None else pointer(trace),
        ):  # fmt: skip
            raise DataError(f"a frame holds the value {int(frames.max())}: frames are 0 or 1")
        return Answer(spikes, counts, wraps.value)


def _arrays(layer: Layer) -> tuple[NDArray[Any], ...]:
    if isinstance(layer, Flatten):
        return ()
    arrays: list[NDArray[Any]] = [layer.weights]
    if isinstance(layer, Conv | Dense):
        arrays.append(layer.bias)
    if isinstance(layer, Dense):
        arrays.append(layer.delay)
    return tuple(np.ascontiguousarray(array) for array in arrays)


def _layer(layer: Layer, arrays: tuple[NDArray[Any], ...]) -> _Layer:
    found = _Layer(kind=_KINDS[type(layer)], kernel_y=1, kernel_x=1, stride_y=1, stride_x=1)
    if isinstance(layer, Conv | Pool):
        found.kernel_y, found.kernel_x = layer.weights.shape[-2:]
        found.stride_y, found.stride_x = layer.stride
    if isinstance(layer, Conv):
        found.padding_y, found.padding_x = layer.padding
    if isinstance(layer, Conv | Dense):
        found.outputs = len(layer.bias)
    if not isinstance(layer, Flatten):
        found.current_decay, found.voltage_decay = layer.neuron.current_decay, layer.neuron.voltage_decay
        found.threshold = layer.neuron.threshold
    for name, array in zip(("weights", "bias", "delay"), arrays, strict=False):
        setattr(found, name, array.ctypes.data)
    return found
