"""What a TTFS network computes: naive NumPy, step by step. This is the specification; the emulator must equal it.

Time is global and discrete, t = 0, 1, 2 …; one inference begins at 0 with every potential at 0. An input pixel with
the time s spikes at step s. Layer l has the frame `start` ≤ t < `end` ≤ `last` (`Network.frames`): its input phase
lasts T_in = end − start steps, its readout T = last − end. With W the weights, b the bias, S the ramp and r the
rounding, at each step t, for the layers in order:

1. **Test.** A neuron that has not spiked does so if u(t) ≥ θ = S·T − r, or if t = last (the rectifier).
2. **Integrate.** u(t+1) = u(t) + I(t), where I(t) = Σ_j W_j·[input j has spiked at a step ≤ t] + b·[t ≥ start] before
   `end`, and I(t) = S from `end` on: the readout replaces all input.

Quartz (Lenz, Orchard, Sheik 2023), Eq. 2–5, with these points, which the paper leaves open, settled:

- **Comparison.** u ≥ θ, not strictly greater. On Loihi, where a neuron spikes if v > vth, vth = θ − 1; its synaptic
  delay of one step is the one between I(t) and u(t+1), so LIF neurons follow this recurrence with frames of T steps.
- **Rounding.** a = ⌊(u + r)/S⌋: r = 0 is the paper's floor, r = ⌊S/2⌋ rounds to nearest, halves up (for even S).
- **One spike an inference.** A neuron is refractory after its spike. Its potential is still followed, without reset, so
  that `potential` is defined for every neuron.
- **Early spikes** (`quartz`). The test is made at every step, also before the layer's own frame, since its inputs may
  themselves have been early. An early spike counts from its true step on: it gives an activation above T.
- **The gate** (`gated`). An offset of −K on the potential until `end`, K larger than the potential can exceed θ: no
  neuron can spike before `end`, and the layer computes `closed_form` exactly.
- **Bias** is a current from `start` on, not a spike of its own: it adds exactly b·T_in, whatever its sign.
- **Silence.** A zero activation spikes at `last`, which is the `end` of the next layer, and so contributes nothing.
- **Pooling and flatten** pass spikes on within the step: a max-pool spikes with the first of its patch.
- **Output.** `potential` is u of the last layer at its `end`, negative values included; first spikes cannot tell
  negative values from 0 (the rectifier) and tie often, so whoever decides uses the potential.
- **Pipelining.** Each inference starts from rest. Feeding the next sample before `last` of the last layer (the paper:
  every 2T) would mix samples wherever neurons spike early, and is not part of this definition.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from firstspike.errors import BundleError, DataError
from firstspike.ttfs.limits import Bound, check
from firstspike.ttfs.network import Conv, Dense, Flatten, Frame, Layer, MaxPool, Network, Shape

Ints = NDArray[np.int64]
_NEVER = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class Result:
    """One inference, with the spike of every neuron."""

    spike_steps: tuple[NDArray[np.int32], ...]
    """For each layer, pooling and flatten included: shape (channels, height, width), the global step of each spike."""
    potential: NDArray[np.int32]
    """Shape (outputs,): the last layer's potential at the end of its input phase."""
    first_spike: NDArray[np.int32]
    """Shape (outputs,): the last layer's spikes, global steps."""


Watch = Callable[[int, Ints, Ints], None]
"""Gets a step t, the output layer's spikes up to and with t (a large number for whoever has none), and its potentials
(final from its `end` on). The arrays go on changing: copy what is to be kept."""


def run(network: Network, times: NDArray[np.uint8], watch: Watch | None = None) -> Result:
    """Simulate one inference.

    Args:
        network: the network; checked (`limits.check`).
        times: `network.input_shape`, uint8: the step 0..input_steps at which each pixel spikes.
        watch: called after the spikes of each step, for whoever wants the first before the last.

    Raises:
        BundleError: the network is not allowed.
        DataError: `times` does not fit the network.
    """
    bounds = check(network)
    _timed(network)
    check_times(network, times)
    layers, frames = network.layers, network.frames()
    shapes = [network.input_shape, *network.shapes()]
    spikes = [times.astype(np.int64)] + [np.full(shape, _NEVER, np.int64) for shape in shapes[1:]]
    potentials = [np.zeros(shape, np.int64) for shape in shapes[1:]]
    answer = potentials[-1]
    for t in range(frames[-1].last + 1):
        for number, (layer, frame) in enumerate(zip(layers, frames, strict=True)):
            before, after = spikes[number], spikes[number + 1]
            if not isinstance(layer, Conv | Dense):
                after[...] = _pass_on(layer, before)
                continue
            u = potentials[number]
            if t == frame.end and number == len(layers) - 1:
                answer = u.copy()
            after[(after == _NEVER) & _fires(layer, frame, bounds[number], u, t)] = t
            # The layer before is already at its spikes of step t: [spiked at ≤ t] includes t.
            u += layer.readout.ramp if t >= frame.end else _current(layer, frame, before <= t, t)
        if watch is not None:
            watch(t, spikes[-1], answer)
    return _result(spikes[1:], answer)


