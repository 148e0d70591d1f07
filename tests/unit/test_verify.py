"""`firstspike verify`: the first difference is found and named, and who cannot be asked is refused."""

import json
import sys
import types

import numpy as np
import pytest
from tests.support import lava as lavas
from tests.support.program import ROOT
from tests.unit.cuba_networks import random_frames, random_network
from tests.unit.test_provisional import bundle_of
from tests.unit.test_rate import coded

from firstspike import plugins, verify_network
from firstspike.backends import _lava_chip, _lava_plan, _lava_run, lava
from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.errors import BundleError
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout
from firstspike.types import Frame
from firstspike.verify import Verifiable, verify
from firstspike.verify_network import first_difference
from firstspike.worker.backend import Answers
from firstspike.worker.shim import AbsentError

MODELS = ROOT / "models"
NETWORK = lavas.network(1, "quartz")
TIMES = lavas.window(NETWORK, 0)
SPIKING = verify_network.times(NETWORK)


FLIP = object()
"""A spike for none, and none for a spike."""


def changed(shown, number, place, by):
    layers = [layer.copy() for layer in shown.layers]
    layers[number][place] = layers[number][place] + by if by is not FLIP else 1 - layers[number][place]
    return shown._replace(layers=tuple(layers))


def test_equal_runs_have_no_difference():
    assert first_difference(SPIKING, 0, SPIKING.define(TIMES), SPIKING.emulate(TIMES)) is None


def test_the_first_difference_is_that_of_the_earliest_layer():
    shown = SPIKING.define(TIMES)
    found = changed(changed(shown, 2, (3, 0, 0), 2), 1, (0, 0, 1), -1)
    expected = int(shown.layers[1][0, 0, 1])
    difference = first_difference(SPIKING, 7, shown, found)
    assert (difference.where, difference.neuron) == ("layer 1 (MaxPool)", (0, 0, 1))
    assert (difference.expected, difference.found, difference.step) == (expected, expected - 1, None)
    said = f"neuron (0, 0, 1) spikes at step {expected - 1}, in the emulator at step {expected}"
    assert str(difference) == f"window 7: layer 1 (MaxPool), {said}"


@pytest.mark.parametrize("field", ["potential", "first_spike"])
def test_an_answer_that_differs_is_found_where_no_spike_does(field):
    shown = SPIKING.define(TIMES)
    array = shown.answer[field].copy()
    array[4] += 1
    found = first_difference(SPIKING, 0, shown, shown._replace(answer={**shown.answer, field: array}))
    assert found.neuron == (4,)
    assert f"{field.replace('_', ' ')} of output 4 is {array[4]}, in the emulator {array[4] - 1}" in str(found)


def test_numbers_of_spikes_are_compared_where_values_are_rates():
    network = coded(lavas.network(2, "gated"), 25)
    spiking, times = verify_network.rates(network), lavas.window(network, 1)
    shown = spiking.emulate(times)
    assert first_difference(spiking, 0, shown, spiking.define(times)) is None
    assert spiking.spikes(shown) == sum(int(layer.sum()) for layer in shown.layers) > 0
    count = int(shown.layers[1][0, 0, 0])
    said = str(first_difference(spiking, 3, shown, changed(shown, 1, (0, 0, 0), 1)))
    assert said == (
        f"window 3: layer 1 (MaxPool), neuron (0, 0, 0) spikes {count + 1} times, in the emulator {count} times"
    )


def test_every_step_is_compared_in_a_hybrids_front():
    rng = np.random.default_rng(8)
    network = random_network(rng)
    spiking, frames = verify_network.front(network, 9), random_frames(rng, network, 9)
    shown = spiking.emulate(frames)
    assert first_difference(spiking, 0, shown, spiking.define(frames)) is None
    place = tuple(int(index) for index in np.argwhere(shown.layers[0])[-1])
    silent = changed(shown, 0, place, FLIP)
    difference = first_difference(spiking, 2, shown, silent)
    assert (difference.step, difference.neuron) == (place[0], place[1:])
    assert f"is silent at step {place[0]}, in the emulator it spikes" in str(difference)
    assert "spikes at step" in str(first_difference(spiking, 2, silent, shown))


