"""A daemon whose meter says nonsense or falls below zero: reasons, and never a zero made of a failure."""

from __future__ import annotations

import contextlib
import threading
import time

from tests.support.daemons import running
from tests.support.figures import figure
from tests.support.sysfs import hwmon

from firstspike.client import Subscriber
from firstspike.messages import Energy
from firstspike.topics import ENERGY

WATTS = 5.0
PHASES = (
    ("nonsense", "n/a\n", "no number"),
    ("below 0 W", "-4000000\n", None),
    ("too large a number", "9" * 30, "too large"),
    ("back", "5000000\n", None),
)
"""What its file holds, and what is said of it; None: there are figures. (Sensors that vanish: test_meters_live.)"""


@contextlib.contextmanager
def ticking(file):
    """A sensor that measures 50 times a second: each time a little else."""
    held, stopping = ["5000000\n"], threading.Event()

    def write():
        while not stopping.wait(0.02):
            text = held[0].replace("000000\n", f"{time.monotonic_ns() % 100_000:06d}\n")
            with file.open("r+") as out:
                out.write(f"{text.strip():<20}\n")  # of one length, so that half of it is never there
                out.truncate()

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield held
    finally:
        stopping.set()
        thread.join()


def test_each_thing_that_befalls_a_meter_is_told_and_no_decision_is_lost(tmp_path):
    folder = hwmon(tmp_path / "root", 0, "ina226", "i2c-1/1-0040", power1_input=5_000_000)
    settings = {
        "schedule__plans": '["emulator"]', "energy__root": str(tmp_path / "root"), "energy__window_s": "0.25",
        "energy__baseline_s": "0.5",
    }  # fmt: skip
    told, figures = [], []
    with (
        ticking(folder / "power1_input") as held,
        running(tmp_path, **settings) as (child, watch),
        Subscriber(f"ipc://{tmp_path}/daemon", topics=[ENERGY], high_water_mark=10_000) as meters,
    ):

        def until(done, within_s=20):
            deadline = time.monotonic() + within_s
            while time.monotonic() < deadline:
                message = meters.receive(0.5)
                watch.until(lambda _: True)
                if isinstance(message, Energy) and message.subject == "host":
                    figures.append(message)
                    if done(message):
                        return message
            raise AssertionError(figures[-3:])

        def near(watts):
            return lambda one: one.total_j is not None and abs(one.total_j / one.window_s - watts) < 0.2

        watch.until_answered_by("emulator")
        until(near(WATTS))
        for name, text, said in PHASES:
            held[0] = text
            if said is None:
                found = until(near(-4.0 if text.startswith("-") else WATTS))
                told.append(f"{name}: {found.method}")
            else:
                found = until(lambda one, said=said: said in (one.reason or ""))
                assert found.total_j is found.dynamic_j is found.u95_j is None
                told.append(f"{name}: {found.method}, “{said}”")
        watch.until_answered_by("emulator")
        assert child.poll() is None
        lost = watch.subscriber.lost["decision"]
        assert {one.status for one in watch.decisions} == {"ok"}
    assert lost == 0
    assert all(one.total_j != 0.0 for one in figures)
    figure("meter: nonsense, below 0 W, too large, back", f"{'; '.join(told)}; no figure is 0; {lost} decisions lost")
