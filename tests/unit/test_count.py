"""Counting is exact: equal to a brute-force walk over every connection, and to LeNet's known figures."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.program import DATA, ROOT, complained, firstspike
from tests.unit.networks import cases, inputs, lenet, networks

from firstspike.ttfs.count import count, static
from firstspike.ttfs.definition import run
from firstspike.ttfs.network import Conv, Dense, Network, Readout


def connections(layer, shape):
    """Every (output, input, weight) of a layer; inputs are (channel, y, x), the padding's zeros are none."""
    if isinstance(layer, Dense):
        for out, row in enumerate(layer.weights):
            for place, weight in zip(np.ndindex(*shape), row, strict=True):
                yield (out, 0, 0), place, weight
        return
    outs, ins, kernel_height, kernel_width = layer.weights.shape
    rows, columns = (
        (side + 2 * pad - part) // by + 1
        for side, pad, part, by in zip(
            shape[1:], layer.padding, layer.weights.shape[2:], layer.stride, strict=True
        )
    )  # fmt: skip
    for out, row, column in itertools.product(range(outs), range(rows), range(columns)):
        for c, y, x in itertools.product(range(ins), range(kernel_height), range(kernel_width)):
            place = (c, row * layer.stride[0] + y - layer.padding[0], column * layer.stride[1] + x - layer.padding[1])
            if 0 <= place[1] < shape[1] and 0 <= place[2] < shape[2]:
                yield (out, row, column), place, layer.weights[out, c, y, x]


@settings(deadline=None, max_examples=60)
@given(case=cases())
def test_equals_the_walk_over_every_connection(case):
    network, times = case
    # The definition and the walk are slow: small networks show the same.
    assume(static(network).total("macs") <= 30_000 and network.input_steps <= 16)
    found, result = count(network, [times]), run(network, times)
    active, shape, place = times < network.input_steps, network.input_shape, 0
    for number, (layer, frame) in enumerate(zip(network.layers, network.frames(), strict=True)):
        spikes = result.spike_steps[number]
        if isinstance(layer, Conv | Dense):
            walked = list(connections(layer, shape))
            fixed, shown = found.layers[place], found.activity[place]
            assert fixed.number == number
            assert fixed.synapses == len(walked)
            assert fixed.neurons == shown.spikes == spikes.size
            worked = sum(frame.start <= t < frame.last for t in range(network.frames()[-1].last))
            assert fixed.eq9 == len(walked) + worked * spikes.size
            assert fixed.zero_weights == np.count_nonzero(layer.weights.ravel() == 0)
            assert shown.inputs == np.count_nonzero(active)
            given_ = active.reshape(shape)
            assert shown.effective == sum(bool(given_[source]) for _, source, weight in walked if weight)
            assert shown.informative == np.count_nonzero(spikes != frame.last)
            assert shown.early == sum(spike < frame.end for spike in spikes.ravel())
            place += 1
        active, shape = spikes < frame.last, spikes.shape
    assert place == len(found.layers) == len(found.activity)
    assert found.first_output_step == result.first_spike.min()


@settings(deadline=None, max_examples=30)
@given(network=networks())
def test_macs_are_the_connections_and_those_to_the_padding(network):
    found, shapes = static(network), [network.input_shape, *network.shapes()]
    for one in found.layers:
        layer = network.layers[one.number]
        if isinstance(layer, Conv):
            py, px = layer.padding
            channels, height, width = shapes[one.number]
            bare = Conv(layer.weights, layer.bias, layer.stride, (0, 0), layer.readout)
            padded = Network("gated", (channels, height + 2 * py, width + 2 * px), 1, (bare,))
            assert one.macs == static(padded).layers[0].synapses >= one.synapses
        else:
            assert one.macs == one.synapses


def test_lenet_has_its_known_figures():
    found = static(lenet("gated", 16))
    totals = {name: found.total(name) for name in ("parameters", "neurons", "macs", "synapses", "eq9")}
    assert totals == {
        "parameters": 26_338, "neurons": 4_354, "macs": 225_840, "synapses": 225_840, "eq9": 225_840 + 139_328,
    }  # fmt: skip
    assert (found.steps_to_answer, found.steps, found.input_pixels) == (64, 80, 784)
    assert found.activity is None


