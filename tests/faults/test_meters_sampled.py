"""The native thread that reads a meter's files gives what reading them by hand gives, and survives what they do."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from ctypes import byref, c_int64
from pathlib import Path

import numpy as np
import pytest
from tests.support.sysfs import agx_orin, hwmon, laptop, supply

from firstspike.energy import Reading, Unavailable
from firstspike.energy.meters import find
from firstspike.energy.reader import FILE, Reader
from firstspike.energy.sampler import Sampler
from firstspike.energy.sensors import _files
from firstspike.native import library

PATIENCE_S = 10
SOURCE = Path(__file__).parents[1] / "support" / "hanging_read.cpp"
HANGING = """
import sys, threading, time
from pathlib import Path
from firstspike.energy.meters import find
from firstspike.energy.reader import Reader

def threads():
    return len(list(Path("/proc/self/task").iterdir()))

root, before = Path(sys.argv[1]), threads()
meter = find(root).meters[0]
reader = Reader(meter, 0.002, 64)
while not list(reader.take()):
    time.sleep(0.01)
meter.files[0].path.write_text("hang")
time.sleep(0.3)
began = time.monotonic()
reader.close()
print(time.monotonic() - began < 10, threads() - before, end=" ")
meter.files[0].path.write_text("1")
end = time.monotonic() + 10
while threads() > before and time.monotonic() < end:
    time.sleep(0.01)
