"""`firstspike verify`: the first difference is found and named, and who cannot be asked is refused."""

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
from tests.support import lava as lavas
from tests.support.program import ROOT
from tests.unit.test_provisional import bundle_of

from firstspike import plugins
from firstspike.backends import _lava_chip, _lava_plan, _lava_run, lava
from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.errors import BundleError
from firstspike.ttfs import definition
from firstspike.ttfs.network import Conv, Dense, Network, Readout
from firstspike.types import Frame
from firstspike.verify import Difference, first_difference, verify
from firstspike.worker.backend import Answers
from firstspike.worker.shim import AbsentError

MODELS = ROOT / "models"
NETWORK = lavas.network(1, "quartz")
TIMES = lavas.window(NETWORK, 0)


def changed(result, number, neuron, by):
    spikes = [layer.copy() for layer in result.spike_steps]
    spikes[number][neuron] += by
    return dataclasses.replace(result, spike_steps=tuple(spikes))


def test_equal_runs_have_no_difference():
    result = definition.run(NETWORK, TIMES)
    assert first_difference(NETWORK, 0, result, definition.run(NETWORK, TIMES)) is None


def test_the_first_difference_is_that_of_the_earliest_layer():
    result = definition.run(NETWORK, TIMES)
    found = changed(changed(result, 2, (3, 0, 0), 2), 1, (0, 0, 1), -1)
    expected = int(result.spike_steps[1][0, 0, 1])
    difference = first_difference(NETWORK, 7, result, found)
    assert difference == Difference(7, "layer 1 (MaxPool)", (0, 0, 1), expected, expected - 1)


@pytest.mark.parametrize("field", ["potential", "first_spike"])
def test_an_answer_that_differs_is_found_where_no_spike_does(field):
    result = definition.run(NETWORK, TIMES)
    array = getattr(result, field).copy()
    array[4] += 1
    found = first_difference(NETWORK, 0, result, dataclasses.replace(result, **{field: array}))
    assert found.neuron == (4,)
    assert ("potential of output 4 is" in str(found)) is (field == "potential")


def test_it_stops_at_the_window_that_differs():
    asked = []

    def ask(times):
        asked.append(times)
        result = definition.run(NETWORK, times)
        return changed(result, 3, (6, 0, 0), 1) if len(asked) == 2 else result

    found = verify(NETWORK, ask, [lavas.window(NETWORK, seed) for seed in range(5)], lambda _: None)
    assert (found.windows, len(asked), found.difference.window) == (2, 2, 1)
    assert str(found.difference).startswith("window 1: layer 3 (Dense), neuron (6, 0, 0) spikes at step")


def test_the_definition_verifies_and_says_so(capsys):
    assert main(["verify", "mnist-lenet", "--on", "definition", "--windows", "2", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["equal"], said["windows"], said["difference"]) == (True, 2, None)
    assert said["spikes"] == 2 * (6 * 24 * 24 + 6 * 12 * 12 + 12 * 8 * 8 + 12 * 4 * 4 + 120 + 120 + 10)


def test_a_back_end_without_spikes_is_refused_with_those_that_have_them(capsys):
    assert main(["verify", "mnist-lenet", "--on", "openvino"]) == 64
    assert "use definition or lava" in capsys.readouterr().err


def test_an_unknown_name_is_refused(capsys):
    assert main(["verify", "mnist-lenet", "--on", "lawa"]) == 78
    assert "lawa" in capsys.readouterr().err


def dense(weights, steps=8, ramp=100):
    return Dense(np.array(weights, np.int8), np.zeros(len(weights), np.int16), Readout(steps, ramp, 0))


def create(network, tmp_path, **changes):
    module = plugins.load("backends", "lava")
    return module.create(module.Options(**changes), bundle_of(network, tmp_path), "oracle")


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (Network("rate", (1, 2, 1), 1, (dense([[1, 2], [3, 4]], steps=1),), 20), "networks that code values as times"),
        (Network("gated", (1, 2, 1), 8, (dense([[1, 2], [3, 4]], 255, 600),)), "needs more than Loihi's 17 bits"),
        (Network("quartz", (1, 40, 40), 16, (dense(np.full((2, 1600), -127)),)), "Loihi's 24 bits hold less"),
    ],
    ids=["rate", "threshold", "potential"],
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
