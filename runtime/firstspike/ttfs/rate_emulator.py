"""The rate-coded baseline in native code, equal to `rate` in every neuron's number of spikes."""

from __future__ import annotations

import ctypes
import weakref
from ctypes import c_int32, c_void_p
from math import prod

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError, DataError
from firstspike.native import library, pointer
from firstspike.ttfs.emulator import Answer, Emulator
from firstspike.ttfs.limits import check
from firstspike.ttfs.network import Conv, Dense, Flatten, Layer, MaxPool, Network
from firstspike.ttfs.rate import RateResult

_KINDS = {Conv: 0, Dense: 1, MaxPool: 2, Flatten: 3}
_ERROR_BYTES = 200


class _Layer(ctypes.Structure):
    """`fs_rate_layer` of runtime/native/firstspike.h."""

    _fields_ = (
        *((name, c_int32) for name in ("kind", "outputs", "kernel_y", "kernel_x", "stride_y", "stride_x")),
        *((name, c_int32) for name in ("padding_y", "padding_x", "threshold", "start")),
        ("weights", c_void_p), ("bias", c_void_p),
    )  # fmt: skip


class RateEmulator:
    """One rate-coded network, ready to run. For one thread at a time; distinct emulators are independent.

    Raises:
        BundleError: the network is not allowed.
    """

    def __init__(self, network: Network) -> None:
        check(network)
        if network.neuron != "rate":
            raise BundleError(f"the network's neuron is {network.neuron!r}, not 'rate': use Emulator")
        self.network = network
        self._shapes = network.shapes()
        self._outputs = prod(self._shapes[-1])
        self._lib = library()
        arrays = [_arrays(layer) for layer in network.layers]  # alive until they are copied
        layers = (_Layer * len(arrays))(*(_layer(*pair) for pair in zip(network.layers, arrays, strict=True)))
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        self._handle = self._lib.fs_rate_new(
            *network.input_shape, network.input_steps, network.duration, layers, len(arrays), error, _ERROR_BYTES
        )
        if not self._handle:
            raise BundleError(error.value.decode())
        weakref.finalize(self, self._lib.fs_rate_free, self._handle)

    def run(self, times: NDArray[np.uint8]) -> Answer:
        """Run one inference; arguments and errors as `Emulator.run`."""
        return Answer(*self._infer(times, None))

    def trace(self, times: NDArray[np.uint8]) -> RateResult:
        """Run one inference and return every neuron's number of spikes; arguments and errors as `Emulator.run`."""
        counts = np.empty(sum(map(prod, self._shapes)), np.int32)
        potential, first_spike = self._infer(times, counts.ctypes.data)
        ends = np.cumsum([prod(shape) for shape in self._shapes])[:-1]
        layers = (part.reshape(shape) for part, shape in zip(np.split(counts, ends), self._shapes, strict=True))
        return RateResult(tuple(layers), potential, first_spike)

    def _infer(self, times: NDArray[np.uint8], counts: int | None) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        if times.dtype != np.uint8 or times.shape != self.network.input_shape:
            raise DataError(
                f"input spikes are {times.dtype} of shape {times.shape}, the network takes uint8 of "
                f"{self.network.input_shape}"
            )
        times = np.ascontiguousarray(times)
        potential, first_spike = np.empty(self._outputs, np.int32), np.empty(self._outputs, np.int32)
        if self._lib.fs_rate_run(self._handle, pointer(times), pointer(potential), pointer(first_spike), counts):
            raise DataError(
                f"an input spike comes after the input's {self.network.input_steps} steps: encode with the same number"
            )
        return potential, first_spike


def emulator(network: Network) -> Emulator | RateEmulator:
    """The emulator of a network, whichever code it uses. Errors as `Emulator` and `RateEmulator`."""
    return RateEmulator(network) if network.neuron == "rate" else Emulator(network)


def _arrays(layer: Layer) -> tuple[NDArray[np.int8], NDArray[np.int16]] | None:
    if not isinstance(layer, Conv | Dense):
        return None
    return np.ascontiguousarray(layer.weights), np.ascontiguousarray(layer.bias)


def _layer(layer: Layer, arrays: tuple[NDArray[np.int8], NDArray[np.int16]] | None) -> _Layer:
    found = _Layer(kind=_KINDS[type(layer)])
    if isinstance(layer, Conv | MaxPool):
        found.kernel_y, found.kernel_x = layer.weights.shape[2:] if isinstance(layer, Conv) else layer.kernel
        found.stride_y, found.stride_x = layer.stride
    if isinstance(layer, Conv):
        found.padding_y, found.padding_x = layer.padding
    if isinstance(layer, Conv | Dense) and arrays is not None:
        found.outputs, found.threshold, found.start = len(layer.bias), layer.readout.ramp, layer.readout.rounding
        found.weights, found.bias = (array.ctypes.data for array in arrays)
    return found