print(threads() - before)
"""


@contextmanager
def reading(meter, hz=500.0, room=4096):
    reader = Reader(meter, 1 / hz, room)
    try:
        yield reader
    finally:
        reader.close()


def until(reader, wanted, taken=None):
    """Take until a reading is as wanted; all that were taken."""
    taken = [] if taken is None else taken
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        new = list(reader.take())
        taken += new
        if any(wanted(one) for _, one in new):
            return taken
        time.sleep(0.005)
    raise AssertionError(f"never came; last was {taken[-1:]}")


def value_of(expected):
    return lambda one: isinstance(one, Reading) and one.value == pytest.approx(expected)


def unavailable(text):
    return lambda one: isinstance(one, Unavailable) and text in one.reason


@pytest.fixture
def power(tmp_path):
    folder = hwmon(tmp_path, 0, "ina226", "i2c-1/1-0040", power1_input=4_000_000)
    found = find(tmp_path)
    yield found.meters[0], folder / "power1_input"
    found.close()


@pytest.fixture
def package(tmp_path):
    laptop(tmp_path)
    found = find(tmp_path)
    meter = found.named("rapl:package-0")
    yield meter, meter.files[0].path
    found.close()


def test_every_file_of_a_sum_is_read_and_means_what_it_means_by_hand(tmp_path):
    agx_orin(tmp_path)
    found = find(tmp_path)
    meter = found.meters[0]
    assert len(meter.files) == 6
    by_hand = meter.read()
    with reading(meter) as reader:
        before = time.monotonic_ns()
        taken = until(reader, value_of(by_hand.value))
    assert {one.value for _, one in taken} == {by_hand.value}
    assert all(before - 10**9 < at < time.monotonic_ns() and at == one.t_ns for at, one in taken)
    found.close()


def test_each_change_of_a_file_is_read_in_order(power):
    meter, file = power
    with reading(meter) as reader:
        taken = until(reader, value_of(4.0))
        for microwatts in (5_000_000, 123, 0, -1_000_000, 999_999_999_999):
            file.write_text(f"{microwatts:<20}\n")  # of one length, so that half of it is never there
            until(reader, value_of(microwatts * 1e-6), taken)
    at = [at for at, _ in taken]
    assert at == sorted(set(at))
    values = [one.value for _, one in taken if isinstance(one, Reading)]
    changes = [value for i, value in enumerate(values) if not i or value != values[i - 1]]
    assert changes == pytest.approx([4.0, 5.0, 123e-6, 0.0, -1.0, 999_999.999999])


def test_readings_come_at_their_rate_and_not_in_step(power):
    with reading(power[0], hz=100.0) as reader:
        until(reader, value_of(4.0))
        time.sleep(1.0)
        at = np.array([at for at, _ in reader.take()])
    assert len(at) <= 1.15 * (at[-1] - at[0]) / 1e7 + 2
    assert np.diff(at).std() > 0.2e6  # ± 10 % of 10 ms


def test_a_rate_that_rises_takes_effect_at_once(power):
    with reading(power[0], hz=0.01) as reader:
        until(reader, value_of(4.0))
        reader.every(0.002)
        until(reader, value_of(4.0))


def test_the_timers_slack_follows_the_rate(power):
    """A tenth of a period of 100 s would let a reading of the next rate be 10 s late."""
    before = {task.name for task in Path("/proc/self/task").iterdir()}
    with reading(power[0], hz=0.01) as reader:
        until(reader, value_of(4.0))
        threads = {task.name for task in Path("/proc/self/task").iterdir()} - before
        reader.every(0.002)
        until(reader, value_of(4.0))
        until(reader, value_of(4.0))  # so that it waited at the new rate
        try:
            slack = {int(Path(f"/proc/{thread}/timerslack_ns").read_text()) for thread in threads}
        except OSError as error:
            pytest.skip(f"a thread's timer slack cannot be read here: {error}")
    assert slack == {200_000}


def test_a_counter_wraps_around_between_batches(package):
    meter, file = package
    range_ = meter._counters[0].range_
    file.write_text(f"{range_ - 400_000}\n")
    with reading(meter) as reader:
        until(reader, value_of(0.0))
        meter._counters[0]._last_ns -= 10**9  # a second ago
        file_descriptor = os.open(file, os.O_WRONLY)
        os.pwrite(file_descriptor, b"99999       \n", 0)
        os.close(file_descriptor)
        until(reader, value_of(0.499999))


@pytest.mark.parametrize(("held", "said"), [("", "no number"), ("off\n", "no number"), ("1" * 40, "too large")])
def test_what_is_no_number_is_never_one(power, held, said):
    meter, file = power
    with reading(meter) as reader:
        until(reader, value_of(4.0))
        file.write_text(held)
        until(reader, unavailable(said))
        file.write_text("3000000\n")
        until(reader, value_of(3.0))


def test_the_longest_number_fits(power):
    meter, file = power
    file.write_text(f"{2**63 - 1:>27}\n")
    with reading(meter) as reader:
        until(reader, value_of((2**63 - 1) * 1e-6))


def test_a_battery_that_is_charged_says_so_and_then_measures(tmp_path):
    folder = supply(tmp_path, "BAT0", type="Battery", status="Charging", power_now=8_000_000)
    found = find(tmp_path)
    with reading(next(one for one in found.meters if one.name == "power_supply:BAT0")) as reader:
        until(reader, unavailable("charging"))
        (folder / "status").write_text("Discharging\n")
        until(reader, value_of(8.0))
    found.close()


def test_an_io_error_is_unavailable_while_it_lasts(power, tmp_path):
    meter, _ = power
    # Reading a folder fails with EISDIR, by the very way by which a sensor's EIO comes.
    folder = os.open(tmp_path, os.O_RDONLY)
    with reading(meter) as reader:
        until(reader, value_of(4.0))
        library().fs_sampler_file(reader._sampler, 0, folder)
        until(reader, unavailable("does not answer: Is a directory"))
        library().fs_sampler_file(reader._sampler, 0, meter.files[0].descriptor())
        until(reader, value_of(4.0))
    os.close(folder)


def test_a_sensor_vanishes_and_another_comes_back_at_its_path(power, monkeypatch):
    meter, file = power
    monkeypatch.setattr(_files, "AGAIN_NS", 0)
    with reading(meter) as reader:
        until(reader, value_of(4.0))
        file.unlink()
        # What the kernel says of an attribute whose device is gone; a plain file's descriptor would go on.
        monkeypatch.setattr(reader, "_raw", lambda place, *_: meter.files[place].failed(OSError(errno.ENODEV, "")))
        library().fs_sampler_file(reader._sampler, 0, -1)
        until(reader, unavailable("gone"))
        monkeypatch.undo()
        monkeypatch.setattr(_files, "AGAIN_NS", 0)
        until(reader, unavailable("gone"))
        file.write_text("2000000\n")
        until(reader, value_of(2.0))


def test_no_descriptor_of_a_sensor_that_is_gone_is_kept(power):
    meter, file = power

    def held():
        return sum(str(file) in str(one.readlink()) for one in Path("/proc/self/fd").iterdir() if one.is_symlink())

    with reading(meter) as reader:
        until(reader, value_of(4.0))
        assert held() == 2  # the meter's, and the thread's
        file.unlink()
        meter.files[0].failed(OSError(errno.ENODEV, ""))
        until(reader, unavailable("gone"))
        assert held() == 0


def test_a_file_that_may_not_be_opened_says_so_until_it_may(power, monkeypatch):
    meter, _ = power
    monkeypatch.setattr(_files, "AGAIN_NS", 0)
    opened = os.open
    monkeypatch.setattr(_files.os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "")))
    with reading(meter) as reader:
        until(reader, unavailable("may not be read"))
        monkeypatch.setattr(_files.os, "open", opened)
        until(reader, value_of(4.0))


def test_what_nobody_took_is_counted_and_is_a_gap(power):
    with reading(power[0], hz=1000.0, room=8) as reader:
        until(reader, value_of(4.0))
        time.sleep(0.2)
        (at, gap), *kept = reader.take()
        assert unavailable("readings were lost")(gap)
        assert int(gap.reason.split()[0]) >= 10
        assert len(kept) == 8
        assert at < kept[0][0]


def test_a_track_has_a_gap_for_what_was_lost(power):
    with Sampler([power[0]], 100.0) as sampler:
        track = sampler.tracks[power[0].name]
        track.take(Unavailable("3 readings were lost"), time.monotonic_ns())
        samples = track.since(0)
    assert np.isnan(samples.values).any()
    assert any("lost" in reason for _, _, reason in samples.failures)


def threads():
    return len(list(Path("/proc/self/task").iterdir()))


def test_threads_and_descriptors_end_with_the_reader(power):
    def held():
        return len(list(Path("/proc/self/fd").iterdir())), threads()

    meter, _ = power
    meter.read()
    before = held()
    for _ in range(200):
        with reading(meter, hz=1000.0):
            pass
    # Not more: a thread that an earlier test left behind may end meanwhile.
    assert all(now <= then for now, then in zip(held(), before, strict=True))
    assert isinstance(meter.read(), Reading)  # the meter's own descriptor is as it was


def test_a_reader_that_waits_long_ends_at_once(power):
    with reading(power[0], hz=0.001) as reader:
        until(reader, value_of(4.0))
        ended = threading.Thread(target=reader.close)
        ended.start()
        ended.join(PATIENCE_S)
        assert not ended.is_alive()


def test_a_read_that_hangs_in_the_kernel_does_not_hold_up_the_end(power, tmp_path):
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        pytest.skip(f"no C++ compiler {compiler!r} to make a read that hangs with")
    made = tmp_path / "hanging.so"
    subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", str(made), str(SOURCE)], check=True)
    done = subprocess.run(
        [sys.executable, "-c", HANGING, str(tmp_path)], env=os.environ | {"LD_PRELOAD": str(made)},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "1", "0"]  # in bounded time; its thread is left, until the read returns


def test_the_sampler_reads_files_natively_and_tells_the_same_as_without(tmp_path):
    agx_orin(tmp_path)
    found = find(tmp_path)
    name, values, before = found.meters[0].name, [], threads()
    for native, more in ((True, 2), (False, 1)):
        with Sampler([found.meters[0]], 100.0, native=native) as sampler:
            track, end = sampler.tracks[name], time.monotonic() + PATIENCE_S
            while len(track.since(0).t_ns) < 10 and time.monotonic() < end:
                time.sleep(0.01)
            values.append(set(track.since(0).values.tolist()))
            while threads() != before + more and time.monotonic() < end:  # one that ended is seen a moment longer
                time.sleep(0.01)
            assert threads() == before + more
    assert values[0] == values[1]
    found.close()


def test_without_a_thread_for_it_a_file_is_read_in_python(power, monkeypatch, caplog):
    monkeypatch.setattr(library(), "fs_sampler_start", lambda _: 1)
    with Sampler([power[0]], 100.0) as sampler:
        track, end = sampler.tracks[power[0].name], time.monotonic() + PATIENCE_S
        while not track.last_ns() and time.monotonic() < end:
            time.sleep(0.01)
        assert track.since(0).values[-1] == 4.0
    assert "no thread could be had" in caplog.text


@pytest.mark.parametrize("asked", [(0, 1, 1), (65, 1, 1), (1, 0, 1), (1, 1 << 21, 1), (1, 1, 0)])
def test_what_cannot_be_is_refused(asked):
    assert library().fs_sampler_new(*asked) is None


def test_a_descriptor_that_is_none_is_refused_and_before_the_first_there_is_nothing():
    lib = library()
    sampler = lib.fs_sampler_new(1, 4, 10**6)
    assert lib.fs_sampler_file(sampler, 1, 0) == lib.fs_sampler_file(sampler, -1, 0) == 1
    assert lib.fs_sampler_file(sampler, 0, 10**6) == 1
    batch = np.zeros(4, [("t", np.int64, 2), ("files", FILE, 1)])
    lost = c_int64(-1)
    assert lib.fs_sampler_take(sampler, batch.ctypes.data, 4, byref(lost)) == 0
    assert lost.value == 0
    lib.fs_sampler_free(sampler)
