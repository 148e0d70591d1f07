"""Rate-coded networks on Lava: the plan's spikes are the definition's in number, and its charge the potential."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import loihi
from tests.unit.networks import inputs
from tests.unit.test_rate import cases

from firstspike.backends import _lava_forms, _lava_layout
from firstspike.ttfs import file, rate
from firstspike.ttfs.network import Conv, Dense, Flatten, MaxPool, Network, Readout


@pytest.fixture(scope="module")
def formed(tmp_path_factory):
    """The network as a worker has it from its file."""
    path = tmp_path_factory.mktemp("network") / "network.npz"

    def through_file(network):
        file.save(network, path)
        channels, height, width = network.input_shape
        model = {"channels": channels, "height": height, "width": width, "steps": network.input_steps}
        return _lava_forms.of(model, path.read_bytes())

    return through_file


def assert_follows(network, form, windows):
    for times, (raster, state) in zip(
        windows, loihi.run(form.plan, [form.inject(one) for one in windows]), strict=True
    ):
        expected = rate.run(network, times)
        found = form.answer(raster, state, trace=True)
        for number, counts in enumerate(expected.counts):
            np.testing.assert_array_equal(found[f"spikes_{number}"], counts, err_msg=f"layer {number}")
        np.testing.assert_array_equal(found["potential"], expected.potential)
        np.testing.assert_array_equal(found["first_spike"], expected.first_spike)


@settings(deadline=None, max_examples=60)
@given(cases(), st.data())
def test_every_count_and_potential_is_the_definitions_window_after_window(formed, case, data):
    network, times = case
    assert_follows(network, formed(network), [times, data.draw(inputs(network)), times])


def conv(channels, ramp):
    weights = np.random.default_rng(channels).integers(-40, 90, (channels, 1, 2, 2)).astype(np.int8)
    return Conv(weights, np.zeros(channels, np.int16), (1, 1), (0, 0), Readout(1, ramp, ramp // 2))


def test_large_overlapping_patches_are_told_apart(formed):
    """25 inputs a patch: bits beyond what one synapse holds."""
    dense = Dense(np.random.default_rng(4).integers(-90, 90, (2, 12)).astype(np.int8), np.int16([3, -3]),
                  Readout(1, 90, 45))  # fmt: skip
    network = Network("rate", (1, 8, 8), 8, (conv(3, 900), MaxPool((5, 5), (2, 2)), Flatten(), dense), 30)
    form = formed(network)
    assert [group.exponent for group in form.plan.synapses if "maxpool" in group.target] == [0, 8, 16, 24]
    rng = np.random.default_rng(9)
    assert_follows(network, form, [rng.integers(0, 9, (1, 8, 8)).astype(np.uint8) for _ in range(3)])


def test_potentials_that_stop_at_24_bits_do_so_there_too(formed):
    first = Dense(np.int8([[127], [-127]]), np.int16([0, 0]), Readout(1, 127 * 255, 0))
    last = Dense(np.int8([[1, 1]]), np.int16([0]), Readout(1, 1, 0))
    network = Network("rate", (1, 1, 1), 255, (first, Flatten(), last), 400)
    assert_follows(network, formed(network), [np.uint8([[[0]]]), np.uint8([[[255]]])])


def test_a_pooling_of_the_input_is_done_with_it(formed):
    dense = Dense(np.int8([[7, -3, 2, 1]]), np.int16([1]), Readout(1, 40, 0))
    network = Network("rate", (1, 4, 4), 5, (MaxPool((2, 2), (2, 2)), Flatten(), dense), 12)
    form = formed(network)
    assert [place.population for place in form.plan.places] == ["", "", "layer 2 (dense)"]
    assert form.plan.input_size == 4 * 3  # pixels, digits
    assert _lava_layout.INPUT in {group.source for group in form.plan.synapses}
    rng = np.random.default_rng(2)
    assert_follows(network, form, [rng.integers(0, 6, (1, 4, 4)).astype(np.uint8) for _ in range(3)])
