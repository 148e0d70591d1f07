"""What sensors do while they are read: wrap around, refuse, vanish, say nonsense. Real files, /proc's for failures."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support import sysfs

from firstspike.energy import Reading, Unavailable, meters
from firstspike.energy.sensors import _files

RANGE = 262143328850


@pytest.fixture
def package(tmp_path):
    """A RAPL counter's meter and its file."""
    folder = sysfs.rapl(tmp_path, "intel-rapl:0", "package-0", RANGE - 1_000_000, RANGE)
    found = meters.find(tmp_path)
    yield found.meters[0], folder / "energy_uj"
    found.close()


def joules(meter):
    """Its reading, which there must be."""
    reading = meter.read()
    assert isinstance(reading, Reading), reading
    return reading.value


def refused(meter):
    """Why there is no reading."""
    said = meter.read()
    assert isinstance(said, Unavailable), said
    return said


def sensor(root, **files):
    """One inline meter."""
    folder = sysfs.hwmon(root, 0, "ina226", "i2c-1/1-0040", **files)
    return meters.find(root).meters[0], folder


def test_a_counter_wraps_around_and_goes_on(package):
    meter, file = package
    assert joules(meter) == 0.0
    for raw, expected in ((RANGE - 400_000, 0.6), (99_999, 1.099999), (300_000, 1.3), (300_000, 1.3)):
        meter._counters[0]._last_ns -= 10**9  # a second later
        file.write_text(f"{raw}\n")
        assert joules(meter) == pytest.approx(expected, abs=1e-6)


@given(st.lists(st.integers(0, 999), max_size=50), st.integers(0, 999))
def test_however_often_a_counter_wraps_its_sum_is_right(steps, start):
    counter, total, now_ns = _files.Counted(_files.Number(Path("energy_uj")), 1.0, 1000), 0, 0
    assert counter.value(b"%d\n" % start, now_ns) == 0
    for step in steps:
        total, now_ns = total + step, now_ns + 49_960_000  # in which 999 J are plausible, and 1000 are not
        assert counter.value(b"%d\n" % ((start + total) % 1000), now_ns) == total


def test_a_counter_that_was_set_back_is_once_unavailable_and_never_falls(package):
    meter, file = package
    file.write_text(f"{RANGE // 2}\n")
    joules(meter)
    file.write_text(f"{RANGE // 2 + 7_000_000}\n")
    assert joules(meter) == pytest.approx(7.0)
    file.write_text("0\n")  # as after a suspend: 131 kJ within a millisecond would be no wrap
    assert "set back" in refused(meter).reason
    assert joules(meter) == pytest.approx(7.0)
    file.write_text("2000000\n")
    assert joules(meter) == pytest.approx(9.0)


def test_a_counter_beyond_its_own_range_counts_and_does_not_wrap(package):
    meter, file = package
    file.write_text("60293987000000\n")  # as intel/powertelemetry's issue 3 has it, with a range of 262 kJ
    joules(meter)
    first = joules(meter)
    file.write_text("60293988000000\n")
    assert joules(meter) == pytest.approx(first + 1.0)
    file.write_text("1000\n")
    assert "set back" in refused(meter).reason
    assert joules(meter) == pytest.approx(first + 1.0)


def test_a_counter_that_may_have_wrapped_around_unseen_is_a_gap_and_goes_on(package):
    meter, file = package
    file.write_text("1000000\n")
    joules(meter)
    for later in ("0", "9000000"):  # whether it is seen to have gone back or not
        file.write_text(f"{later}\n")
        meter._counters[0]._last_ns -= 20 * 10**9  # the process was stopped
        assert "not read for 20 s: it may have wrapped around unseen" in refused(meter).reason
        assert joules(meter) == 0.0
    file.write_text("11000000\n")
    assert joules(meter) == pytest.approx(2.0)
    meter._counters[0]._last_ns -= 20 * 10**9
    meter.begin()
    assert joules(meter) == pytest.approx(2.0)  # nobody asked for what went before