def test_means_are_over_all_inferences():
    layer = Dense(np.array([[3, 0, 3], [0, 0, 5]], np.int8), np.zeros(2, np.int16), Readout(4, 3, 0))
    network = Network("gated", (3, 1, 1), 4, (layer,))
    shown = [np.array(times, np.uint8).reshape(3, 1, 1) for times in ([0, 0, 4], [4, 4, 4], [4, 3, 1], [0, 0, 0])]
    found = count(network, shown)
    assert found.inferences == 4
    assert found.activity[0].effective == (1 + 0 + 2 + 3) / 4
    assert found.activity[0].inputs == found.input_informative == (2 + 0 + 2 + 3) / 4
    # Activations: (4, 0), (0, 0), (3, 4: 3·5 // 3 is 5, clipped), (4, 4).
    assert found.activity[0].informative == (1 + 0 + 2 + 2) / 4
    assert found.first_output_step == (4 + 8 + 4 + 4) / 4


@settings(deadline=None, max_examples=20)
@given(network=networks("gated"), data=st.data())
def test_a_gated_neuron_is_never_early(network, data):
    assert count(network, [data.draw(inputs(network))]).total_activity("early") == 0


def test_inspect_prints_what_is_static_and_what_samples_show(tmp_path):
    still = json.loads(firstspike("inspect", "nmnist", "--json").stdout)
    assert still["activity"] is None
    assert still["total"]["neurons"] == sum(layer["neurons"] for layer in still["layers"]) == 17_242
    rng = np.random.default_rng(0)
    samples = (rng.random((5, 2, 34, 34)) * (rng.random((5, 2, 34, 34)) < 0.2)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=samples)
    shown = json.loads(firstspike("inspect", "nmnist", "--data", tmp_path / "x.npz", "--json").stdout)
    assert shown["inferences"] == 5
    assert shown["input_informative"] == pytest.approx(np.count_nonzero(samples) / 5)
    assert 0 < shown["total"]["effective"] < shown["total"]["macs"]
    text = firstspike("inspect", "nmnist", "--data", tmp_path / "x.npz").stdout
    assert f"{shown['total']['effective']:.0f} effective ACs" in text
    assert "5 inferences" in text


def test_inspect_counts_the_windows_of_recordings(tmp_path):
    assert firstspike("simulate", tmp_path / "d.aedat4", "--digits", "3").returncode == 0
    replayed = firstspike("replay", tmp_path / "d.aedat4", "--model", "nmnist", "--speed", "max", "--json").stdout
    spoke = [line for line in map(json.loads, replayed.splitlines()) if line["window"]["label"] is not None]
    found = json.loads(firstspike("inspect", "nmnist", "--recordings", tmp_path / "d.aedat4", "--json").stdout)
    assert found["inferences"] == len(spoke) > 2
    np.savez(tmp_path / "events.npz", t=np.arange(9), x=np.ones(9, int), y=np.ones(9, int), p=np.ones(9, int))
    few = firstspike("inspect", "nmnist", "--recordings", tmp_path / "events.npz")
    complained(few, 65)


def test_inspect_refuses(tmp_path):
    complained(firstspike("inspect", tmp_path), 66, "no model bundle here")
    complained(firstspike("inspect", "nmnist", "--data", tmp_path / "no.npz"), 66, "no.npz")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 1, 28, 28), np.float32))
    complained(firstspike("inspect", "nmnist", "--data", tmp_path / "x.npz"), 65, "(2, 1, 28, 28)", "2, 34, 34")


@pytest.mark.skipif(not (DATA / "nmnist").is_dir(), reason="N-MNIST: no ../shared/data/nmnist")
def test_the_shipped_model_on_a_real_recording():
    sample = DATA / "nmnist" / "Train"
    path = sorted(sample.rglob("*.bin"))[0]
    found = json.loads(firstspike("inspect", ROOT / "models" / "nmnist", "--recordings", path, "--json").stdout)
    assert found["inferences"] >= 3
    assert 0 < found["total"]["effective"] < found["total"]["macs"]
