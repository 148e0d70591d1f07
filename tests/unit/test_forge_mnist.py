"""What measures and writes the LeNet bundles, and the bundles that ship; no torch."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from firstspike.bundle import InputSpec, open_bundle
from firstspike.ttfs.definition import closed_form, run
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Conv, Dense, Readout
from models.forge import export, mnist_check, sets

BUNDLES = sorted((sets.ROOT / "models").glob("mnist-lenet*"))
SHAPES = ((6, 1, 5, 5), (12, 6, 5, 5), (120, 12, 4, 4), (10, 120))


def weights(rng: np.random.Generator) -> list[np.ndarray]:
    return [2 * rng.integers(-63, 64, shape) for shape in SHAPES]


@pytest.mark.parametrize("steps", [4, 8, 16])
def test_an_image_encodes_as_its_pixels_counts_of_events(steps):
    spec = InputSpec(channels=1, height=16, width=16, encoding="count", steps=steps, count_scale=255)
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    times = mnist_check.times_of(spec, image[None])[0]
    mnist_check.check_encoding(spec, image, times)
    assert (times[0, 0, 0], times[0, 0, 1], times[0, 15, 15]) == (steps, steps - 1, 0)
    times[0, 3, 3] ^= 1
    with pytest.raises(AssertionError):
        mnist_check.check_encoding(spec, image, times)


def test_currents_of_convolutions_enter_every_step_of_the_input_phase():
    rng = np.random.default_rng(3)
    currents = [rng.integers(-254, 255, n) for n in (6, 12, 120)]
    ramps = [3000, 9000, 9000, 500]
    given = export.Integers(
        weights(rng), ramps, rng.integers(-254, 255, 10), [True, True, False], 28, 8, currents
    )  # fmt: skip
    network = export.network(given)
    convolutions = [layer for layer in network.layers if isinstance(layer, Conv)]
    for layer, current, ramp in zip(convolutions, currents, ramps, strict=False):
        np.testing.assert_array_equal(layer.bias, current)
        assert layer.readout == Readout(8, ramp, ramp // 2)
    silent = np.full((1, 28, 28), 8, np.uint8)
    first = closed_form(network, silent).spike_steps[0]
    expected = np.clip((8 * currents[0] + 1500) // 3000, 0, 8)
    np.testing.assert_array_equal(16 - first, np.broadcast_to(expected[:, None, None], first.shape))


def test_a_current_beyond_one_loihi_weight_is_named():
    rng = np.random.default_rng(4)
    currents = [np.zeros(n, np.int64) for n in (6, 12, 120)]
    currents[1][7] = 255
    given = export.Integers(weights(rng), [9, 9, 9, 9], np.zeros(10, np.int64), [True, True, False], 28, 8, currents)
    with pytest.raises(ValueError, match="weighted layer 1: a bias of 255"):
        export.network(given)


@pytest.mark.parametrize("biased", [True, False])
def test_the_check_computes_the_twin_as_onnx_does(tmp_path, biased):
    rng = np.random.default_rng(5)
    floats = [rng.normal(0, 0.1, shape).astype(np.float32) for shape in SHAPES]
    biases = [rng.normal(0, 0.1, n).astype(np.float32) for n in (6, 12, 120)] if biased else []
    bias = rng.normal(0, 0.1, 10).astype(np.float32)
    model = export.onnx_model(floats, bias, [True, True, False], 28, biases)
    onnx.save(model, tmp_path / "ann.onnx")
    images = rng.integers(0, 256, (3, 28, 28)).astype(np.uint8)
    ours = mnist_check.twin_logits(tmp_path / "ann.onnx", images)
    for image, logits in zip(images, ours, strict=True):
        p = image[None, None].astype(np.float32) / np.float32(255)
        theirs = ReferenceEvaluator(model).run(None, {"p": p})[0]
        np.testing.assert_allclose(logits, theirs[0], rtol=1e-4, atol=1e-4)


def test_accumulations_are_counted_one_by_one():
    rng = np.random.default_rng(6)
    conv = rng.integers(-1, 2, (3, 2, 3, 3)).astype(np.int8)
    a = rng.integers(0, 2, (2, 6, 5))
    counted = 0
    for out in range(3):
        for y in range(4):
            for x in range(3):
                counted += int(((a[:, y : y + 3, x : x + 3] != 0) & (conv[out] != 0)).sum())
    readout = Readout(8, 4, 2)
    bias = np.zeros(3, np.int16)
    assert mnist_check.accumulations(Conv(conv, bias, (1, 1), (0, 0), readout), a) == counted
    dense = rng.integers(-1, 2, (3, 60)).astype(np.int8)
    expected = sum(int(np.count_nonzero(row[a.ravel() != 0])) for row in dense)
    assert mnist_check.accumulations(Dense(dense, bias, readout), a) == expected


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_shipped_lenet_keeps_its_promises(folder):
    bundle = open_bundle(folder)
    network = load(bundle.path("ttfs"))
    weighted = [layer for layer in network.layers if isinstance(layer, Conv | Dense)]
    assert [layer.weights.shape for layer in weighted] == list(SHAPES)
    assert sum(layer.weights.size + layer.bias.size for layer in weighted) == 26_338
    assert all((layer.weights % 2 == 0).all() for layer in weighted)
    assert bundle.manifest.input.count_scale == 255
    assert network.input_steps == bundle.manifest.input.steps
    image = np.random.default_rng(7).integers(0, 256, (1, 28, 28)).astype(np.uint8)
    times = mnist_check.times_of(bundle.manifest.input, image)[0]
    truth = run(network, times)
    for other in (closed_form(network, times), Emulator(network).trace(times)):
        np.testing.assert_array_equal(other.potential, truth.potential)


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda path: path.name)
def test_a_shipped_lenet_reads_test_images(folder):
    data = os.environ.get("FIRSTSPIKE_DATA", sets.ROOT.parent / "shared" / "data")
    if not Path(data).is_dir():
        pytest.skip("MNIST: no data folder at ../shared/data or $FIRSTSPIKE_DATA")
    images, labels = sets.mnist("t10k")
    bundle = open_bundle(folder)
    emulator = Emulator(load(bundle.path("ttfs")))
    times = mnist_check.times_of(bundle.manifest.input, images[:1000])
    wrong = sum(int(emulator.run(one).potential.argmax()) != label for one, label in zip(times, labels, strict=False))
    assert wrong <= 25, "the first 1,000 test images hold more than their share of errors, but not this many"
