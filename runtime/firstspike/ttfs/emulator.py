"""The emulator: the network in native code, equal to `definition` in every spike of every neuron."""

from __future__ import annotations

import weakref
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError, DataError, UnavailableError
from firstspike.native import KERNELS, Kernels, library
from firstspike.ttfs.definition import Result
from firstspike.ttfs.limits import check
from firstspike.ttfs.network import Conv, Dense, Flatten, Layer, MaxPool, Network

_NO_MEMORY = 2
_UINT8 = np.dtype(np.uint8)


class Answer(NamedTuple):
    """What the output layer says; see `definition.Result`."""

    potential: NDArray[np.int32]
    """Shape (outputs,)."""
    first_spike: NDArray[np.int32]
    """Shape (outputs,): global steps."""


class Emulator:
    """One network, ready to run. For one thread at a time; distinct emulators are independent.

    Args:
        network: checked here (`limits.check`), and its bounds once more natively.
        kernels: the best that this machine has, unless told.

    Raises:
        BundleError: the network is not allowed.
        UnavailableError: the native library, memory, or the kernels that were asked for are missing.
    """

    def __init__(self, network: Network, kernels: Kernels = "best") -> None:
        check(network)
        if network.neuron == "rate":
            raise BundleError("the network codes values as numbers of spikes, not as times: use RateEmulator")
        self.network = network
        self._shape = network.input_shape
        self._shapes = network.shapes()
        self._outputs = prod(self._shapes[-1])
        self._lib = library()
        self._handle = self._lib.fs_network_new(
            int(network.neuron == "quartz"), *network.input_shape, network.input_steps
        )
        if not self._handle:
            raise UnavailableError("no memory for the network: use a smaller one")
        weakref.finalize(self, self._lib.fs_network_free, self._handle)
        if self._lib.fs_network_kernels(self._handle, KERNELS[kernels]):
            raise UnavailableError(f"{self._error()}: kernels {kernels!r}; use 'best'")
        for layer in network.layers:
            self._built(self._add(layer))
        self._built(self._lib.fs_network_finish(self._handle))
        self._run = self._lib.fs_network_run
        # The library writes here, and callers get copies: cheaper than an address for every new array.
        self._potential = np.empty(self._outputs, np.int32)
        self._first_spike = np.empty(self._outputs, np.int32)
        self._written = self._potential.ctypes.data, self._first_spike.ctypes.data

    def run(self, times: NDArray[np.uint8]) -> Answer:
        """Run one inference.

        Args:
            times: `network.input_shape`, uint8: the step 0..input_steps at which each pixel spikes.

        Raises:
            DataError: `times` has another shape or dtype, or a spike after the input's last step.
        """
        return self._infer(times, None)

    def trace(self, times: NDArray[np.uint8]) -> Result:
        """Run one inference and return every neuron's spike. Arguments and errors as `run`."""
        spikes = np.empty(sum(map(prod, self._shapes)), np.int32)
        potential, first_spike = self._infer(times, spikes.ctypes.data)
        ends = np.cumsum([prod(shape) for shape in self._shapes])[:-1]
        layers = (part.reshape(shape) for part, shape in zip(np.split(spikes, ends), self._shapes, strict=True))
        return Result(tuple(layers), potential, first_spike)

    def _infer(self, times: NDArray[np.uint8], trace: int | None) -> Answer:
        if times.shape != self._shape or (times.dtype is not _UINT8 and times.dtype != _UINT8):
            raise DataError(
                f"input spikes are {times.dtype} of shape {times.shape}, the network takes uint8 of {self._shape}"
            )
        # A copy in C order is had for half of what an array's address costs.
        if self._run(self._handle, times.tobytes(), *self._written, trace):
            raise DataError(f"{self._error()} ({self.network.input_steps}): encode with the network's number of steps")
        return Answer(self._potential.copy(), self._first_spike.copy())

    def _add(self, layer: Layer) -> int:
        lib, handle = self._lib, self._handle
        match layer:
            case Flatten():
                return int(lib.fs_network_add_flatten(handle))
            case MaxPool():
                return int(lib.fs_network_add_maxpool(handle, *layer.kernel, *layer.stride))
        weights, bias = np.ascontiguousarray(layer.weights), np.ascontiguousarray(layer.bias)
        parameters = (handle, weights.ctypes.data, bias.ctypes.data, weights.shape[0])
        readout = (layer.readout.steps, layer.readout.ramp, layer.readout.rounding)
        if isinstance(layer, Dense):
            return int(lib.fs_network_add_dense(*parameters, *readout))
        assert isinstance(layer, Conv)  # noqa: S101  (narrows the type: no other kind is left)
        kernel = layer.weights.shape[2:]
        return int(lib.fs_network_add_conv(*parameters, *kernel, *layer.stride, *layer.padding, *readout))

    def _built(self, code: int) -> None:
        if code == _NO_MEMORY:
            raise UnavailableError("no memory for the network: use a smaller one")
        if code:
            raise BundleError(self._error())

    def _error(self) -> str:
        return str(self._lib.fs_network_error(self._handle).decode())
