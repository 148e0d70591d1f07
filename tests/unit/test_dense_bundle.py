"""Dense forms in bundles: those that ship, `firstspike dense`, and what it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from firstspike.bundle import open_bundle
from firstspike.cli import main
from firstspike.errors import BundleError, NoInputError, OutputError
from firstspike.ttfs.convert.bundle import DENSE, add_dense, seal, write
from firstspike.ttfs.convert.dense import dense
from firstspike.ttfs.file import load, save
from firstspike.ttfs.network import Dense, Network, Readout

MODELS = Path(__file__).parents[2] / "models"
BUNDLES = sorted(path.parent for path in MODELS.glob("*/dense.onnx"))


@pytest.fixture
def bare(tmp_path):
    """A bundle as they were before there were dense forms."""
    folder = tmp_path / "bundle"
    shutil.copytree(MODELS / "mnist-lenet", folder)
    for name in DENSE.values():
        (folder / name).unlink()
    manifest = json.loads((folder / "bundle.json").read_text())
    files = {role: entry["path"] for role, entry in manifest.pop("files").items() if role not in DENSE}
    seal(folder, manifest, files)
    return folder


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: folder.name)
def test_the_dense_forms_that_ship_are_those_of_the_networks_that_ship(folder):
    bundle = open_bundle(folder)
    network = load(bundle.path("ttfs"))
    for role, precision in (("dense", "f32"), ("dense_fp16", "f16")):
        assert onnx.load(bundle.path(role)) == onnx.load_from_string(dense(network, precision))


def test_the_command_restores_what_ships_to_the_byte(bare, capsys):
    assert main(["dense", str(bare)]) == 0
    assert "dense.onnx" in capsys.readouterr().out
    assert (bare / "bundle.json").read_bytes() == (MODELS / "mnist-lenet" / "bundle.json").read_bytes()
    first = open_bundle(bare).digest
    assert add_dense(bare).digest == first
    assert not list(bare.glob(".*"))


def test_a_bundle_without_says_how_to_get_it(bare):
    with pytest.raises(BundleError, match=rf"no file 'dense'.*make it with: firstspike dense {bare}"):
        open_bundle(bare).path("dense")


@pytest.mark.parametrize("neuron", ["quartz", "rate"])
def test_other_neurons_are_refused_and_nothing_changes(bare, neuron, capsys):
    network = load(bare / "network.npz")
    if neuron == "rate":
        layers = tuple(
            replace(layer, readout=replace(layer.readout, steps=1)) if hasattr(layer, "readout") else layer
            for layer in network.layers
        )
        network = replace(network, layers=layers, duration=64)
    save(replace(network, neuron=neuron), bare / "network.npz")
    manifest = json.loads((bare / "bundle.json").read_text())
    seal(bare, manifest, {role: entry["path"] for role, entry in manifest.pop("files").items()})
    before = {path.name: path.read_bytes() for path in bare.iterdir()}
    assert main(["dense", str(bare)]) == 78
    assert 'network = "ann"' in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in bare.iterdir()} == before


def test_a_folder_that_cannot_be_written_keeps_its_bundle(bare):
    (bare / "dense.onnx").mkdir()
    before = open_bundle(bare).digest
    with pytest.raises(OutputError, match="cannot be written"):
        add_dense(bare)
    assert open_bundle(bare).digest == before
    assert not list(bare.glob(".*"))


def test_a_name_that_is_taken_is_not_overwritten(bare):
    manifest = json.loads((bare / "bundle.json").read_text())
    (bare / "ann.onnx").rename(bare / "dense.onnx")
    files = {role: entry["path"] for role, entry in manifest.pop("files").items()} | {"ann": "dense.onnx"}
    seal(bare, manifest, files)
    with pytest.raises(BundleError, match="something else"):
        add_dense(bare)
    open_bundle(bare)


def test_no_bundle(tmp_path):
    with pytest.raises(NoInputError, match="no model bundle here"):
        add_dense(tmp_path)


def manifest_of(network):
    channels, height, width = network.input_shape
    return {
        "schema": "firstspike.bundle/1", "name": "m", "version": "1", "labels": ["a", "b"],
        "input": {"channels": channels, "height": height, "width": width, "encoding": "count",
                  "steps": network.input_steps},
        "window": {"kind": "time", "size": 100, "hop": 100}, "decide": {}, "licence": "x", "trained_on": [],
    }  # fmt: skip


@pytest.mark.parametrize(("neuron", "has"), [("gated", True), ("quartz", False)])
def test_new_bundles_of_gated_neurons_have_dense_forms(tmp_path, neuron, has):
    layer = Dense(np.ones((2, 4), np.int8), np.zeros(2, np.int16), Readout(8, 4, 2))
    network = Network(neuron, (1, 2, 2), 8, (layer,))
    (tmp_path / "n.onnx").write_bytes(b"onnx")
    bundle = write(tmp_path / "out", network, tmp_path / "n.onnx", "card", manifest_of(network))
    assert (set(DENSE) <= set(bundle.manifest.files)) is has


def test_a_network_too_large_for_float32_is_written_without_and_that_is_said(tmp_path, caplog):
    wide = Dense(np.full((2, 254), 127, np.int8), np.full(2, 600, np.int16), Readout(255, 1 << 14, (1 << 14) - 1))
    last = Dense(np.ones((2, 2), np.int8), np.zeros(2, np.int16), Readout(8, 4, 2))
    network = Network("gated", (1, 1, 254), 255, (wide, last))
    (tmp_path / "n.onnx").write_bytes(b"onnx")
    bundle = write(tmp_path / "out", network, tmp_path / "n.onnx", "card", manifest_of(network))
    assert set(bundle.manifest.files) == {"ttfs", "ann", "card"}
    assert "no dense form" in caplog.text
