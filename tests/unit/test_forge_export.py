"""What the forge writes, and the bundle in models/nmnist that it wrote."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from firstspike.bundle import open_bundle
from firstspike.encode import Encoder
from firstspike.errors import BundleError
from firstspike.simulate.scene import digit_sequence
from firstspike.ttfs.definition import run, weigh
from firstspike.ttfs.emulator import Emulator
from firstspike.ttfs.file import load
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Readout
from models.forge import export, sets

BUNDLE = sets.ROOT / "models" / "nmnist"


def trained(seed: int = 0) -> export.Integers:
    rng = np.random.default_rng(seed)
    weights = [2 * rng.integers(-63, 64, shape) for shape in ((3, 2, 3, 3), (4, 3, 2, 2), (5, 4 * 4 * 4))]
    return export.Integers(weights, [300, 401, 77], rng.integers(-254, 255, 5), [True, False], 12, 8)


def test_the_network_has_the_trained_integers_and_rounds_to_nearest():
    given = trained()
    network = export.network(given)
    assert [type(layer) for layer in network.layers] == [Conv, MaxPool, Conv, Flatten, Dense]
    weighted = [layer for layer in network.layers if isinstance(layer, Conv | Dense)]
    for layer, weights, ramp in zip(weighted, given.weights, given.ramps, strict=True):
        np.testing.assert_array_equal(layer.weights, weights)
        assert layer.readout == Readout(8, ramp, ramp // 2)
    np.testing.assert_array_equal(weighted[-1].bias, given.bias)
    times = np.random.default_rng(1).integers(0, 9, (2, 12, 12)).astype(np.uint8)
    a = 8 - times.astype(np.int64)
    for layer in network.layers:  # the closed form of DESIGN.md, written out once more
        if isinstance(layer, MaxPool):
            a = a.reshape(3, 5, 2, 5, 2).max((2, 4))
        elif isinstance(layer, Flatten):
            a = a.reshape(-1, 1, 1)
        else:
            u = weigh(layer, a) + 8 * layer.bias.astype(np.int64)[:, None, None]
            a = np.clip((u + layer.readout.ramp // 2) // layer.readout.ramp, 0, 8)
    np.testing.assert_array_equal(run(network, times).potential, u.ravel())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda t: t.weights[1].__setitem__((0, 0, 0, 0), 128), "weighted layer 1: a weight of 128"),
        (lambda t: t.bias.__setitem__(2, -255), "weighted layer 2: a bias of 255"),
    ],
)
def test_numbers_that_do_not_fit_are_named(change, text):
    given = trained()
    change(given)
    with pytest.raises(ValueError, match=text):
        export.network(given)


def test_a_potential_beyond_the_limit_is_named():
    wide = export.Integers([np.full((2, 9000), 126)], [9], np.zeros(2, int), [], 1, 8)
    with pytest.raises(ValueError, match=r"weighted layer 0: potentials could reach 9072000"):
        export.network(wide)


def test_the_twin_computes_what_its_weights_say_at_opset_13_with_static_shapes():
    rng = np.random.default_rng(0)
    weights = [rng.normal(0, 0.3, w.shape).astype(np.float32) for w in trained().weights]
    bias = rng.normal(0, 1, 5).astype(np.float32)
    model = export.onnx_model(weights, bias, [True, False], 12)
    assert [entry.version for entry in model.opset_import] == [13]
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, 2, 12, 12]
    p = rng.random((1, 2, 12, 12)).astype(np.float32)
    x = p[0].astype(float)
    for number, weight in enumerate(weights[:-1]):
        kernel = weight.shape[2]
        patches = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(1, 2))
        x = np.maximum(np.einsum("chwyx,ocyx->ohw", patches, weight), 0)
        if number == 0:
            x = x.reshape(3, 5, 2, 5, 2).max((2, 4))
    truth = weights[-1] @ x.ravel() + bias
    np.testing.assert_allclose(ReferenceEvaluator(model).run(None, {"p": p})[0][0], truth, rtol=1e-4, atol=1e-4)


def test_a_sealed_folder_opens_and_a_changed_one_does_not(tmp_path):
    manifest = json.loads((BUNDLE / "bundle.json").read_text(encoding="utf-8"))
    del manifest["files"]
    weights = [w.astype(np.float32) for w in trained().weights]
    twin = export.onnx_model(weights, np.zeros(5, np.float32), [True, False], 12)
    export.write_networks(tmp_path, export.network(trained()), twin)
    export.seal(tmp_path, manifest, {"ttfs": "network.npz", "ann": "ann.onnx"})
    bundle = open_bundle(tmp_path)
    np.testing.assert_array_equal(load(bundle.path("ttfs")).layers[0].weights, trained().weights[0])
    first = (tmp_path / "network.npz").read_bytes()
    export.write_networks(tmp_path, export.network(trained()), twin)
    assert (tmp_path / "network.npz").read_bytes() == first
    (tmp_path / "ann.onnx").write_bytes(b"other")
    with pytest.raises(BundleError, match="sha256"):
        open_bundle(tmp_path)


def test_the_bundle_is_small_and_its_two_networks_have_one_shape():
    bundle = open_bundle(BUNDLE)
    assert sum(path.stat().st_size for path in BUNDLE.iterdir()) < 500_000
    network, twin = load(bundle.path("ttfs")), onnx.load(bundle.path("ann"))
    onnx.checker.check_model(twin, full_check=True)
    assert [entry.version for entry in twin.opset_import] == [13]
    ours = [layer.weights.shape for layer in network.layers if isinstance(layer, Conv | Dense)]
    assert ours == [tuple(entry.dims) for entry in twin.graph.initializer if entry.name.startswith("w")]
    spec = bundle.manifest.input
    assert network.input_shape == (spec.channels, spec.height, spec.width)
    assert network.input_steps == spec.steps
    assert network.shapes()[-1] == (len(bundle.manifest.labels), 1, 1)


def test_every_weight_of_the_bundle_fits_loihi():
    for layer in load(open_bundle(BUNDLE).path("ttfs")).layers:
        if isinstance(layer, Conv | Dense):
            assert (layer.weights % 2 == 0).all()
            assert np.abs(layer.bias.astype(int)).max() <= 254


def test_the_bundle_and_its_twin_recognise_drawn_digits():
    bundle = open_bundle(BUNDLE)
    emulator, encoder = Emulator(load(bundle.path("ttfs"))), Encoder(bundle.manifest.input, 34, 34)
    twin = ReferenceEvaluator(str(bundle.path("ann")))
    seen = right = twin_right = 0
    for digit, events in digit_sequence([number % 10 for number in range(30)], seed=41):
        begin = int(events["t"][0]) // 50_000 * 50_000
        window = events[events["t"] < begin + 50_000]
        times = encoder.encode(window, begin, begin + 50_000).times
        p = (8 - times[None].astype(np.float32)) / 8
        seen += 1
        right += int(emulator.run(times).potential.argmax()) == digit
        twin_right += int(twin.run(None, {"p": p})[0].argmax()) == digit
    assert right >= 0.9 * seen
    assert twin_right >= 0.9 * seen
