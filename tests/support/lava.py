"""Lava for tests: random small networks, and workers with them.

Its environment is made in build/ once; where that is not possible the tests are skipped by name.
"""

from __future__ import annotations

import time

import numpy as np
from tests.support.sdk import python_of

from firstspike.backends import lava
from firstspike.cuba import file as cuba_file
from firstspike.ttfs import file
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout
from firstspike.worker import shim
from firstspike.worker.link import Link, frame
from firstspike.worker.start import Program


def program():
    """A worker under Lava's Python; the test is skipped where that cannot be made."""
    return Program((str(python_of("lava")),), "lava", lava.SIBLINGS)


def options(**changed):
    return {key: option.default for key, option in lava.OPTIONS.items()} | changed


def load_of(network, path, **changed):
    """Meta and body of a LOAD request."""
    file.save(network, path)
    channels, height, width = network.input_shape
    model = {"channels": channels, "height": height, "width": width, "steps": network.input_steps}
    return {"options": options(**changed), "model": model}, path.read_bytes()


def front_of(network, path, steps):
    """The same of a hybrid's front, whose answers hold all spikes."""
    cuba_file.save(network, path)
    channels, height, width = network.input_shape
    model = {"channels": channels, "height": height, "width": width, "steps": steps, "form": "front"}
    return {"options": options(trace=True), "model": model}, path.read_bytes()


class Worker:
    """A worker that is sent one network after another: one start of Python and Lava for all."""

    def __init__(self):
        self.link, self.number = Link(program(), "lava"), 0
        self.link.greet(time.monotonic() + 60)

    def ask(self, kind, meta, body=b""):
        self.number += 1
        self.link.send(frame(kind, self.number, meta, body), time.monotonic() + 60)
        return self.link.receive(time.monotonic() + 60)

    def load(self, meta, body):
        reply = self.ask(shim.LOAD, meta, body)
        assert reply.kind == shim.LOADED, reply.meta

    def infer(self, times):
        reply = self.ask(shim.INFER, {"arrays": [["times", "|u1", list(times.shape)]]}, times.tobytes())
        assert reply.kind == shim.ANSWER, reply.meta
        return shim.unpack(shim.layout(reply.meta["arrays"]), reply.body)


def workers():
    """Workers, each for 12 networks: one leaves threads behind that wait for it. The daemon loads one a worker."""
    worker = None
    try:
        while True:
            worker = Worker()
            for _ in range(12):
                yield worker
            worker.link.close()
    finally:
        if worker is not None:
            worker.link.close()


def network(seed, neuron):
    """Convolution, pooling and dense, all drawn: sizes, strides, padding, steps, weights, biases and ramps."""
    random = np.random.default_rng(seed)

    def made(*shape):
        weights = np.clip(np.round(random.normal(random.uniform(-5, 8), 40, shape)), -128, 127).astype(np.int8)
        return weights, random.integers(-60, 61, shape[0]).astype(np.int16)

    def readout(inputs):
        ramp = int(random.integers(20, 60 * inputs))
        return Readout(int(random.integers(1, 12)), ramp, int(random.integers(0, ramp)))

    channels, out = (int(n) for n in random.integers(1, 4, 2))
    kernel = tuple(int(n) for n in random.integers(1, 4, 2))
    padding = tuple(int(random.integers(0, side)) for side in kernel)
    stride = tuple(int(n) for n in random.integers(1, 3, 2))
    conv = Conv(*made(out, channels, *kernel), stride, padding, readout(3))
    layers = (conv, MaxPool((2, 2), tuple(int(n) for n in random.integers(1, 3, 2))), Flatten())
    found = Network(neuron, (channels, 8, 9), int(random.integers(1, 12)), layers)
    features = found.shapes()[-1][0]
    return Network(neuron, found.input_shape, found.input_steps, (*layers, Dense(*made(7, features), readout(4))))


def window(network, seed):
    random = np.random.default_rng(seed)
    times = random.integers(0, network.input_steps + 1, network.input_shape)
    return np.where(random.random(network.input_shape) < 0.4, network.input_steps, times).astype(np.uint8)
