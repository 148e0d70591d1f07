"""A network that SLAYER itself trained and exported: the emulator says in every spike what SLAYER says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support import slayer_file

from firstspike.cuba.emulator import Emulator
from firstspike.cuba.hdf5 import read
from firstspike.cuba.network import Conv, Dense, Flatten, Pool

pytest.importorskip("h5py", reason="h5py (the extra 'hybrid') is not installed")
PLACE = Path(slayer_file.__file__).parent / "slayer_trained"


def test_every_spike_is_slayers():
    network = read(PLACE / "trained.net")
    assert [type(layer) for layer in network.layers] == [Conv, Pool, Conv, Flatten, Dense]
    emulator, total = Emulator(network), 0
    with np.load(PLACE / "samples.npz") as samples:
        for number, (frames, label) in enumerate(zip(samples["frames"], samples["labels"], strict=True)):
            found, late = emulator.trace(frames), 0
            for layer, (spikes, kind) in enumerate(zip(found.spikes, network.layers, strict=True)):
                late += not isinstance(kind, Flatten)  # each of SLAYER's layers passes its spikes on a step later
                theirs = samples[f"layer{layer}"][number].reshape(spikes.shape)
                np.testing.assert_array_equal(theirs[late:], spikes[:-late], err_msg=f"sample {number}, layer {layer}")
                assert not theirs[:late].any()
                total += int(spikes.sum())
            assert found.spikes[-1].sum((0, 2, 3)).argmax() == label
            assert found.wraps == 0
    assert total > 10_000