def test_a_counter_without_a_range_never_wraps(tmp_path):
    meter, folder = sensor(tmp_path, energy1_input=5_000_000)
    joules(meter)
    (folder / "energy1_input").write_text("1000\n")
    assert "set back" in refused(meter).reason


def test_of_a_sum_of_counters_one_that_fails_makes_it_unavailable_and_none_wraps_unseen(tmp_path):
    sysfs.server(tmp_path)
    total = meters.find(tmp_path).total()
    first, second = (tmp_path / f"sys/class/powercap/intel-rapl:{socket}/energy_uj" for socket in (0, 1))
    assert joules(total) == 0.0
    first.write_text("broken\n")
    second.write_text("11000000\n")
    assert "no number" in refused(total).reason
    first.write_text("6000000\n")
    assert joules(total) == pytest.approx(2.0)


def test_an_io_error_is_a_reason_and_no_zero(tmp_path):
    _, folder = sensor(tmp_path, power1_input=1)
    (folder / "power1_input").unlink()
    (folder / "power1_input").symlink_to("/proc/self/mem")  # reading it at 0 is EIO
    meter = meters.find(tmp_path).meters[0]
    said = refused(meter)
    assert "does not answer: Input/output error" in said.reason
    assert "power1_input" in said.reason
    assert "dmesg" in said.fix


def test_a_sensor_answers_again_after_an_io_error(tmp_path, monkeypatch):
    meter, _ = sensor(tmp_path, power1_input=2_000_000)
    assert joules(meter) == 2.0
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(errno.EREMOTEIO, "")))
        assert "does not answer" in refused(meter).reason
    assert joules(meter) == 2.0


@pytest.mark.parametrize("gone", [errno.ENODEV, errno.ENXIO, errno.ESTALE])
def test_what_the_kernel_says_of_a_sensor_that_was_taken_away(tmp_path, monkeypatch, gone):
    meter, _ = sensor(tmp_path, power1_input=2_000_000)
    joules(meter)
    monkeypatch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(gone, "")))
    assert "the sensor is gone" in refused(meter).reason


def renumbered(root, folder, number):
    """A chip's driver that was loaded anew: the same device, another number in the class."""
    now = folder.with_name(f"hwmon{number}")
    folder.rename(now)
    (root / "sys/class/hwmon" / folder.name).unlink()
    sysfs.link(root, f"sys/class/hwmon/{now.name}", now)
    return now


def went_away(meter, monkeypatch):
    """Its descriptors say what the kernel's say of a device that was taken away."""
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(errno.ENODEV, "")))
        assert "the sensor is gone" in refused(meter).reason


def test_a_sensor_that_comes_back_under_another_number_is_found_and_never_taken_for_another(tmp_path, monkeypatch):
    meter, folder = sensor(tmp_path, power1_input=2_000_000)
    assert joules(meter) == 2.0
    now = renumbered(tmp_path, folder, 5)
    sysfs.hwmon(tmp_path, 0, "ina226", "i2c-2/2-0041", power1_input=9_000_000)  # takes the number that is free
    went_away(meter, monkeypatch)
    assert joules(meter) == 2.0
    shutil.rmtree(now)
    monkeypatch.setattr(_files, "AGAIN_NS", 0)
    went_away(meter, monkeypatch)
    assert "the sensor is gone" in refused(meter).reason
    sysfs.hwmon(tmp_path, 6, "ina219", "i2c-1/1-0040", power1_input=1)  # another chip at its address
    assert "the sensor is gone" in refused(meter).reason


def test_a_rail_of_a_jetson_is_found_again_under_another_number(tmp_path, monkeypatch):
    folder = sysfs.orin_nano(tmp_path)
    meter = meters.find(tmp_path).meters[0]
    watts = joules(meter)
    renumbered(tmp_path, folder, 7)
    went_away(meter, monkeypatch)
    monkeypatch.setattr(_files, "AGAIN_NS", 0)
    for file in meter.files:
        file.close()
    assert joules(meter) == watts