def _fires(layer: Conv | Dense, frame: Frame, bound: Bound, u: Ints, t: int) -> NDArray[np.bool_]:
    offset = -bound.gate if t < frame.end else 0
    rectified = t == frame.last
    return (u + offset >= layer.readout.threshold) | rectified


def _current(layer: Conv | Dense, frame: Frame, spiked: NDArray[np.bool_], t: int) -> Ints:
    current = weigh(layer, spiked.astype(np.int64))
    if t >= frame.start:
        current += layer.bias.astype(np.int64)[:, None, None]
    return current


def weigh(layer: Conv | Dense, x: Ints) -> Ints:
    """Σ W·x without the bias: a cross-correlation or a product. (channels, height, width) to the layer's output."""
    weights = layer.weights.astype(np.int64)
    if isinstance(layer, Dense):
        return (weights @ x.reshape(-1))[:, None, None]
    (py, px), (sy, sx) = layer.padding, layer.stride
    padded = np.pad(x, ((0, 0), (py, py), (px, px)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, weights.shape[2:], axis=(1, 2))[:, ::sy, ::sx]
    return np.asarray(np.einsum("chwyx,ocyx->ohw", patches, weights))


def _pass_on(layer: Layer, spikes: Ints) -> Ints:
    if isinstance(layer, MaxPool):
        sy, sx = layer.stride
        patches = np.lib.stride_tricks.sliding_window_view(spikes, layer.kernel, axis=(1, 2))[:, ::sy, ::sx]
        return np.asarray(patches.min(axis=(3, 4)))
    assert isinstance(layer, Flatten)  # noqa: S101  (narrows the type: weighted layers never come here)
    return spikes.reshape(-1, 1, 1)


def closed_form(network: Network, times: NDArray[np.uint8]) -> Result:
    """The same network as integer arithmetic on activations, a = clip(⌊(Σ W·a + b·T_in + r)/S⌋, 0, T).

    Equal to `run` for `gated` networks always, and for `quartz` ones wherever no neuron spikes before its readout.

    Args and errors: those of `run`.
    """
    check(network)
    _timed(network)
    check_times(network, times)
    a, spikes, u = network.input_steps - times.astype(np.int64), [], np.zeros((0, 1, 1), np.int64)
    for layer, frame in zip(network.layers, network.frames(), strict=True):
        if isinstance(layer, Conv | Dense):
            readout = layer.readout
            u = weigh(layer, a) + layer.bias.astype(np.int64)[:, None, None] * (frame.end - frame.start)
            a = np.clip((u + readout.rounding) // readout.ramp, 0, readout.steps)
        else:
            a = -_pass_on(layer, -a)  # a spikes first where it is greatest
        spikes.append(frame.last - a)
    return _result(spikes, u)


def _timed(network: Network) -> None:
    if network.neuron == "rate":
        raise BundleError("the network codes values as numbers of spikes, not as times: see firstspike.ttfs.rate")


def check_times(network: Network, times: NDArray[np.uint8]) -> None:
    """Refuse an input of another shape or dtype, or with a spike after the input's last step (DataError)."""
    _check_shape(network.input_shape, times)
    if int(times.max()) > network.input_steps:
        raise DataError(
            f"an input spike comes at step {int(times.max())}, the network's input has {network.input_steps} steps: "
            "encode with the same number of steps"
        )


def _check_shape(shape: Shape, times: NDArray[np.uint8]) -> None:
    if times.dtype != np.uint8 or times.shape != shape:
        raise DataError(f"input spikes are {times.dtype} of shape {times.shape}, the network takes uint8 of {shape}")


def _result(spikes: list[Ints], potential: Ints) -> Result:
    steps = tuple(layer.astype(np.int32) for layer in spikes)
    return Result(steps, potential.reshape(-1).astype(np.int32), steps[-1].reshape(-1))
