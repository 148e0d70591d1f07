"""The emulator equals the definition in every spike of every neuron."""

import gc
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import event, given, settings
from tests.unit.networks import cases, lenet

from firstspike import native
from firstspike.errors import BundleError, DataError, UnavailableError
from firstspike.native import library
from firstspike.ttfs import definition, emulator
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout

NONE, ONE = (0, 0), (1, 1)


def assert_equal(network, times, kernels="best"):
    """Twice on one emulator, so that nothing of an inference is left for the next. Returns the definition's result."""
    expected = definition.run(network, times)
    emulated = Emulator(network, kernels)
    actual = emulated.trace(times)
    for number, (want, have) in enumerate(zip(expected.spike_steps, actual.spike_steps, strict=True)):
        np.testing.assert_array_equal(have, want, err_msg=f"layer {number} of {network}")
    for answer in (actual, emulated.run(times)):
        np.testing.assert_array_equal(answer.potential, expected.potential)
        np.testing.assert_array_equal(answer.first_spike, expected.first_spike)
    return expected


def early_layers(network, result):
    """Numbers of the weighted layers in which a neuron spiked before its readout."""
    rows = zip(network.layers, network.frames(), result.spike_steps, strict=True)
    return [
        i for i, (layer, frame, spikes) in enumerate(rows) if hasattr(layer, "readout") and spikes.min() < frame.end
    ]


@settings(deadline=None, max_examples=150)
@given(cases("gated"))
def test_every_spike_of_gated_networks(case):
    assert early_layers(case[0], assert_equal(*case)) == []


@settings(deadline=None, max_examples=250)
@given(cases("quartz"))
def test_every_spike_of_quartz_networks(case):
    event(f"layers with early spikes: {len(early_layers(case[0], assert_equal(*case)))}")


