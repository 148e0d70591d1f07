"""What a model with a spiking front costs: counted by another way than the code's, and as the commands print it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import numpy_helper
from tests.support.onnx_nets import Net
from tests.unit.cuba_networks import random_frames, random_network

from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.cuba import definition
from firstspike.cuba.network import Flatten
from firstspike.hybrid import count
from firstspike.hybrid.onnx_run import Chain
from firstspike.simulate.scene import SIDE, digit_sequence
from firstspike.sources.aedat4_writer import write_aedat4

HYBRID = Path(__file__).parents[2] / "models" / "dvs128-hybrid"


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("digits") / "digits.aedat4"
    ((_, events),) = digit_sequence([3], seed=7)
    write_aedat4(path, iter([events]), SIDE, SIDE, source="a test (simulated)")
    return path


def brute(layer, shape, frames):
    """Synaptic operations: the weights that are not 0 which each spike meets, one spike at a time."""
    there = type(layer)(**{
        name: (layer.weights != 0).astype(np.int16) if name == "weights" else getattr(layer, name)
        for name in layer.__slots__
    })  # fmt: skip
    total = 0
    for place in np.argwhere(frames.any(0)):
        alone = np.zeros(shape, np.int64)
        alone[tuple(place)] = 1
        total += int(definition._weigh(there, alone).sum()) * int(frames[(slice(None), *place)].sum())
    return total


@pytest.mark.parametrize("seed", range(12))
def test_operations_are_the_weights_that_spikes_meet(seed, monkeypatch):
    rng = np.random.default_rng(seed)
    network = random_network(rng)
    shown = [random_frames(rng, network, 7) for _ in range(2)]
    monkeypatch.setattr(count, "network_of", lambda _: network)
    bundle = open_bundle(HYBRID)
    manifest = bundle.manifest.model_copy(
        update={
            "parts": bundle.manifest.parts.model_copy(update={"interval": None}),
            "input": bundle.manifest.input.model_copy(update={"steps": 7}),
        }
    )
    found = count.count(type(bundle)(bundle.folder, manifest, ""), shown)
    assert (found.windows, found.link_shape, found.back) == (2, None, None)
    traced = [definition.run(network, frames) for frames in shown]
    before = [shown, *([one.spikes[number] for one in traced] for number in range(len(network.layers)))]
    layers = {layer.number: layer for layer in found.front}
    shapes = [network.input_shape, *network.shapes()]
    for number, layer in enumerate(network.layers):
        if isinstance(layer, Flatten):
            assert number not in layers
            continue
        mine = layers[number]
        assert mine.shape == shapes[number + 1]
        assert mine.updates == 7 * np.prod(mine.shape)
        assert mine.inputs == sum(int(one.sum()) for one in before[number]) / 2
        assert mine.spikes == sum(int(one.sum()) for one in before[number + 1]) / 2
        assert mine.synaptic == sum(brute(layer, shapes[number], one) for one in before[number]) / 2


def test_the_backs_macs_are_outputs_times_fan_in():
    net = Net((3, 9, 8), 1, opset=13).conv(5, (3, 3), (2, 2), (1, 1)).node("Relu")
    size = int(np.prod(net.shape))
    weight = net.constant("wd", net.rng.normal(0, 0.2, (6, size)))
    model = net.node("Flatten", shape=(size,), axis=1).node("Gemm", weight, shape=(6,), transB=1).model()
    found = Chain(model.SerializeToString()).layers
    assert [layer.kind for layer in found] == ["conv", "gemm"]
    assert [layer.macs for layer in found] == [5 * 5 * 4 * 3 * 3 * 3, 6 * size]
    weights = [numpy_helper.to_array(one).size for one in model.graph.initializer]
    assert sum(layer.parameters for layer in found) == sum(weights)


def test_inspect_tells_each_part(capsys, recording):
    assert main(["inspect", str(HYBRID), "--recordings", str(recording), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    bundle = open_bundle(HYBRID)
    assert found["windows"] > 0
    assert found["link"]["bytes"] == np.prod(found["link"]["shape"])
    assert found["link"]["bytes_as_events"] == 4 * found["front"]["layers"][-1]["spikes"]
    assert found["interval"] == bundle.manifest.parts.interval
    front = found["front"]["total"]
    modelled = (front["synaptic"] * 23.6 + front["updates"] * 81) / 1e3
    assert found["front"]["modelled_nj"] == pytest.approx(modelled)
    assert found["modelled_nj"] == pytest.approx(modelled + found["back"]["macs"] * 4.6 / 1e3)
    assert main(["inspect", str(HYBRID), "--recordings", str(recording)]) == 0
    said = capsys.readouterr().out
    for part in ("front", "link", "back", "updates", "as a list of spikes", "MACs", "not by a meter"):
        assert part in said


def test_inspect_without_windows_tells_what_is_known_without(capsys):
    assert main(["inspect", str(HYBRID)]) == 0
    said = capsys.readouterr().out
    assert "nothing: name --recordings" in said
    assert "nJ" not in said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", str(HYBRID), "--data", "x.npz"], "give --recordings"),
        (["dense", str(HYBRID)], "only a TTFS network has a dense form"),
    ],
)
def test_commands_that_a_hybrid_is_not_for_say_why(capsys, arguments, says):
    assert main(arguments) in (64, 78)
    assert says in capsys.readouterr().err


def test_bench_puts_plans_of_parts_beside_each_other(capsys, recording):
    again = "backend.again.kind=emulator"
    plans = "emulator,emulator+again,null+emulator,emulator+null"
    code = main([
        "bench", "--model", str(HYBRID), "--plans", plans, "--set", again, "--windows", "3",
        "--recordings", str(recording), "--json",
    ])  # fmt: skip
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert code == 69
    for name in ("emulator", "emulator+again"):
        assert rows[name]["ran"]
        assert rows[name]["same"] == rows[name]["windows"] > 0
        assert rows[name]["largest"] == 0
        taken = rows[name]["parts"]
        assert taken["front_us"] > 0
        assert taken["back_us"] > 0
        assert (taken["link_us"], taken["link_bytes"]) == (None, np.prod(Chain(
            open_bundle(HYBRID).path("back").read_bytes()).input_shape))  # fmt: skip
    assert "cannot run the model's front" in rows["null+emulator"]["reason"]
    assert "cannot run the model's back" in rows["emulator+null"]["reason"]


def test_bench_lists_every_back_that_there_is_and_twins_of_none(capsys):
    from firstspike.benchmark import contestants
    from firstspike.config_layers import read_layers

    layers = read_layers(None, ["backend.fast.kind=openvino"], {})
    names = contestants.all_names(layers, open_bundle(HYBRID))
    assert names[0] == "emulator"
    assert {"emulator+fast", "emulator+openvino", "emulator+ncs2", "emulator+tensorrt"} <= set(names)
    assert not [name for name in names if name.endswith(("-ann", "+null", "+lava", "+definition", "+emulator"))]