def test_wraps_are_compared_with_a_back_end_that_counts_them():
    rng = np.random.default_rng(8)
    network = random_network(rng)
    spiking, frames = verify_network.front(network, 9), random_frames(rng, network, 9)
    shown = spiking.emulate(frames)
    untold, wrong = shown._replace(answer={}), shown._replace(answer={"wraps": shown.answer["wraps"] + 2})
    assert first_difference(spiking, 0, shown, untold) is None
    assert "wraps of output 0 is 2, in the emulator 0" in str(first_difference(spiking, 0, shown, wrong))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spikes_1": None}, "'spikes_1' is missing"),
        ({"spikes_1": np.zeros((9, 1, 1, 1), np.uint8)}, r"must be uint8 of \(9, "),
        ({"spikes_0": np.zeros((3, 3), np.int32)}, r"'spikes_0' is int32 of shape \(3, 3\)"),
    ],
)
def test_a_workers_answer_is_checked_for_its_form(changes, reason):
    network = random_network(np.random.default_rng(8))
    spiking = verify_network.front(network, 9)
    arrays = {f"spikes_{number}": np.zeros((9, *shape), np.uint8) for number, shape in enumerate(network.shapes())}
    assert len(spiking.read(arrays).layers) == len(network.layers)
    broken = {key: array for key, array in {**arrays, **changes}.items() if array is not None}
    with pytest.raises(ValueError, match=reason):
        spiking.read(broken)


def test_it_stops_at_the_window_that_differs():
    asked = []

    def ask(times):
        asked.append(times)
        shown = SPIKING.define(times)
        return changed(shown, 3, (6, 0, 0), 1) if len(asked) == 2 else shown

    found = verify(SPIKING, ask, [lavas.window(NETWORK, seed) for seed in range(5)], lambda _: None)
    assert (found.windows, len(asked), found.difference.window) == (2, 2, 1)
    assert str(found.difference).startswith("window 1: layer 3 (Dense), neuron (6, 0, 0) spikes at step")


def test_the_definition_verifies_and_says_so(capsys):
    assert main(["verify", "mnist-lenet", "--on", "definition", "--windows", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["equal"], said["windows"], said["difference"]) == (True, 2, None)
    assert said["spikes"] == 2 * (6 * 24 * 24 + 6 * 12 * 12 + 12 * 8 * 8 + 12 * 4 * 4 + 120 + 120 + 10)
    assert said["wraps"] is None


def test_the_definition_verifies_a_hybrids_front_and_tells_its_wraps(capsys):
    assert main(["verify", "dvs128-hybrid", "--on", "definition", "--windows", "2"]) == 0
    said = capsys.readouterr().out
    assert "dvs128-hybrid@1.0.0 on definition: equal in every spike" in said
    assert "currents left 24 bits 0 times" in said


def test_a_wrong_spike_is_found_and_named_and_ends_with_65(capsys, monkeypatch):
    ask = Verifiable.ask
    monkeypatch.setattr(Verifiable, "ask", lambda self, times: changed(ask(self, times), 2, (1, 3, 4), 1))
    assert main(["verify", "mnist-lenet", "--on", "definition", "--windows", "1"]) == 65
    assert "window 0: layer 2 (Conv), neuron (1, 3, 4) spikes at step" in capsys.readouterr().out


def test_a_wrong_spike_of_a_front_ends_with_65_and_is_named(capsys, monkeypatch):
    ask = Verifiable.ask
    monkeypatch.setattr(Verifiable, "ask", lambda self, frames: changed(ask(self, frames), 0, (3, 2, 5, 4), FLIP))
    assert main(["verify", "dvs128-hybrid", "--on", "definition", "--windows", "1", "--json"]) == 65
    found = json.loads(capsys.readouterr().out)["difference"]
    assert (found["where"], found["neuron"], found["step"]) == ("layer 0 (Conv)", [2, 5, 4], 3)


def test_a_back_end_without_spikes_is_refused_with_those_that_have_them(capsys):
    assert main(["verify", "mnist-lenet", "--on", "openvino"]) == 64
    assert "use definition or lava" in capsys.readouterr().err


def test_an_unknown_name_is_refused(capsys):
    assert main(["verify", "mnist-lenet", "--on", "lawa"]) == 78
    assert "lawa" in capsys.readouterr().err


def dense(weights, steps=8, ramp=100):
    return Dense(np.array(weights, np.int8), np.zeros(len(weights), np.int16), Readout(steps, ramp, 0))


RATE_POOL = (
    Conv(np.ones((1, 1, 1, 1), np.int8), np.zeros(1, np.int16), (1, 1), (0, 0), Readout(1, 9, 0)),
    MaxPool((6, 6), (6, 6)),
    Flatten(),
    dense([[1], [2]], steps=1),
)


def create(network, tmp_path, **changes):
    module = plugins.load("backends", "lava")
    return module.create(module.Options(**changes), bundle_of(network, tmp_path), "oracle")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Network("rate", (1, 6, 6), 1, RATE_POOL, 20), r"layer 1 \(maxpool\): a patch of 36 neurons, at most 30"),
        (Network("gated", (1, 2, 1), 8, (dense([[1, 2], [3, 4]], 255, 600),)), "needs more than Loihi's 17 bits"),
        (Network("quartz", (1, 40, 40), 16, (dense(np.full((2, 1600), -127)),)), "Loihi's 24 bits hold less"),
    ],
    ids=["pool of rates", "threshold", "potential"],
)
def test_what_leaves_loihis_fixed_point_is_refused_before_anything_starts(tmp_path, network, reason):
    with pytest.raises(BundleError, match=reason) as caught:
        create(network, tmp_path)
    assert "backend.oracle cannot run it" in str(caught.value)
    assert caught.value.exit_code == 78


