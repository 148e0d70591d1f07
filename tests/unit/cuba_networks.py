"""Random CUBA LIF networks and frames for the tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from firstspike.cuba.network import Conv, Dense, Flatten, Network, Neuron, Pool

QUIET = Neuron(current_decay=1024, voltage_decay=128, threshold=100)


def random_network(rng, *, pools=True, delays=True, depth=3):
    """Layers of all kinds, with thresholds near what comes in, so that a good part of the neurons spikes."""
    channels, height, width = int(rng.integers(1, 4)), int(rng.integers(4, 11)), int(rng.integers(4, 11))
    network, layers, shape = Network((channels, height, width), ()), [], (channels, height, width)
    for _ in range(int(rng.integers(0, depth))):
        if pools and min(shape[1:]) >= 2 and rng.random() < 0.3:
            kernel = [int(rng.integers(1, 3)) for _ in "yx"]
            stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
            layers.append(Pool(np.full(kernel, 2 * rng.integers(10, 60), np.int16), stride, _neuron(rng, 120)))
        else:
            kernel = [int(rng.integers(1, min(4, side + 1))) for side in shape[1:]]
            outs = int(rng.integers(1, 6))
            weights = _weights(rng, (outs, shape[0], *kernel))
            stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
            padding = (int(rng.integers(0, kernel[0])), int(rng.integers(0, kernel[1])))
            layers.append(Conv(weights, _bias(rng, outs), stride, padding, _neuron(rng, 40 * weights[0].size ** 0.5)))
        shape = Network(network.input_shape, tuple(layers)).shapes()[-1]
    if not layers or rng.random() < 0.6:
        layers.append(Flatten())
        inputs, outs = int(np.prod(shape)), int(rng.integers(1, 6))
        late = rng.integers(0, 5, outs) * (rng.random() < 0.5) if delays else np.zeros(outs)
        layers.append(
            Dense(
                _weights(rng, (outs, inputs)), _bias(rng, outs), late.astype(np.uint8), _neuron(rng, 40 * inputs**0.5)
            )
        )
    return Network(network.input_shape, tuple(layers))


def _weights(rng, shape):
    match int(rng.integers(4)):
        case 0:
            return rng.integers(0, 256, shape).astype(np.int16)  # one sign: odd weights too
        case 1:
            weights = 2 * rng.integers(-128, 128, shape)
        case _:
            weights = 2 * rng.integers(-40, 60, shape)
    weights.reshape(-1)[0] = 254
    return weights.astype(np.int16)


def _bias(rng, n):
    return (rng.integers(-40, 60, n) * (rng.random() < 0.4)).astype(np.int16)


def _neuron(rng, scale):
    current = int(rng.choice([0, 400, 1024, 4096])) if rng.random() < 0.5 else int(rng.integers(0, 4097))
    voltage = int(rng.choice([0, 128, 4095])) if rng.random() < 0.5 else int(rng.integers(0, 4096))
    return Neuron(current, voltage, max(1, int(scale * rng.choice([0.5, 1, 3]))))


def random_frames(rng, network, steps):
    return (rng.random((steps, *network.input_shape)) < rng.choice([0.02, 0.2, 0.6])).astype(np.uint8)


@st.composite
def cases(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    network = random_network(rng)
    return network, random_frames(rng, network, draw(st.sampled_from([1, 2, 16, 70])))
