"""CUBA LIF networks: the definition, the emulator that must equal it, and their file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from tests.unit.cuba_networks import QUIET, cases, random_frames, random_network

from firstspike.cuba import definition
from firstspike.cuba.emulator import Emulator
from firstspike.cuba.file import load, save
from firstspike.cuba.limits import check
from firstspike.cuba.network import Conv, Dense, Flatten, Network, Neuron, Pool
from firstspike.errors import BundleError, DataError, NoInputError


def dense(weights, neuron, bias=None, delay=None):
    weights = np.asarray(weights, np.int16)
    outs = len(weights)
    bias = np.zeros(outs, np.int16) if bias is None else np.int16(bias)
    return Dense(weights, bias, np.zeros(outs, np.uint8) if delay is None else np.uint8(delay), neuron)


def spikes(layer, inputs, steps):
    """Of one neuron whose only input spikes at those steps: the steps of its own spikes, both engines agreeing."""
    frames = np.zeros((steps, 1, 1, 1), np.uint8)
    frames[list(inputs)] = 1
    network = Network((1, 1, 1), (layer,))
    found = definition.run(network, frames)
    np.testing.assert_array_equal(Emulator(network).run(frames).spikes, found.spikes[0])
    return np.flatnonzero(found.spikes[0].ravel()).tolist()


def test_a_neuron_spikes_above_its_threshold_not_at_it():
    forgetful = Neuron(current_decay=4096, voltage_decay=0, threshold=100)
    assert spikes(dense([[100]], forgetful), [3], 6) == []
    assert spikes(dense([[102]], forgetful), [3], 6) == [3]
    assert spikes(dense([[50]], forgetful), [1, 2, 4, 5], 9) == [4]  # 150, then it starts anew from 0


def test_a_current_goes_on_and_decays():
    """100, 75, 56.25 … a step, of a threshold of 200: over it in the third step, and again with what is left."""
    assert spikes(dense([[100]], Neuron(1024, 0, 200)), [0], 30) == [2]
    assert spikes(dense([[100]], Neuron(0, 0, 200)), [0], 10) == [2, 5, 8]


def test_decay_rounds_towards_zero_for_both_signs():
    np.testing.assert_array_equal(definition.decay(np.int64([5, -5, 4095, -4095]), 1024), [3, -3, 3071, -3071])
    assert definition.decay(np.int64([-1]), 1)[0] == 0


def test_a_bias_drives_a_neuron_without_input():
    assert spikes(dense([[2]], Neuron(0, 0, 10), bias=[4]), [], 9) == [2, 5, 8]


def test_a_delay_makes_input_late_and_what_is_later_than_the_sample_is_lost():
    late = dense([[200]], Neuron(4096, 0, 100), delay=[5])
    assert spikes(late, [0, 2, 6], 10) == [5, 7]
    assert spikes(dense([[200]], Neuron(4096, 0, 100), delay=[62]), [0, 1], 64) == [62, 63]


def test_a_current_that_leaves_24_bits_wraps_and_is_counted():
    strong = dense(np.full((1, 600), 254), Neuron(0, 0, 1000))
    network = Network((600, 1, 1), (strong,))
    found, native = definition.run(network, np.ones((3, 600, 1, 1), np.uint8)), Emulator(network)
    answer = native.run(np.ones((3, 600, 1, 1), np.uint8))
    assert found.wraps == answer.wraps == 2  # 9.8 M is over 2²³ and becomes −7.0 M, then 2.7 M, then 12.5 M and −4.3 M
    assert found.spikes[0].ravel().tolist() == answer.spikes.ravel().tolist() == [0, 0, 0]


def test_nothing_of_a_sample_is_left_for_the_next():
    layer = dense([[100]], Neuron(0, 0, 150), delay=[2])
    network = Network((1, 1, 1), (layer,))
    emulator, frames = Emulator(network), np.ones((3, 1, 1, 1), np.uint8)
    first = emulator.run(frames)
    for _ in range(3):
        np.testing.assert_array_equal(emulator.run(frames).spikes, first.spikes)


@settings(deadline=None, max_examples=200)
@given(cases())
def test_the_emulator_equals_the_definition(case):
    network, frames = case
    expected, native = definition.run(network, frames), Emulator(network)
    for _ in range(2):
        actual = native.trace(frames)
        assert actual.wraps == expected.wraps
        for number, (want, have) in enumerate(zip(expected.spikes, actual.spikes, strict=True)):
            np.testing.assert_array_equal(have, want, err_msg=f"layer {number} of {network}")
    answer = native.run(frames)
    np.testing.assert_array_equal(answer.spikes, expected.spikes[-1])
    assert answer.counts.tolist() == [int(layer.sum()) for layer in expected.spikes]


def test_a_network_of_a_hybrid_fronts_size():
    rng = np.random.default_rng(8)
    layers = (
        Conv((2 * rng.integers(-40, 50, (8, 2, 5, 5))).astype(np.int16), np.zeros(8, np.int16), (2, 2), (2, 2),
             Neuron(1024, 128, 500)),
        Conv((2 * rng.integers(-40, 42, (16, 8, 3, 3))).astype(np.int16), np.zeros(16, np.int16), (1, 1), (1, 1),
             Neuron(1024, 128, 900)),
        Pool(np.full((2, 2), 80, np.int16), (2, 2), Neuron(4096, 128, 100)),
    )  # fmt: skip
    network = Network((2, 64, 64), layers)
    frames = (rng.random((16, 2, 64, 64)) < 0.02).astype(np.uint8)
    expected, actual = definition.run(network, frames), Emulator(network).trace(frames)
    for want, have in zip(expected.spikes, actual.spikes, strict=True):
        np.testing.assert_array_equal(have, want)
        assert 0.01 < want.mean() < 0.9


def test_frames_that_do_not_fit_are_refused():
    network = Network((1, 2, 2), (Flatten(), dense([[2, 2, 2, 2]], QUIET)))
    good = np.zeros((3, 1, 2, 2), np.uint8)
    for engine in (lambda frames: definition.run(network, frames), Emulator(network).run, Emulator(network).trace):
        for bad, text in [
            (good.astype(np.int32), "int32"), (good[0], "shape"), (good[:, :, :1], "shape"), (good[:0], "0 frames"),
            (np.zeros((5000, 1, 2, 2), np.uint8), "5000 frames"), (good + 2, "the value 2"),
        ]:  # fmt: skip
            with pytest.raises(DataError, match=text):
                engine(bad)
    swapped = np.ones((3, 2, 2, 1), np.uint8).transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(Emulator(network).run(swapped).spikes, definition.run(network, swapped).spikes[-1])


CONV = Conv(np.full((3, 2, 3, 3), 4, np.int16), np.zeros(3, np.int16), (1, 1), (1, 1), QUIET)
POOL = Pool(np.full((2, 2), 4, np.int16), (2, 2), QUIET)
REFUSED = {
    "even": replace(CONV, weights=np.int16(np.arange(54).reshape(3, 2, 3, 3) - 9)),
    "8 bits": replace(CONV, weights=np.full((3, 2, 3, 3), 256, np.int16)),
    "from -258": replace(CONV, weights=np.full((3, 2, 3, 3), -258, np.int16)),
    "int16": replace(CONV, weights=np.full((3, 2, 3, 3), 4, np.int8)),
    "stride": replace(CONV, stride=(0, 1)),
    "padding": replace(CONV, padding=(3, 1)),
    "1 channels": Conv(np.full((3, 1, 3, 3), 4, np.int16), np.zeros(3, np.int16), (1, 1), (1, 1), QUIET),
    "larger than its input": replace(POOL, weights=np.full((9, 2), 4, np.int16)),
    "4 biases": replace(CONV, bias=np.zeros(4, np.int16)),
    "−4096 to 4095": replace(CONV, bias=np.full(3, 5000, np.int16)),
    "current_decay": replace(CONV, neuron=replace(QUIET, current_decay=4097)),
    "voltage_decay": replace(CONV, neuron=replace(QUIET, voltage_decay=4096)),
    "threshold": replace(CONV, neuron=replace(QUIET, threshold=1 << 17)),
    "threshold is 0": replace(CONV, neuron=replace(QUIET, threshold=0)),
    "flatten before": dense(np.full((3, 72), 2), QUIET),
    "no neurons": Flatten(),
}


@pytest.mark.parametrize("text", REFUSED)
def test_networks_that_loihi_cannot_hold_are_refused_by_name(text):
    with pytest.raises(BundleError, match=text) as caught:
        check(Network((2, 6, 6), (REFUSED[text],)))
    if text != "no neurons":
        assert "layer 0" in str(caught.value)


def test_sums_that_one_wrap_cannot_bring_back_and_delays_too_long_are_refused():
    with pytest.raises(BundleError, match="add up to 264160 a step"):
        check(Network((1040, 1, 1), (dense(np.full((1, 1040), 254), QUIET),)))
    with pytest.raises(BundleError, match="delay of 63"):
        check(Network((1, 1, 1), (dense([[2]], QUIET, delay=[63]),)))


@settings(deadline=None, max_examples=30)
@given(case=cases())
def test_its_file(case, tmp_path_factory):
    network, frames = case
    path = tmp_path_factory.mktemp("net") / "n.npz"
    save(network, path)
    first = path.read_bytes()
    save(again := load(path), path)
    assert path.read_bytes() == first
    np.testing.assert_array_equal(Emulator(again).run(frames).spikes, Emulator(network).run(frames).spikes)


def test_files_that_are_none_are_refused(tmp_path):
    with pytest.raises(NoInputError, match="cannot be read"):
        load(tmp_path / "none.npz")
    path = tmp_path / "n.npz"
    path.write_bytes(b"PK no archive")
    with pytest.raises(BundleError, match=r"n\.npz: not a NumPy archive"):
        load(path)
    arrays = {"w0": np.full((1, 1), 2, np.int16), "b0": np.zeros(1, np.int16), "d0": np.zeros(1, np.uint8)}
    head = (
        '{"schema": 1, "neuron": "cuba", "input_shape": [1, 1, 1], "layers": [{"kind": "dense", "current_decay": 0, '
        '"voltage_decay": 0, "threshold": 5}]}'
    )
    good = {"network": np.frombuffer(head.encode(), np.uint8)} | arrays

    def refused(text, **changes):
        entries = {key: value for key, value in (good | changes).items() if value is not None}
        np.savez(path, **entries)
        with pytest.raises(BundleError, match=text):
            load(path)

    np.savez(path, **good)
    assert load(path).layers[0].neuron == Neuron(0, 0, 5)
    refused("'w0' is missing", w0=None)
    refused("dtype <i4", w0=np.full((1, 1), 2, np.int32))
    refused("belongs to no layer", w1=np.zeros(1, np.int16))
    refused("entry 'network'", network=None)
    for old, new, text in [
        ('"cuba"', '"quartz"', "neuron"), ('"dense"', '"rec"', "layer 0"), ("5}", '5, "reset": 1}', "reset"),
        ("5}", "0}", "threshold is 0"), ('"schema": 1', '"schema": 2', "schema"),
    ]:  # fmt: skip
        refused(text, network=np.frombuffer(head.replace(old, new).encode(), np.uint8))


def test_random_networks_say_something():
    """The networks of these tests are neither silent nor all ablaze, or their equality would mean little."""
    rng, means = np.random.default_rng(0), []
    for _ in range(60):
        network = random_network(rng)
        means.append(Emulator(network).run(random_frames(rng, network, 16)).spikes.mean())
    assert sum(0.02 < mean < 0.9 for mean in means) > 20
