"""The operation model: equal to the exact count where it counts, near it where it estimates, and honest about which."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.networks import lenet

from firstspike.benchmark.windows import recorded, simulated
from firstspike.bundle import open_bundle
from firstspike.energy import constants, operations
from firstspike.energy.operations import FIRST, Model
from firstspike.hybrid import count as parts
from firstspike.ttfs.count import count, static
from firstspike.ttfs.energy import modelled
from firstspike.ttfs.file import load
from firstspike.types import Inference, Spikes

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "nmnist" / "Train"
HYBRID, NMNIST = (ROOT / "models" / name for name in ("dvs128-hybrid", "nmnist"))


@pytest.fixture(scope="module")
def nmnist():
    return open_bundle(NMNIST)


@pytest.fixture(scope="module")
def digits(nmnist):
    """Windows of drawn digits, in an order that says nothing."""
    shown = [sample.spikes for sample in simulated(nmnist, 120).samples]
    return [shown[place] for place in np.random.default_rng(0).permutation(len(shown))]


@pytest.fixture(scope="module")
def frames():
    """Windows of random frames, few to many spikes."""
    rng = np.random.default_rng(1)
    shape = (16, 2, 64, 64)
    times = np.empty((0, 0, 0), np.uint8)
    shares = rng.uniform(0.005, 0.03, 80)
    return [Spikes(16, times, 9, frames=(rng.random(shape) < share).astype(np.uint8)) for share in shares]


def test_a_counted_window_is_what_inspect_counts(nmnist, digits):
    model, network = Model(nmnist), load(nmnist.path("ttfs"))
    for spikes in digits[:3]:
        expected = modelled(count(network, [spikes.times])).loihi_nj * 1e-9
        found = model.exact(spikes)
        assert found.dynamic_j == pytest.approx(expected, rel=1e-12)
        assert (found.front_j, found.back_j, found.exact, found.u95_fraction) == (None, None, True, 0.0)
        assert "no static power" in found.what


def test_a_hybrid_is_split_as_inspect_splits_it(frames):
    bundle = open_bundle(HYBRID)
    expected = parts.count(bundle, [frames[0].frames])
    found = Model(bundle).exact(frames[0])
    assert found.front_j == pytest.approx(expected.front_nj * 1e-9, rel=1e-12)
    assert found.back_j == pytest.approx(expected.back_nj * 1e-9, rel=1e-12)
    assert found.dynamic_j == pytest.approx(found.front_j + found.back_j)


def test_a_front_alone_has_a_back_that_costs_nothing(frames):
    bundle = open_bundle(HYBRID)
    alone = replace(
        bundle, manifest=bundle.manifest.model_copy(update={"parts": type(bundle.manifest.parts)(interval=None)})
    )
    found = Model(alone).exact(frames[0])
    assert found.back_j == 0.0
    assert found.dynamic_j == found.front_j


def test_a_back_that_cannot_be_counted_leaves_the_sum_unknown_with_the_reason(frames, monkeypatch):
    monkeypatch.setattr(parts, "Chain", lambda _: (_ for _ in ()).throw(ValueError("operator Celu")))
    found = Model(open_bundle(HYBRID)).inference(frames[0])
    assert (found.dynamic_j, found.back_j) == (None, None)
    assert found.front_j > 0
    assert "operator Celu" in found.what


def test_the_first_windows_are_counted_and_then_ever_fewer(nmnist, digits):
    model = Model(nmnist)
    exact = [model.inference(spikes).exact for spikes in digits]
    assert all(exact[:FIRST])
    assert sum(exact[FIRST : FIRST + 40]) < 40
    assert sum(exact[80:]) <= 10
    assert model.counted == sum(exact)


def test_estimates_are_near_the_count_and_say_how_near(nmnist, digits):
    model = Model(nmnist)
    found = [model.inference(spikes) for spikes in digits]
    truth = [model.exact(spikes).dynamic_j for spikes in digits]
    off = [abs(one.dynamic_j / true - 1) for one, true in zip(found, truth, strict=True) if not one.exact]
    stated = [one.u95_fraction for one in found if not one.exact]
    assert len(off) > 30
    assert math.sqrt(np.mean(np.square(off))) < 0.03
    assert all(0 < u95 < 0.2 for u95 in stated if u95 is not None)
    within = [miss <= u95 for miss, u95 in zip(off, stated, strict=True) if u95 is not None]
    assert np.mean(within) >= 0.85


def test_the_same_windows_give_the_same_figures(nmnist, digits):
    first, second = Model(nmnist), Model(nmnist)
    assert [first.inference(one) for one in digits] == [second.inference(one) for one in digits]


def test_a_hybrids_estimates_follow_its_input_spikes(frames):
    model = Model(open_bundle(HYBRID))
    found = [model.inference(spikes) for spikes in frames]
    late = [(one, spikes) for one, spikes in zip(found, frames, strict=True) if not one.exact]
    assert len(late) > 25
    for one, spikes in late:
        assert one.dynamic_j == pytest.approx(model.exact(spikes).dynamic_j, rel=0.02)
        assert one.dynamic_j == one.front_j + one.back_j


def test_who_learns_afterwards_is_not_held_up_after_the_first_window(nmnist, digits, monkeypatch):
    model = Model(nmnist, learn_within=False)
    counted = []
    monkeypatch.setattr(model, "_count", lambda spikes, count=model._count: counted.append(1) or count(spikes))
    seen = []
    for spikes in digits[:30]:
        before = len(counted)
        model.inference(spikes)
        seen.append(len(counted) - before)
        model.learn(spikes)
    assert seen == [1] + [0] * 29
    assert len(counted) >= FIRST


def test_as_long_as_there_is_no_slope_operations_are_in_proportion_to_the_input(nmnist, digits):
    model = Model(nmnist, learn_within=False)
    model.inference(digits[0])
    silent = Spikes(digits[0].steps, np.full_like(digits[0].times, digits[0].steps), 0)
    found, updates_j = model.inference(silent), model.updates * constants.LOIHI_UPDATE_PJ * 1e-12
    assert (found.dynamic_j, found.exact, found.u95_fraction) == (pytest.approx(updates_j), False, None)


def test_a_window_unlike_all_before_has_no_stated_error_and_is_learnt_from(nmnist, digits):
    model = Model(nmnist, learn_within=False)
    for spikes in digits[:60]:
        model.inference(spikes)
        model.learn(spikes)
    assert model.inference(digits[60]).u95_fraction is not None
    full = Spikes(digits[0].steps, np.zeros_like(digits[0].times), 9)
    assert model.inference(full).u95_fraction is None
    before = model.counted
    model.learn(full)
    assert model.counted == before + 1


def test_an_estimate_never_leaves_what_is_possible(nmnist, digits):
    model, network = Model(nmnist, learn_within=False), load(nmnist.path("ttfs"))
    for spikes in digits[:20]:
        model.inference(spikes)
        model.learn(spikes)
    updates_j = static(network).total("updates") * constants.LOIHI_UPDATE_PJ * 1e-12
    most_j = updates_j + static(network).total("synapses") * constants.LOIHI_SYNAPTIC_PJ * 1e-12
    for times in (np.zeros_like(digits[0].times), np.full_like(digits[0].times, digits[0].steps)):
        found = model.inference(Spikes(digits[0].steps, times, 0))
        assert updates_j * (1 - 1e-9) <= found.dynamic_j <= most_j * (1 + 1e-9)


def test_an_inference_that_failed_has_no_energy(nmnist, digits):
    found = Model(nmnist).inference(digits[0], Inference("openvino", None, None, failure="no device"))
    assert found.dynamic_j is None
    assert found.what == "no answer: no device"


def test_an_inference_that_answered_has(nmnist, digits):
    potential = np.zeros(10, np.int32)
    assert Model(nmnist).inference(digits[0], Inference("emulator", potential, potential)).dynamic_j > 0


def test_the_ann_is_its_macs_by_bits(nmnist):
    model = Model(nmnist)
    macs = static(load(nmnist.path("ttfs"))).total("macs")
    found = {bits: model.ann(bits).dynamic_j for bits in (32, 16, 8)}
    assert found == pytest.approx({32: macs * 4.6e-12, 16: macs * 1.5e-12, 8: macs * 0.23e-12})
    assert Model(open_bundle(HYBRID)).ann(32) is None


@pytest.mark.parametrize("neuron", ["gated", "quartz", "rate"])
def test_every_kind_of_network_is_modelled(nmnist, neuron, monkeypatch):
    rng = np.random.default_rng(3)
    network = lenet(neuron)
    if neuron == "rate":
        layers = [
            replace(layer, readout=replace(layer.readout, steps=1)) if hasattr(layer, "readout") else layer
            for layer in network.layers
        ]
        network = replace(network, layers=tuple(layers), duration=20)
    monkeypatch.setattr(operations, "network_of", lambda _: network)
    times = rng.integers(0, network.input_steps + 1, network.input_shape).astype(np.uint8)
    found = Model(nmnist).exact(Spikes(network.input_steps, times, 9))
    assert found.dynamic_j == pytest.approx(modelled(count(network, [times])).loihi_nj * 1e-9)


def test_every_constant_has_its_source():
    assert {row.source for row in constants.TABLE.values()} == {constants.DAVIES, constants.HOROWITZ}
    assert {name: row.picojoules for name, row in constants.TABLE.items()} == {
        "synaptic": 23.6, "update": 81.0, "mac32": 4.6, "mac16": 1.5, "mac8": 0.23,
    }  # fmt: skip


def test_estimates_on_real_windows(nmnist):
    if not REAL.exists():
        pytest.skip(f"{REAL} is not there: the recordings of N-MNIST are not part of this repository")
    shown = [sample.spikes for sample in recorded(nmnist, REAL, 150).samples]
    model = Model(nmnist)
    found = [model.inference(spikes) for spikes in shown]
    off = [one.dynamic_j / model.exact(s).dynamic_j - 1 for one, s in zip(found, shown, strict=True) if not one.exact]
    assert len(off) > 50
    assert math.sqrt(np.mean(np.square(off))) < 0.03
