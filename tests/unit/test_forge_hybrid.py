"""The hybrids' training: its frames against the runtime's encoder, its neuron against the runtime's emulator."""

from __future__ import annotations

import numpy as np
import pytest
from tests.unit.test_forge_objects import NAMES, made

from firstspike.bundle import InputSpec
from firstspike.encode_frames import FrameEncoder
from models.forge import hybrid_store as frames
from models.forge import objects_store as data


@pytest.mark.parametrize("name", NAMES)
def test_a_window_is_what_the_runtime_encodes(name):
    store, events = made(5)
    cut = frames.windows(store, [data.Part(name, 0, 2_000_000)])
    spec = InputSpec(channels=2, height=64, width=64, encoding="frames", steps=16, fit="crop")
    encoder = FrameEncoder(spec, 128, 128)
    assert len(cut.frames) == 12
    for number, shown in enumerate(cut.frames):
        begin = number * frames.WINDOW_US
        mine = events[name][(events[name]["t"] >= begin) & (events[name]["t"] < begin + frames.WINDOW_US)]
        spikes = encoder.encode(mine, begin, begin + frames.WINDOW_US)
        np.testing.assert_array_equal(spikes.frames, shown)


def test_a_drawn_window_has_the_label_of_its_part_and_frames_of_ones():
    store, _ = made(6)
    parts = [data.Part(name, 0, 2_000_000) for name in NAMES]
    sample = frames.draw(store, parts, 20, np.random.default_rng(1))
    assert sample.frames.shape == (20, 16, 2, 64, 64)
    assert sample.labels.tolist() == [parts[i].label for i in sample.part]
    assert sample.frames.any((1, 2, 3, 4)).all()


def test_the_trained_front_and_the_emulator_agree_in_every_count():
    torch = pytest.importorskip("torch", reason="the forge's environment has it, the runtime's has not")
    from models.forge import hybrid_net, hybrid_write

    torch.manual_seed(4)
    shown = np.random.default_rng(2).random((6, 16, 2, 64, 64)) < 0.03
    for name in ("S1A4/4", "S2A3/8", "SNN"):
        net = hybrid_net.HybridNet(hybrid_net.Split.of(name))
        with torch.no_grad():
            assert float(net.front(torch.from_numpy(shown)).sum()) > 0
        assert hybrid_write.differing(net, shown) == 0


def test_the_gradient_of_a_neuron_reaches_all_earlier_inputs_and_no_later_one():
    torch = pytest.importorskip("torch", reason="the forge's environment has it, the runtime's has not")
    from models.forge import hybrid_lif

    x = torch.full((6, 1), 20.0, requires_grad=True)
    hybrid_lif.cuba(x)[2].sum().backward()
    assert (x.grad[:3] > 0).all()
    assert (x.grad[3:] == 0).all()
