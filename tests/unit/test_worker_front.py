"""A driver as the front of a hybrid: what it is sent, what is made of its answers, and who is asked."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tests.support import lava as lavas

from firstspike import plugins
from firstspike.backends import lava
from firstspike.bundle import open_bundle
from firstspike.config_layers import Layers
from firstspike.config_plugins import backend_choices
from firstspike.errors import BundleError
from firstspike.hybrid import place
from firstspike.hybrid.part import PartError
from firstspike.worker import front
from firstspike.worker.front import WorkerFront
from firstspike.worker.supervisor import WorkerError

HYBRID = Path(__file__).parents[2] / "models" / "dvs128-hybrid"
BUNDLE = open_bundle(HYBRID)
FRAMES = np.zeros((16, 2, 64, 64), np.uint8)
SPIKES = np.zeros((16, 8, 32, 32), np.uint8)


class Asked:
    """A supervisor whose worker answers as told."""

    def __init__(self, answer):
        self.answer, self.distrusted, self.given = answer, [], []

    def infer(self, frames, deadline):
        self.given.append(frames)
        if isinstance(self.answer, Exception):
            raise self.answer
        return SimpleNamespace(arrays=self.answer, device_s=0.0)

    def distrust(self, reason):
        self.distrusted.append(reason)


def asked(answer):
    supervisor = Asked(answer)
    return supervisor, WorkerFront("oracle", lambda: supervisor, BUNDLE, (8, 32, 32))


def test_spikes_are_passed_on_and_frames_arrive_as_they_are():
    spikes = np.random.default_rng(1).integers(0, 2, SPIKES.shape).astype(np.uint8)
    supervisor, part = asked({"spikes": spikes})
    np.testing.assert_array_equal(part.run(FRAMES, 1.0), spikes)
    assert supervisor.given[0] is FRAMES
    assert part.link_s >= 0
    assert part.output_shape == (8, 32, 32)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"output": SPIKES},
        {"spikes": SPIKES[:15]},
        {"spikes": SPIKES.astype(np.int32)},
        {"spikes": SPIKES.astype(np.float32)},
        {"spikes": SPIKES + np.uint8(2)},
    ],
    ids=["nothing", "another name", "a step too few", "int32", "float32", "a 2"],
)
def test_an_answer_that_is_none_fails_the_window_and_the_worker_is_replaced(answer):
    supervisor, part = asked(answer)
    with pytest.raises(PartError, match=r"oracle: its answer is no \(16, 8, 32, 32\) of 0 and 1 called 'spikes'"):
        part.run(FRAMES, 1.0)
    assert len(supervisor.distrusted) == 1


def test_a_worker_without_an_answer_fails_the_window():
    supervisor, part = asked(WorkerError("oracle: busy"))
    with pytest.raises(PartError, match="oracle: busy"):
        part.run(FRAMES, 1.0)
    assert not supervisor.distrusted


def choice(plan, **section):
    faults = []
    (found,) = backend_choices({"oracle": {"kind": "lava", **section}}, [plan], Layers(), faults)
    assert not faults
    return found


def test_a_plan_with_a_front_on_lava_is_made_without_starting_anything():
    made = place.make(choice("oracle+emulator"), BUNDLE)
    assert isinstance(made._front, WorkerFront)
    assert made._front._supervisor is None
    made.close()


def test_only_drivers_that_say_so_have_a_front():
    assert hasattr(plugins.load("backends", "lava"), "front")
    assert not hasattr(plugins.load("backends", "openvino"), "front")
    with pytest.raises(BundleError, match=r"cannot run the model's front: name one of .*emulator, lava"):
        place.make(choice("openvino+emulator"), BUNDLE)


def test_a_front_that_needs_more_chips_than_there_are_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setitem(lava._lava_chip.CHIPS, "loihi1", lava._lava_chip.Chip("Loihi 1", 4, 1024, 128 << 10))
    with pytest.raises(
        BundleError, match=r"backend.oracle cannot run it: it needs about 8 cores of Loihi 1, which is 2"
    ):
        place.make(choice("oracle+emulator", hardware="loihi1"), BUNDLE)


def test_a_front_of_another_shape_than_the_bundle_says_is_refused():
    model = front.description(BUNDLE)
    raw = BUNDLE.path("front").read_bytes()
    lava.check(lavas.options(), model, raw)
    with pytest.raises(ValueError, match=r"its network takes \(2, 64, 64\), the bundle says otherwise"):
        lava.check(lavas.options(), {**model, "height": 32}, raw)
