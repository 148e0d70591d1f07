"""Conversion to rate coding, what it costs, and the sweep that compares it with times."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.support.onnx_nets import Net, nets
from tests.support.program import ROOT, complained, firstspike
from tests.unit.test_rate import cases

from firstspike.cli import main
from firstspike.energy.constants import addition, mac
from firstspike.errors import DataError
from firstspike.ttfs import rate
from firstspike.ttfs.convert.ann import logits
from firstspike.ttfs.convert.calibration import Samples, encode
from firstspike.ttfs.convert.convert import Options
from firstspike.ttfs.convert.normalise import normalise
from firstspike.ttfs.convert.onnx_graph import load_ann
from firstspike.ttfs.convert.rate import PERCENTILES, RatePlan, choose_rate, quantise_rate
from firstspike.ttfs.convert.sweep import COSTS, sweep
from firstspike.ttfs.count import count, fan_out, static
from firstspike.ttfs.energy import modelled
from firstspike.ttfs.file import load
from firstspike.ttfs.limits import check
from firstspike.ttfs.network import Conv, Dense, Network, Readout
from firstspike.ttfs.rate_emulator import RateEmulator

SHAPE = (1, 8, 8)


def network(seed=3):
    return Net(SHAPE, seed).conv(4, (3, 3)).relu().pool("MaxPool", (2, 2), (2, 2)).flatten().dense(6).relu().dense(3)


def samples(shape=SHAPE, n=60, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.random((n, *shape)) * (rng.random((n, *shape)) < 0.6)).astype(np.float32)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A network, samples to calibrate with, and others with the ANN's own answers as labels."""
    folder = tmp_path_factory.mktemp("inputs")
    ann = load_ann(network().save(folder / "net.onnx"))
    np.savez(folder / "x.npz", x=samples())
    held = samples(seed=2)
    np.savez(folder / "held.npz", x=held, labels=logits(ann.layers, held).argmax(1))
    return folder


# The conversion


@settings(deadline=None, max_examples=30)
@given(net=nets(), bits=st.sampled_from([4, 8]), duration=st.sampled_from([1, 16, 256]), tin=st.sampled_from([8, 255]))
def test_integers_keep_every_limit(net, bits, duration, tin, tmp_path_factory):
    ann = load_ann(net.save(tmp_path_factory.mktemp("net") / "n.onnx"))
    x = samples(ann.input_shape, 20)
    try:
        normalised = normalise(ann, x, 99.9)
        made = quantise_rate(normalised, RatePlan(tin, duration, bits)).network
    except DataError as error:
        assert "silent" in str(error) or "no scale" in str(error)  # noqa: PT017 (what a random network may meet)
        assume(False)
    check(made)
    assert (made.neuron, made.duration, made.input_steps) == ("rate", duration, tin)
    for layer in made.layers:
        if isinstance(layer, Conv | Dense):
            assert np.abs(layer.weights.astype(int)).max() <= 2 ** (bits - 1) - 1
            assert layer.readout.rounding == layer.readout.ramp // 2


def test_with_many_steps_the_logits_are_the_anns(tmp_path):
    """P = 100 and 2,000 steps: what is left is the weights' rounding."""
    ann = load_ann(network().save(tmp_path / "n.onnx"))
    x = samples(n=12)
    normalised = normalise(ann, samples(), 100)
    found = {}
    for duration in (10, 100, 2000):
        made = quantise_rate(normalised, RatePlan(255, duration))
        potential = np.stack([RateEmulator(made.network).run(one).potential for one in encode(x, 255)])
        found[duration] = np.abs(potential * made.logit * normalised.scales[-1] - logits(ann.layers, x)).mean()
    assert found[2000] < found[100] < found[10]
    assert found[2000] < 0.02 * logits(ann.layers, x).std()


def test_the_percentile_is_chosen_by_what_it_answers(tmp_path):
    ann = load_ann(network().save(tmp_path / "n.onnx"))
    found = choose_rate(ann, samples(), RatePlan(255, 12), lambda _: None)
    assert [one.percentile for one in found.tries] == list(PERCENTILES)
    assert found.best.divergence == min(one.divergence for one in found.tries)
    plain = normalise(ann, samples(), found.best.percentile)
    assert plain.scales == pytest.approx(found.normalised.scales)


# Counting


@settings(deadline=None, max_examples=40)
@given(case=cases())
def test_counts_are_the_spikes_and_their_connections(case):
    net, times = case
    net = replace(net, duration=min(net.duration, 7))  # the definition is slow
    found, result = count(net, [times]), rate.run(net, times)
    shapes = [net.input_shape, *net.shapes()]
    entering, place = times < net.input_steps, 0
    for number, layer in enumerate(net.layers):
        if isinstance(layer, Conv | Dense):
            fixed, shown = found.layers[place], found.activity[place]
            assert shown.spikes == shown.informative == result.counts[number].sum()
            assert (fixed.updates, fixed.eq9, shown.early) == (fixed.neurons * net.duration, None, 0)
            assert shown.inputs == entering.sum()
            reach = fan_out(layer, shapes[number], dense=False)  # test_count walks over every connection
            assert shown.effective == (reach * entering.reshape(shapes[number])).sum()
            place += 1
        entering = result.counts[number] if place else rate.pass_on(layer, entering)
    assert found.first_output_step == result.first_spike.min()