def test_a_channel_that_was_switched_off_has_no_value(tmp_path, monkeypatch):
    meter, _ = sensor(tmp_path, power1_input=2_000_000)
    monkeypatch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(OSError(errno.ENODATA, "")))
    assert "switched off" in refused(meter).reason


def test_a_sensor_vanishes_and_comes_back(tmp_path, monkeypatch):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    score = Path(f"/proc/{process.pid}/oom_score_adj")
    score.write_text("500")  # a number in a file of the kernel's that goes away with the process
    _, folder = sensor(tmp_path, power1_input=1)
    file = folder / "power1_input"
    file.unlink()
    file.symlink_to(score)
    meter = meters.find(tmp_path).meters[0]
    assert joules(meter) == pytest.approx(500e-6)
    process.communicate(b"\n")
    assert "the sensor is gone" in refused(meter).reason
    file.unlink()
    assert refused(meter).fix == "attach it again, or load its driver"
    file.write_text("3000000\n")
    assert isinstance(meter.read(), Unavailable)  # looked for again only after a while
    monkeypatch.setattr(_files.time, "monotonic_ns", lambda now=_files.time.monotonic_ns: now() + 2 * _files.AGAIN_NS)
    assert joules(meter) == pytest.approx(3.0)


@pytest.mark.parametrize("content", ["", "n/a", "12 W", "1.5", "0x10", "\x00\x00", "9" * 63 + "x"])
def test_what_is_no_number_is_quoted(tmp_path, content):
    meter, folder = sensor(tmp_path, power1_input=1)
    (folder / "power1_input").write_text(content)
    said = refused(meter)
    assert "which is no number" in said.reason
    assert repr(content[:40].encode()) in said.reason


def test_readings_between_the_updates_of_a_slow_sensor_repeat_its_last_value(tmp_path):
    meter, folder = sensor(tmp_path, power1_input="1000000")
    seen = []
    with (folder / "power1_input").open("r+b", buffering=0) as file:
        for step in range(10):
            os.pwrite(file.fileno(), b"%07d" % (1_000_000 + step), 0)
            seen += [joules(meter) for _ in range(100)]
    assert sorted(set(seen)) == pytest.approx([1 + step * 1e-6 for step in range(10)], abs=1e-9)
    assert seen == sorted(seen)


def test_no_descriptor_is_left_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    sysfs.agx_orin(tmp_path)
    sysfs.laptop(tmp_path)
    found = meters.find(tmp_path)
    for name in found.names():
        found.named(name).read()
    assert len(list(Path("/proc/self/fd").iterdir())) > before
    found.close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_what_may_not_be_read_is_left_out_with_the_rule_as_its_fix():
    root = Path(tempfile.mkdtemp(prefix="firstspike-meters-"))
    try:
        root.chmod(0o755)
        (sysfs.laptop(root) / "energy_uj").chmod(0o400)
        (sysfs.orin_nano(root) / "curr1_input").chmod(0o200 if os.getuid() else 0o400)
        if os.getuid() == 0:
            found = _as_nobody(root)
        else:
            (root / "sys/class/powercap/intel-rapl:0/energy_uj").chmod(0)
            found = _reasons(root)
    finally:
        shutil.rmtree(root)
    reason, fix = found["left_out"]["rapl:package-0"]
    assert "intel-rapl:0/energy_uj: may not be read" in reason
    assert "udev rule" in fix
    assert "curr1_input: may not be read" in found["left_out"]["ina3221:VDD_IN"][0]
    assert "rapl:package-0" not in found["meters"]


def _reasons(root):
    found = meters.find(root)
    left_out = {one.name: (one.reason, one.fix) for one in found.left_out}
    return {"meters": [meter.name for meter in found.meters], "left_out": left_out}


def _as_nobody(root):
    """Root may read everything: look as a user who may not."""
    meters.find(root)  # imports what it needs, which nobody might not be able to read
    end, begin = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            os.write(begin, json.dumps(_reasons(root)).encode())
        except BaseException:  # noqa: BLE001 (the child must end here)
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(begin)
    with os.fdopen(end) as file:
        found = json.load(file)
    os.waitpid(child, 0)
    return found