@pytest.mark.parametrize("kernels", ["portable", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("neuron", ["gated", "quartz"])
def test_a_network_of_lenets_size_with_all_kernels(neuron, kernels):
    random = np.random.default_rng(3)
    network = lenet(neuron)
    times = np.where(random.random((1, 28, 28)) < 0.8, 16, random.integers(0, 17, (1, 28, 28))).astype(np.uint8)
    try:
        result = assert_equal(network, times, kernels)
    except UnavailableError as error:
        pytest.skip(str(error))
    assert bool(early_layers(network, result)) == (neuron == "quartz")
    for spikes, frame, layer in zip(result.spike_steps, network.frames(), network.layers, strict=True):
        if isinstance(layer, Conv):
            silent = np.mean(spikes == frame.last)
            assert 0.02 < silent < 0.98  # the network is a test of something: neither dead nor all active


@pytest.mark.parametrize("kernels", ["portable", "x86-64-v3"])
def test_all_kernels(kernels):
    @settings(deadline=None, max_examples=60)
    @given(cases())
    def check(case):
        assert_equal(*case, kernels=kernels)

    if not available(kernels):
        pytest.skip(f"this machine has no {kernels}")
    check()


def available(kernels):
    try:
        Emulator(lenet("gated"), kernels)
    except UnavailableError:
        return False
    return True


def test_a_million_neurons():
    """Whole networks of LeNet's size: 200 inputs against the closed form, 36 step by step, on every density."""
    random, compared = np.random.default_rng(11), 0
    gated, quartz = lenet("gated"), lenet("quartz")
    emulated, early = Emulator(gated), Emulator(quartz)
    for number in range(200):
        silent = random.random((1, 28, 28)) < random.random()
        times = np.where(silent, 16, random.integers(0, 17, (1, 28, 28))).astype(np.uint8)
        pairs = [(emulated.trace(times), definition.closed_form(gated, times))]
        if number % 6 == 0:
            pairs.append((early.trace(times), definition.run(quartz, times)))
        for actual, expected in pairs:
            np.testing.assert_array_equal(actual.potential, expected.potential)
            for have, want in zip(actual.spike_steps, expected.spike_steps, strict=True):
                np.testing.assert_array_equal(have, want)
                compared += want.size
    assert compared > 1_000_000


@pytest.mark.parametrize("kernels", ["portable", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("neuron", ["gated", "quartz"])
@pytest.mark.parametrize("steps", [127, 128, 255])
def test_activations_up_to_a_byte(neuron, kernels, steps):
    """Products of bytes meet what 16 bits can hold; weights at both ends of their range."""
    if not available(kernels):
        pytest.skip(f"this machine has no {kernels}")
    random = np.random.default_rng(steps)
    weights = random.choice(np.array([-128, 127], np.int8), (9, 2, 3, 3))
    layer = Conv(weights, np.zeros(9, np.int16), ONE, ONE, Readout(steps, 9000, 4500))
    head = Dense(random.choice(np.array([-128, 127], np.int8), (2, 225)), np.zeros(2, np.int16), Readout(4, 2, 1))
    network = Network(neuron, (2, 5, 5), steps, (layer, Flatten(), head))
    for density in (0.3, 1.0):
        times = random.choice(np.array([0, 0, 1], np.uint8), (2, 5, 5))
        assert_equal(network, np.where(random.random((2, 5, 5)) < density, times, steps).astype(np.uint8), kernels)


def test_early_spikes_beyond_a_byte():
    """Many long frames: an early spike can stand more than 255 steps before the end, which other code runs."""
    random = np.random.default_rng(2)
    weights = random.integers(-20, 120, (3, 1, 2, 2)).astype(np.int8)
    layers = [Conv(weights, np.full(3, 3, np.int16), ONE, ONE, Readout(90, 60, 9)), MaxPool((2, 2), ONE), Flatten()]
    for inputs in (27, 9, 9, 9):
        weights = random.integers(-20, 120, (9, inputs)).astype(np.int8)
        layers.append(Dense(weights, random.integers(-9, 10, 9).astype(np.int16), Readout(90, 60, 9)))
    network = Network("quartz", (1, 3, 3), 100, tuple(layers))
    result = assert_equal(network, random.integers(0, 30, (1, 3, 3)).astype(np.uint8))
    leads = [frame.last - spikes.min() for frame, spikes in zip(network.frames(), result.spike_steps, strict=True)]
    assert max(leads) > 255
    assert_equal(network, np.full((1, 3, 3), 100, np.uint8))


@pytest.mark.parametrize("kernels", ["portable", "x86-64-v3", "x86-64-v4"])
@pytest.mark.parametrize("neuron", ["gated", "quartz"])
@pytest.mark.parametrize(
    ("height", "stride", "padding"), [(9, (2, 2), (1, 1)), (8, (3, 2), (2, 0)), (3, (1, 1), (2, 2))]
)
@pytest.mark.parametrize("outputs", [1, 8, 16, 47, 65, 130])
def test_convolutions_of_every_block_of_lanes(neuron, height, stride, padding, outputs, kernels):
    if not available(kernels):
        pytest.skip(f"this machine has no {kernels}")
    random = np.random.default_rng(outputs)
    weights = random.integers(-127, 128, (outputs, 3, 3, 3)).astype(np.int8)
    layer = Conv(weights, random.integers(-99, 100, outputs).astype(np.int16), stride, padding, Readout(11, 170, 85))
    pixels = int(np.prod(Network(neuron, (3, height, height + 1), 7, (layer,)).shapes()[0]))
    head = Dense(np.ones((2, pixels), np.int8), np.zeros(2, np.int16), Readout(4, 2, 1))
    network = Network(neuron, (3, height, height + 1), 7, (layer, MaxPool(ONE, ONE), Flatten(), head))
    for density in (0.05, 1):
        times = random.integers(0, 8, network.input_shape)
        assert_equal(network, np.where(random.random(times.shape) < density, times, 7).astype(np.uint8), kernels)


@pytest.mark.parametrize("neuron", ["gated", "quartz"])
@pytest.mark.parametrize("channels", [1, 2, 3, 40])
@pytest.mark.parametrize(("height", "width"), [(8, 12), (7, 9), (4, 5)])
def test_pooling_after_a_convolution_at_every_density(neuron, channels, height, width):
    """2×2 pooling is computed together with the convolution before it, and silent fields and groups are skipped."""
    random = np.random.default_rng(channels)
    conv = Conv(
        random.integers(-60, 100, (33, channels, 3, 3)).astype(np.int8), random.integers(-99, 100, 33).astype(np.int16),
        ONE, ONE, Readout(9, 90 * channels, 45),
    )  # fmt: skip
    pixels = 33 * (height // 2) * (width // 2)
    head = Dense(random.integers(-9, 10, (2, pixels)).astype(np.int8), np.zeros(2, np.int16), Readout(4, 2, 1))
    network = Network(neuron, (channels, height, width), 12, (conv, MaxPool((2, 2), (2, 2)), Flatten(), head))
    for density in (0, 0.01, 0.05, 0.3, 1):
        times = random.integers(0, 13, network.input_shape)
        assert_equal(network, np.where(random.random(times.shape) < density, times, 12).astype(np.uint8))


def test_early_spikes_run_ahead_of_the_frames_of_deeper_layers():
    """Strong excitation: each layer spikes soon after the one before, long before its own frame, with other T each."""
    layers = tuple(
        Dense(np.full((3, 3), 100, np.int8), np.full(3, -50, np.int16), Readout(steps, 40, 0))
        for steps in (9, 4, 30, 7)
    )
    network = Network("quartz", (3, 1, 1), 20, layers)
    result = assert_equal(network, np.array([0, 3, 20], np.uint8).reshape(3, 1, 1))
    assert early_layers(network, result) == [0, 1, 2, 3]
    frames = network.frames()
    assert result.spike_steps[2].max() < frames[2].start
    assert result.spike_steps[3].max() < frames[3].start


@pytest.mark.parametrize("neuron", ["gated", "quartz"])
def test_largest_potentials_that_are_allowed(neuron):
    """At the limit of 24 bits nothing overflows: the same as in the definition's 64 bits."""
    weights = np.stack([np.full(256, 127), np.full(256, -123)]).astype(np.int8)
    layer = Dense(weights, np.array([300, -300], np.int16), Readout(255, 32000, 31999))
    network = Network(neuron, (256, 1, 1), 255, (layer,))
    for times in (np.zeros((256, 1, 1), np.uint8), np.full((256, 1, 1), 255, np.uint8)):
        result = assert_equal(network, times)
    largest = assert_equal(network, np.zeros((256, 1, 1), np.uint8)).potential
    assert largest.tolist() == [256 * 127 * 255 + 300 * 255, -256 * 123 * 255 - 300 * 255]
    assert result.potential.tolist() == [300 * 255, -300 * 255]


def test_flatten_before_a_convolution_and_twice():
    random = np.random.default_rng(0)
    conv = Conv(
        random.integers(-9, 10, (4, 12, 1, 1)).astype(np.int8), np.zeros(4, np.int16), ONE, NONE, Readout(8, 9, 4)
    )
    dense = Dense(random.integers(-9, 10, (3, 4)).astype(np.int8), np.zeros(3, np.int16), Readout(8, 9, 4))
    for neuron in ("gated", "quartz"):
        network = Network(neuron, (3, 2, 2), 8, (Flatten(), conv, Flatten(), Flatten(), dense))
        assert_equal(network, random.integers(0, 9, (3, 2, 2)).astype(np.uint8))


@pytest.mark.parametrize(
    ("times", "fault"),
    [
        (np.zeros((1, 28, 27), np.uint8), "shape"),
        (np.zeros((1, 28, 28), np.int16), "int16"),
        (np.full((1, 28, 28), 17, np.uint8), "last step"),
    ],
)
def test_input_that_does_not_fit_is_refused(times, fault):
    emulated = Emulator(lenet("gated"))
    with pytest.raises(DataError, match=fault):
        emulated.run(times)
    with pytest.raises(DataError, match=fault):
        emulated.trace(times)
    silent = np.full((1, 28, 28), 16, np.uint8)
    np.testing.assert_array_equal(emulated.run(silent).potential, definition.run(lenet("gated"), silent).potential)


def test_input_that_is_not_contiguous():
    times = np.random.default_rng(0).integers(0, 17, (28, 28, 1)).astype(np.uint8).transpose(2, 1, 0)[:, ::-1]
    assert_equal(lenet("gated"), times)


def test_answers_belong_to_the_caller():
    emulated = Emulator(lenet("gated"))
    before = emulated.run(np.zeros((1, 28, 28), np.uint8))
    kept = before.potential.copy()
    emulated.run(np.full((1, 28, 28), 16, np.uint8))
    np.testing.assert_array_equal(before.potential, kept)


def test_distinct_emulators_in_threads():
    random = np.random.default_rng(5)
    times = [random.integers(0, 17, (1, 28, 28)).astype(np.uint8) for _ in range(4)]
    expected = [Emulator(lenet("quartz")).run(x).potential for x in times]
    wrong = []

    def work(k):
        emulated = Emulator(lenet("quartz"))
        answers = [emulated.run(times[k]).potential for _ in range(50)]
        wrong.extend(k for answer in answers if not np.array_equal(answer, expected[k]))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_native_side_checks_for_itself(monkeypatch):
    """What `limits.check` refuses, the library refuses too, with the layer's number; it trusts no caller."""
    monkeypatch.setattr(emulator, "check", lambda _: None)
    dense = Dense(np.ones((2, 4), np.int8), np.zeros(2, np.int16), Readout(8, 4, 0))
    conv = Conv(np.ones((2, 1, 2, 2), np.int8), np.zeros(2, np.int16), ONE, NONE, Readout(8, 4, 0))
    good = Network("gated", (1, 2, 2), 8, (Flatten(), dense))
    assert Emulator(good).run(np.zeros((1, 2, 2), np.uint8)).potential.tolist() == [32, 32]
    huge = Dense(np.full((1, 70_000), 127, np.int8), np.zeros(1, np.int16), Readout(8, 4, 0))
    broken = {
        "steps must be": replace(dense, readout=Readout(256, 4, 0)),
        "ramp is": replace(dense, readout=Readout(8, 1 << 22, 0)),
        "rounding must": replace(dense, readout=Readout(8, 4, 4)),
        "padding must": replace(conv, padding=(2, 0)),
    }
    for fault, layer in broken.items():
        with pytest.raises(BundleError, match=f"layer 0: {fault}"):
            Emulator(replace(good, layers=(layer,)))
    with pytest.raises(BundleError, match="24 bits"):
        Emulator(Network("gated", (70_000, 1, 1), 8, (huge,)))
    with pytest.raises(BundleError, match="last layer must be weighted"):
        Emulator(replace(good, layers=(dense, Flatten())))


def test_a_network_that_is_not_finished_does_not_run():
    lib = library()
    assert lib.fs_network_new(0, 0, 1, 1, 8) is None
    assert lib.fs_network_new(0, 1, 1, 1, 256) is None
    handle = lib.fs_network_new(0, 1, 1, 1, 8)
    try:
        buffer = np.zeros(8, np.uint8).ctypes.data
        assert lib.fs_network_run(handle, buffer, buffer, buffer, None) == 1
        assert b"not finished" in lib.fs_network_error(handle)
        assert lib.fs_network_add_maxpool(handle, 1, 1, 0, 1) == 1
        assert b"stride must be at least 1" in lib.fs_network_error(handle)
    finally:
        lib.fs_network_free(handle)


def test_kernels_that_are_not_here_are_refused(monkeypatch):
    monkeypatch.setitem(native.KERNELS, "portable", 99)
    with pytest.raises(UnavailableError, match="kernels"):
        Emulator(lenet("gated"), "portable")


def test_memory_is_given_back(monkeypatch):
    freed = []
    real = library().fs_network_free
    monkeypatch.setattr(library(), "fs_network_free", lambda handle: freed.append(handle) or real(handle))
    emulated = Emulator(lenet("gated"))
    handle = emulated._handle
    del emulated
    gc.collect()
    assert freed == [handle]
