"""SLAYER's networks: read as they were written, and refused by name where we could only guess."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from tests.support.slayer_file import write
from tests.unit.cuba_networks import random_network

from firstspike.cli import main
from firstspike.cuba.file import load, save
from firstspike.cuba.hdf5 import read
from firstspike.cuba.network import Conv, Dense, Flatten, Network, Neuron, Pool
from firstspike.errors import BundleError, DataError, NoInputError, UnavailableError

h5py = pytest.importorskip("h5py", reason="h5py (the extra 'hybrid') is not installed")

NEURON = Neuron(1024, 128, 100)
NETWORK = Network(
    (2, 6, 6),
    (
        Conv(np.full((3, 2, 3, 3), 4, np.int16), np.int16([1, 0, -2]), (1, 2), (1, 0), NEURON),
        Pool(np.full((2, 1), 40, np.int16), (2, 1), NEURON),
        Flatten(),
        Dense(np.full((4, 18), 6, np.int16), np.zeros(4, np.int16), np.uint8([0, 3, 0, 1]), NEURON),
    ),
)


def test_what_was_written_is_read(tmp_path):
    rng = np.random.default_rng(1)
    for network in [NETWORK, *(random_network(rng) for _ in range(20))]:
        write(network, tmp_path / "n.net")
        save(network, tmp_path / "wanted.npz")
        save(read(tmp_path / "n.net"), tmp_path / "found.npz")
        assert (tmp_path / "found.npz").read_bytes() == (tmp_path / "wanted.npz").read_bytes()


def test_the_command_writes_our_file_and_says_what_it_is(tmp_path, capsys):
    write(NETWORK, tmp_path / "n.net")
    assert main(["convert-slayer", str(tmp_path / "n.net")]) == 0
    assert load(tmp_path / "n.npz").shapes() == NETWORK.shapes()
    said = capsys.readouterr().out
    assert "layer 0: conv to 3×6×2, 54 weights, threshold 100, decays 1024 and 128 of 4096" in said
    assert main(["convert-slayer", str(tmp_path / "n.net"), "--out", str(tmp_path / "n.net")]) == 64
    assert main(["convert-slayer", str(tmp_path / "none.net")]) == 66
    assert main(["convert-slayer", str(tmp_path / "n.npz"), "--out", str(tmp_path / "x.npz")]) == 65
    assert not (tmp_path / "x.npz").exists()


def put(path, key, value):
    """Another value for one entry; None takes it away."""
    with h5py.File(path, "r+") as file:
        if key in file:
            del file[key]
        if value is not None:
            file.create_dataset(key, data=value)


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("layer/1/type", b"convT", r"layer 1 \(convT\): layers of this kind are not known"),
        ("layer/4/type", b"dense_rec", r"layer 4 \(dense_rec\): layers of this kind"),
        ("layer/4/weight_rec", np.zeros((4, 4)), "layer 4 .dense.: has 'weight_rec', which is not known"),
        ("layer/0/neuron/type", b"LOIHI", "layer 0 .input.: has neurons"),
        ("layer/0/type", b"conv", "layer 0 .conv.: must be the input"),
        ("layer/1/neuron/type", b"ALIF", "layer 1 .conv.: neurons of type 'ALIF' are not known"),
        ("layer/1/neuron/refDelay", 2, "refDelay is 2, only 1"),
        ("layer/1/neuron/gradedSpike", True, "gradedSpike is True, only 0"),
        ("layer/1/neuron/tauRho", 2, "its neuron has 'tauRho'"),
        ("layer/1/neuron/iDecay", [1, 2, 3], "iDecay has 3 values"),
        ("layer/1/neuron", None, "layer 1 .conv.: has no neuron"),
        ("layer/1/groups", 2, "groups is 2, only 1"),
        ("layer/1/dilation", [2, 1], r"dilation is \[2, 1\], only 1"),
        ("layer/1/delay", [2.0], "layer 1 .conv.: has delays"),
        ("layer/1/weight", np.full((3, 2, 3, 3), 0.5), "weight holds numbers that are not whole"),
        ("layer/1/weight", np.full((3, 2, 3, 3), np.nan), "weight holds numbers that are not whole"),
        ("layer/1/weight", np.full((3, 2, 3, 3), 1e5), "which no 8 bits hold"),
        ("layer/1/weight", np.full((3, 2), 2), "are not those of such a layer"),
        ("layer/1/weight", b"no numbers", "weight holds no numbers"),
        ("layer/1/weight", None, "has no 'weight'"),
        ("layer/1/shape", [3, 6, 3], r"says its shape is \(3, 6, 3\), its kernel and stride give \(3, 6, 2\)"),
        ("layer/1/bias", [1.0, 2.0], "2 biases for 3 outputs"),
        ("layer/2/padding", [1, 0], "pools are only known without"),
        ("layer/4/delay", np.zeros(18), "18 delays for 4 outputs"),
        ("layer/4/delay", [63.0, 0, 0, 0], "delays from 0 to 63 steps"),
        ("layer/4/weight", np.zeros(7), "7 weights for 4 outputs"),
        ("layer/9/type", b"flatten", "its layers are 0, 1, 2, 3, 4, 9"),
        ("layer", None, "no group 'layer'"),
    ],
)
def test_what_is_not_known_is_refused_by_name(tmp_path, key, value, text):
    path = tmp_path / "n.net"
    write(NETWORK, path)
    put(path, key, value)
    with pytest.raises(DataError, match=text) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_what_loihi_cannot_hold_is_refused_by_name(tmp_path):
    path = tmp_path / "n.net"
    write(NETWORK, path)
    put(path, "layer/4/weight", np.arange(72) - 20)
    with pytest.raises(BundleError, match=r"layer 3 \(Dense\): odd weights"):
        read(path)
    put(path, "layer/4/weight", np.full(72, 6))
    put(path, "layer/1/neuron/vThMant", (1 << 18) - 1)  # what SLAYER writes for a layer without dynamics
    with pytest.raises(BundleError, match="threshold is 262143"):
        read(path)


def test_files_that_are_no_hdf5(tmp_path):
    with pytest.raises(NoInputError, match="no such file"):
        read(tmp_path / "none.net")
    path = tmp_path / "n.net"
    write(NETWORK, path)
    whole = path.read_bytes()
    for damaged in (b"", b"text", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match="no HDF5 file, or damaged"):
            read(path)


def test_without_h5py_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UnavailableError, match=r"pip install 'firstspike\[hybrid\]'"):
        read(tmp_path / "n.net")
