"""`firstspike meters` as a user calls it, and on a machine whose /sys umockdev pretends and changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.support import sysfs

from firstspike.cli import main
from firstspike.energy.meters import kinds

FIRSTSPIKE = Path(sys.executable).with_name("firstspike")


@pytest.fixture
def meters(capsys):
    """The command in this process: its exit code, output and errors."""

    def called(*args):
        code = main(["meters", *map(str, args)])
        return code, *capsys.readouterr()

    return called


def test_a_person_sees_the_total_its_parts_and_why_others_are_not_there(meters, tmp_path):
    sysfs.agx_orin(tmp_path)
    code, text, errors = meters("--root", tmp_path)
    assert (code, errors) == (0, "")
    assert text.startswith("ina3221:VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0  8.711 W\n    sum of 3 rails")
    assert "board, nearest to the whole machine; power; steps of" in text
    assert "    ina3221:VDDQ_VDD2_1V8AO: not in the sum" in text
    assert "ina3221:NC: " in text
    assert "rapl: no RAPL counter" in text


def test_a_program_gets_the_same_as_json(meters, tmp_path):
    sysfs.laptop(tmp_path)
    (tmp_path / "sys/class/power_supply/BAT0/status").write_text("Charging\n")
    found = json.loads(meters("--json", "--root", tmp_path)[1])
    assert found["schema"] == "firstspike.meters/1"
    assert found["total"] == "rapl:package-0"  # the battery says nothing now
    battery, package = found["meters"]
    assert battery["watts"] is None
    assert "the battery is charging" in battery["reason"]
    assert "unplug" in battery["fix"]
    assert (package["watts"], package["kind"]) == (None, "counter")  # nothing in this tree moves: 0 W would be a guess
    assert package["reason"].startswith("rapl:package-0: the counter stood still for 0.25 s")
    psys = next(one for one in found["left_out"] if one["name"] == "rapl:psys")
    assert psys["by_name"] is True


def test_a_machine_without_any_meter_is_no_failure(meters, tmp_path):
    (tmp_path / "sys").mkdir()
    code, text, _ = meters("--root", tmp_path)
    assert code == 0
    assert "no meter in" in text
    assert "energy is modelled, or unavailable" in text


def test_this_machine_can_be_asked():
    done = subprocess.run([FIRSTSPIKE, "meters", "--json"], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    said = {one["kind"] for one in found["left_out"]} | {one["name"].split(":")[0] for one in found["meters"]}
    assert said >= set(kinds())


@pytest.mark.parametrize("args", [["--root", "/nowhere"], ["--root", "{tmp}", "--watch"]])
def test_a_mistake_is_one_line_with_the_fix(meters, tmp_path, args):
    (tmp_path / "sys").mkdir()
    code, text, errors = meters(*(arg.format(tmp=tmp_path) for arg in args))
    assert (code, text) == (os.EX_NOINPUT, "")
    assert len(errors.splitlines()) == 1


def test_watching_goes_on_until_it_is_ended(tmp_path):
    sysfs.nano(tmp_path)
    process = subprocess.Popen([FIRSTSPIKE, "meters", "--watch", "--root", tmp_path], stdout=subprocess.PIPE, text=True)
    lines = [process.stdout.readline() for _ in range(2)]
    process.terminate()
    process.communicate(timeout=10)
    assert lines == ["ina3221:POM_5V_IN 2.875 W\n"] * 2


LIVE = """
import json, os, pathlib, time
from firstspike.energy import Reading
from firstspike.energy.meters import find

def said(name):
    reading = found.named(name).read()
    return reading.value if isinstance(reading, Reading) else reading.reason

def change(path, text):
    (sys / path).write_text(text)

sys = pathlib.Path(os.environ["UMOCKDEV_DIR"]) / "sys/devices"
rapl = "virtual/powercap/intel-rapl/intel-rapl:0/energy_uj"
rail = "platform/c240000.i2c/i2c-1/1-0040/hwmon/hwmon1"
found, seen = find(), []
seen.append([meter.name for meter in found.meters])
seen.append([said("rapl:package-0"), said("ina3221:VDD_IN")])
change(rapl, "262143328850"); seen.append(said("rapl:package-0"))
time.sleep(0.02)
change(rapl, "500000"); seen.append(said("rapl:package-0"))
change(f"{rail}/curr1_input", "1000"); seen.append(said("ina3221:VDD_IN"))
change(f"{rail}/curr1_input", "overload"); seen.append(said("ina3221:VDD_IN"))
found.close()
(sys / rail / "curr1_input").unlink(); seen.append(said("ina3221:VDD_IN"))
change(f"{rail}/in1_label", "NC"); seen.append([meter.name for meter in find().meters])
print(json.dumps(seen))
"""

DEVICES = """\
P: /devices/virtual/powercap/intel-rapl/intel-rapl:0
E: SUBSYSTEM=powercap
A: name=package-0\\n
A: energy_uj=262143228850\\n
A: max_energy_range_uj=262143328850\\n

P: /devices/platform/c240000.i2c/i2c-1/1-0040/hwmon/hwmon1
E: SUBSYSTEM=hwmon
A: name=ina3221\\n
A: in1_label=VDD_IN\\n
A: in1_input=5000\\n
A: curr1_input=900\\n
A: in2_label=VDD_SOC\\n
A: in2_input=5000\\n
A: curr2_input=300\\n
"""


def test_umockdev_changes_what_is_read(tmp_path):
    if shutil.which("umockdev-run") is None:
        pytest.skip("umockdev-run is not installed (Debian: apt-get install umockdev)")
    devices, script = tmp_path / "machine.umockdev", tmp_path / "live.py"
    devices.write_text(DEVICES)
    script.write_text(textwrap.dedent(LIVE))
    command = ["umockdev-run", "--device", devices, "--", sys.executable, script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    names, first, full, wrapped, more, broken, gone, unconnected = json.loads(done.stdout)
    assert names == ["ina3221:VDD_IN", "rapl:package-0"]
    assert first == [0.0, pytest.approx(4.5)]
    assert [full, wrapped] == pytest.approx([0.1, 0.6])
    assert more == pytest.approx(5.0)
    assert "b'overload', which is no number" in broken
    assert "the sensor is gone" in gone
    assert "ina3221:VDD_IN" not in unconnected
