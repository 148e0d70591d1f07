"""SLAYER's own blocks in the forge's environment: equal to our neuron and to the daemon's emulator in every spike."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from firstspike import native

ROOT = Path(__file__).resolve().parents[2]
FORGE = ROOT / ".venv-forge"
NAMES = ("S1A4/4", "S2A3/8", "SNN")


@pytest.fixture(scope="module")
def found():
    if not (FORGE / "slayer").is_dir():
        pytest.skip("the forge's environment with SLAYER is not installed: make .venv-forge/.done")
    environment = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}:{ROOT / 'runtime'}",
        native.OVERRIDE: native.library()._name,
    }
    ran = subprocess.run(
        [FORGE / "bin" / "python", "-W", "error", "-m", "tests.support.slayer_forge"],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.mark.parametrize("name", [*NAMES, "strong"])
def test_every_spike_is_ours_and_the_emulators(found, name):
    one = found[name]
    assert min(one["spikes"]) > 0
    assert (one["slayer"], one["emulator"], one["exported"]) == (0, 0, 0)


@pytest.mark.parametrize("key", ["threshold", "current_decay", "voltage_decay"])
def test_another_neuron_would_be_noticed(found, key):
    assert found[f"other {key}"] > 0


def test_weights_beyond_our_limit_are_clamped_for_both(found):
    assert found["S1A4/4"]["beyond"] == 0
    assert found["strong"]["beyond"] > 0


def test_the_gradient_is_the_same_where_nothing_spikes(found):
    assert found["silent"]["spikes"] == [0]
    assert found["silent"]["cosine"] == pytest.approx(1, abs=1e-5)
    assert found["silent"]["length"] == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_where_neurons_spike_it_points_the_same_way_but_passes_their_resets(found, name):
    assert 0.2 < found[name]["cosine"] < 0.999


def test_a_net_of_slayers_blocks_learns_and_its_weights_are_a_hybrids(found):
    assert found["same_file"]
    assert found["same_rates"]
    assert min(found["gradients"]) > 0


def test_what_slayer_imports_and_its_blocks_do_not_use_is_left_out(found):
    assert found["left_out"] == []
    assert not found["on_path"]


def test_a_network_without_spiking_layers_and_a_missing_slayer_are_named(found):
    assert found["ann"] == "ANN/16 has no spiking layer: nothing of it is SLAYER's"
    assert found["absent"].startswith("/nowhere: SLAYER is not there")