def test_the_modelled_energy_is_operations_times_constants():
    assert (addition(24, 8), addition(8, 24), addition(24, 24), mac(8, 8)) == (32, 32, 24, 64)
    layer = Dense(np.int8([[2, 0], [4, 6]]), np.zeros(2, np.int16), Readout(1, 4, 0))
    last = Dense(np.int8([[2, 2]] * 2), np.zeros(2, np.int16), Readout(1, 100, 0))
    net = Network("rate", (2, 1, 1), 1, (layer, last), 3)
    found = count(net, [np.uint8([[[0]], [[1]]])])  # only the first input flows
    # Currents of 2 and 4 against a threshold of 4, 3 steps: 1 spike and 3, of which each reaches both outputs.
    first, second = found.activity
    assert (first.spikes, second.spikes) == (4, 0)
    energy = modelled(found)
    assert (first.effective, second.effective) == (2, 8)
    assert energy.bit_operations == 2 * 64 + second.effective * 32 + 4 * 3 * 24
    assert energy.loihi_nj == pytest.approx(((2 + second.effective) * 23.6 + 12 * 81) / 1000)
    assert energy.ann_bit_operations_fp32 == 8 * 1024
    assert modelled(static(net)) is None


# Commands


def test_convert_writes_a_bundle_that_runs(inputs, tmp_path, capsys):
    argv = ["convert", str(inputs / "net.onnx"), "--calibration", str(inputs / "x.npz"), "--coding", "rate"]
    assert main([*argv, "--steps", "300", "--out", str(tmp_path / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chosen"]["percentile"] in PERCENTILES
    assert [layer["steps"] for layer in found["layers"]] == [300] * 3
    assert found["agreement"] > 0.95
    made = load(tmp_path / "b" / "network.npz")
    assert (made.neuron, made.duration, made.input_steps) == ("rate", 300, 255)
    manifest = json.loads((tmp_path / "b" / "bundle.json").read_text())
    assert (manifest["input"]["steps"], manifest["input"]["count_scale"]) == (255, 255)
    assert main(["inspect", str(tmp_path / "b"), "--data", str(inputs / "x.npz"), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["steps"], shown["total"]["eq9"]) == (300, None)
    assert shown["modelled_energy"]["loihi_nj"] > 0
    assert main(["inspect", str(tmp_path / "b"), "--data", str(inputs / "x.npz")]) == 0
    assert "rate neurons" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (("--steps", "0"), "--steps 0: a rate-coded inference takes 1 to 4096"),
        (("--steps", "5000"), "--steps 5000: a rate-coded inference takes 1 to 4096"),
        (("--steps", "8", "--neuron", "gated"), "--neuron gated: is for --coding ttfs"),
        (("--steps", "8", "--steps-per-layer", "8,8,8"), "--steps-per-layer: with rate coding"),
        (("--steps", "8", "--input-steps", "300"), "--input-steps 300: T must be 1 to 255"),
        (("--steps", "8", "--percentile", "-1"), "--percentile -1: must be above 0"),
    ],
)
def test_convert_refuses(inputs, tmp_path, capsys, more, part):
    argv = ["convert", str(inputs / "net.onnx"), "--calibration", str(inputs / "x.npz"), "--coding", "rate"]
    assert main([*argv, *more, "--out", str(tmp_path / "b")]) == os.EX_USAGE
    assert part in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def swept(inputs, capsys, *more):
    argv = ["sweep", str(inputs / "net.onnx"), "--calibration", str(inputs / "x.npz")]
    code = main([*argv, "--data", str(inputs / "held.npz"), *more])
    return code, *capsys.readouterr()


def test_sweep_prints_what_accuracy_costs(inputs, capsys):
    code, out, _ = swept(
        inputs, capsys, "--coding", "rate,gated", "--steps", "4,16", "--percentiles", "99.9,90", "--json"
    )
    assert code == 0
    found = json.loads(out)
    assert (found["samples"], found["ann_error"]) == (60, 0)  # the labels are its answers
    points = found["points"]
    assert [(one["neuron"], one["parameter"]) for one in points] == [
        (neuron, steps) for neuron in ("gated", "rate") for steps in (4, 4, 16, 16)
    ]
    assert [one["steps"] for one in points] == [12, 12, 48, 48, 4, 4, 16, 16]
    assert all(one["agreement"] == pytest.approx(1 - one["error"]) for one in points)
    assert all(one["spikes"] == 153 for one in points[:4])
    assert points[6]["spikes"] > points[4]["spikes"]
    assert points[7]["spikes"] > points[6]["spikes"]  # lower thresholds
    for one in points:
        beaten = any(
            all(other[cost] <= one[cost] for cost in COSTS) and any(other[cost] < one[cost] for cost in COSTS)
            for other in points
        )
        assert one["front"] == (not beaten)
    assert any(one["front"] for one in points)
    code, out, _ = swept(inputs, capsys, "--steps", "8", "--samples", "20")
    assert code == 0
    assert "20 samples" in out
    assert "modelled, not measured" in out
    assert "rate   *" in out


def test_sweep_refuses(inputs, tmp_path, capsys):
    for more, code, part in (
        (("--steps", "0"), os.EX_USAGE, "--steps 0"),
        (("--steps", "8", "--bits", "1"), os.EX_USAGE, "--bits 1"),
        (("--steps", "8", "--percentiles", "101"), os.EX_USAGE, "--percentile 101"),
    ):
        found = swept(inputs, capsys, *more)
        assert found[:2] == (code, "")
        assert part in found[2]
    argv = ["sweep", str(inputs / "net.onnx"), "--calibration", str(inputs / "x.npz"), "--steps", "8"]
    assert main([*argv, "--data", str(inputs / "x.npz")]) == os.EX_DATAERR
    assert "no array 'labels'" in capsys.readouterr().err
    for wrong in (("--coding", "rate,morse"), ("--percentiles", "auto,much"), ("--steps", "8,")):
        with pytest.raises(SystemExit):
            main([*argv, "--data", str(inputs / "held.npz"), *wrong])
        assert wrong[0] in capsys.readouterr().err


def test_a_sweep_leaves_out_what_cannot_be_made(tmp_path):
    ann = load_ann(network().save(tmp_path / "n.onnx"))
    x = samples()
    data = Samples(x, logits(ann.layers, x).argmax(1))
    grid = [("gated", 1, 1e-6), ("rate", 8, None)]
    steep = replace(
        ann, layers=(replace(ann.layers[0], bias=np.float32([3e6, 0, 0, 0])), *ann.layers[1:])
    )  # the lowest percentile is another channel's
    found = sweep(steep, x, data, grid, Options(8, bits=3), lambda _: None)
    assert [one.neuron for one in found.points] == ["rate"]
    assert len(found.refused) == 1
    assert "gated, 1 steps" in found.refused[0]
    with pytest.raises(DataError, match="no conversion could be made; the first: gated"):
        sweep(steep, x, data, grid[:1], Options(8, bits=3), lambda _: None)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A rate-coded bundle for recordings of 34×34, of a network with random weights."""
    folder = tmp_path_factory.mktemp("rate")
    net = Net((2, 34, 34), 5).conv(3, (5, 5), (3, 3)).relu().flatten().dense(4)
    rng = np.random.default_rng(6)
    np.savez(folder / "x.npz", x=(rng.integers(0, 9, (20, 2, 34, 34)) / 8).astype(np.float32))
    argv = ["convert", str(net.save(folder / "n.onnx")), "--calibration", str(folder / "x.npz"), "--coding", "rate"]
    assert main([*argv, "--steps", "20", "--percentile", "99", "--count-scale", "8", "--out", str(folder / "b")]) == 0
    return folder / "b"


def test_a_bundle_replays_and_evaluates(bundle, tmp_path):
    recording = ROOT / "tests" / "replay" / "cases" / "drawn-digits" / "recording.aedat4"
    runs = [firstspike("replay", recording, "--model", bundle, "--speed", "max", "--json") for _ in range(2)]
    assert [run.returncode for run in runs] == [0, 0], runs[0].stderr
    assert runs[0].stdout == runs[1].stdout
    decisions = [json.loads(line) for line in runs[0].stdout.splitlines()]
    assert {one["backend"] for one in decisions} == {"emulator"}
    assert {one["label"] for one in decisions} <= {"0", "1", "2", "3", None}
    steps = [one["first_spike_step"] for one in decisions if one["first_spike_step"] is not None]
    assert steps
    assert max(steps) < 20
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "one.aedat4").write_bytes(recording.read_bytes())
    found = firstspike("evaluate", tmp_path, "--model", bundle, "--json")
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["n"] == 1


def test_the_definitions_back_end_refuses_it(bundle):
    recording = ROOT / "tests" / "replay" / "cases" / "drawn-digits" / "recording.aedat4"
    done = firstspike(
        "replay", recording, "--model", bundle, "--speed", "max", "--set", 'schedule.plans=["definition"]'
    )
    complained(done, os.EX_CONFIG, "network.npz", "numbers of spikes", "emulator")