def test_a_network_that_needs_more_chips_than_there_are_is_refused_for_hardware_alone():
    bundle = open_bundle(MODELS / "dvs128-objects")
    model = Answers(bundle, "ttfs").model
    network = bundle.path("ttfs").read_bytes()
    lava.check(lavas.options(), model, network)
    lava.check(lavas.options(hardware="loihi2", chips=2), model, network)
    with pytest.raises(ValueError, match="135 cores of Loihi 2, which is 2 chips, and there are 1"):
        lava.check(lavas.options(hardware="loihi2"), model, network)


def test_a_rate_coded_network_is_refused_on_hardware_by_name(tmp_path):
    network = Network("rate", (2, 1, 1), 1, (dense([[1, 2]] * 2, steps=1),), 20)
    meta, raw = lavas.load_of(network, tmp_path / "network.npz", hardware="loihi2")
    with pytest.raises(ValueError, match=r"a reset by subtraction takes two compartments .* set hardware = 'sim'"):
        lava.check(meta["options"], meta["model"], raw)
    lava.check(lavas.options(), meta["model"], raw)


def test_cores_are_counted_by_neurons_and_by_memory(tmp_path):
    from firstspike.backends import _lava_network

    conv = Conv(np.ones((2, 1, 1, 1), np.int8), np.zeros(2, np.int16), (1, 1), (0, 0), Readout(4, 1, 0))
    network = Network("quartz", (1, 30, 40), 4, (conv, dense(np.full((30, 2400), 1), 4, 9000)))
    _, raw = lavas.load_of(network, tmp_path / "network.npz")
    one, two = _lava_chip.needs(_lava_plan.plan(_lava_network.read(raw)))
    # 2400 neurons: 3 and 1 cores; 30 neurons with 72,000 synapses of 2 bytes: 2 each, and as many for the membrane; the
    # control lines 1.
    assert (one["cores"], two["cores"]) == (8, 6)


FRAME = Frame(8, 16, 24)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"potential": None}, "no 'potential'"),
        ({"first_spike": None}, "no 'first_spike'"),
        ({"potential": np.zeros(9, np.int32)}, r"shape \(9,\)"),
        ({"potential": np.zeros(10, np.float32)}, "float32"),
        ({"first_spike": np.full(10, 41, np.int32)}, "steps 41 to 41"),
        ({"first_spike": np.full(10, -1, np.int32)}, "steps -1 to -1"),
    ],
)
def test_an_answer_in_spikes_is_checked(changes, reason):
    answers = Answers(open_bundle(MODELS / "mnist-lenet"), "ttfs")
    arrays = {"potential": np.arange(10, dtype=np.int32), "first_spike": np.full(10, 40, np.int32)}
    good = answers.read("lava", arrays)
    assert (good.potential.tolist(), good.frame.last) == (list(range(10)), 40)
    broken = {key: array for key, array in {**arrays, **changes}.items() if array is not None}
    with pytest.raises(ValueError, match=reason):
        answers.read("lava", broken)


def test_the_profiler_is_told_all_steps_and_read_once_after_the_last_window(monkeypatch, capsys):
    """Lava's own profiler works on hardware alone: a stand-in with its public methods."""
    calls = []

    class Profiler:
        def __getattr__(self, name):
            return lambda **given: calls.append((name, given)) or "12 mW"

    profiler = types.SimpleNamespace(Profiler=types.SimpleNamespace(init=lambda config: Profiler()))
    for name in ("lava", "lava.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "lava.utils.profiler", profiler)
    meter = _lava_run._Meter("configuration", 3, 44)
    assert calls == [("execution_time_probe", {"num_steps": 132}), ("energy_probe", {"num_steps": 132})]
    for _ in range(5):
        meter.note_window()
    assert [name for name, _ in calls[2:]] == ["power_breakdown", "energy_breakdown"]
    assert "power_breakdown: 12 mW" in capsys.readouterr().err


def test_another_version_of_lava_is_refused_by_name(monkeypatch):
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.9.0")
    with pytest.raises(AbsentError, match=r"lava-nc 0\.9\.0 is installed") as caught:
        _lava_run.check_installed()
    assert "workers install lava --force" in caught.value.fix
