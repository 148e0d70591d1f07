"""The doctor's look at the installation: each thing is named with its fix, whatever the machine is like."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import types

import pytest
from tests.support.program import firstspike
from tests.support.workers import script

from firstspike import keys
from firstspike.cli.common import apply_settings
from firstspike.config_layers import read_layers
from firstspike.doctor import around as room
from firstspike.doctor.around import installation, judge_service


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def config(*settings):
    return apply_settings(read_layers(None, []), ["model.path=nmnist", "source.kind=simulated", *settings])


def looked(name, root, loaded=None):
    """All checks of one name."""
    return [check for check in installation(loaded, root) if check.name == name]


def file(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path


def usb(root, name, vendor, product, speed="5000", node=True):
    place = root / "sys/bus/usb/devices" / name
    for key, value in {
        "idVendor": vendor, "idProduct": product, "busnum": "2", "devnum": "7", "speed": speed
    }.items():  # fmt: skip
        file(place / key, value)
    if node:
        file(root / "dev/bus/usb/002/007")


def test_an_empty_machine_has_an_answer_for_everything_and_nothing_is_wrong(root):
    found = installation(None, root)
    assert {"service", "udev rules", "group", "sockets", "cameras", "state folder", "clock", "processor"} <= {
        check.name for check in found
    }
    assert {check.state for check in found} <= {"ok", "absent", "warning"}


@pytest.mark.parametrize(
    ("values", "state", "says"),
    [
        ({"LoadState": "not-found"}, "absent", "make install"),
        ({"LoadState": "bad-setting"}, "wrong", "systemctl status"),
        ({"LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead"}, "warning", "enable --now"),
        ({"LoadState": "loaded", "ActiveState": "failed", "Result": "exit-code"}, "wrong", "journalctl"),
        ({"LoadState": "loaded", "ActiveState": "active", "NRestarts": "3"}, "warning", "3 restarts"),
        (
            {"LoadState": "loaded", "ActiveState": "active", "StatusText": "running: emulator"},
            "ok",
            "running: emulator",
        ),
    ],
)
def test_how_the_service_stands(values, state, says):
    check = judge_service(values)
    assert check.state == state
    assert says in check.text + check.fix


@pytest.mark.parametrize(
    ("answer", "state", "says"),
    [
        ("echo LoadState=loaded; echo ActiveState=active; echo Result=success", "ok", "active"),
        ("echo no bus >&2; exit 1", "unknown", "no bus"),
        ("sleep 60", "unknown", "did not answer"),
    ],
)
def test_systemctl_is_asked_where_systemd_runs(root, tmp_path, monkeypatch, answer, state, says):
    (root / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin" / "systemctl", f"#!/bin/sh\n{answer}\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setattr(room, "COMMAND_S", 0.3 if "sleep" in answer else 10)
    (check,) = looked("service", root)
    assert (check.state, says in check.text) == (state, True), check


def test_udev_rules(root):
    assert looked("udev rules", root)[0].state == "absent"
    (root / "etc/udev/rules.d").mkdir(parents=True)
    (check,) = looked("udev rules", root)
    assert (check.state, "make install" in check.fix) == ("warning", True)
    file(root / "usr/lib/udev/rules.d" / room.RULES)
    assert looked("udev rules", root)[0].state == "ok"


def test_cameras_by_vendor_and_product(root):
    usb(root, "2-1", "1d6b", "0003")
    assert [check.state for check in looked("cameras", root)] == ["absent"]
    usb(root, "2-2", "152a", "841a")
    usb(root, "2-3", "04b4", "00f5", speed="480")
    usb(root, "2-4", "152a", "9999")
    (root / "sys/bus/usb/devices/2-5").mkdir()
    found = looked("cameras", root)
    assert [check.state for check in found] == ["ok", "warning", "ok"]
    assert "DAVIS346" in found[0].text
    assert "480 Mbit/s" in found[1].text
    assert "USB 3" in found[1].fix


def test_a_camera_without_its_node(root):
    usb(root, "2-2", "152a", "8419", node=False)
    (check,) = looked("cameras", root)
    assert (check.state, "container" in check.fix) == ("wrong", True)


def test_a_camera_that_may_not_be_opened(root, monkeypatch):
    usb(root, "2-2", "152a", "8419")
    monkeypatch.setattr(os, "access", lambda *_: False)
    (check,) = looked("cameras", root)
    assert (check.state, "udev rules" in check.fix) == ("warning", True)


def test_what_is_missing_has_a_fix_on_a_machine_with_nothing_plugged_in(root, monkeypatch):
    monkeypatch.setattr(room, "GROUP", "nobody-has-this")
    assert "simulated" in looked("cameras", root)[0].fix
    (root / "sys/bus/usb/devices").mkdir(parents=True)
    assert "plug one in" in looked("cameras", root)[0].fix
    assert looked("group", root)[0].fix == "groupadd --system nobody-has-this"


def test_sockets(root, tmp_path):
    path = tmp_path / "p"
    loaded = config(f"publish.endpoint={path}")
    assert looked("sockets", root, loaded)[0].state == "absent"
    path.touch(0o660)
    path.chmod(0o660)
    assert looked("sockets", root, loaded)[0].state == "ok"
    path.chmod(0o666)
    assert looked("sockets", root, loaded)[0].state == "wrong"
    path.chmod(0o660)
    tmp_path.chmod(0o777)
    assert looked("sockets", root, loaded)[0].state == "wrong"
    (check,) = looked("sockets", root, config(f"publish.endpoint={path}", "publish.group=nobody-has-this"))
    assert (check.state, "groupadd" in check.fix) == ("wrong", True)


def test_tcp_with_and_without_its_keys(root, tmp_path):
    place = tmp_path / "keys"
    loaded = config("publish.tcp=tcp://127.0.0.1:5600", f"publish.keys={place}")
    (check,) = looked("publish.tcp", root, loaded)
    assert (check.state, "firstspike keys make" in check.text) == ("wrong", True)
    keys.make(place / "server")
    keys.allow(place, "desk", keys.make(tmp_path / "desk").public.decode())
    (check,) = looked("publish.tcp", root, loaded)
    assert (check.state, "desk" in check.text) == ("ok", True)
    assert "nothing leaves" in looked("publish.tcp", root, config())[0].text


def test_metrics(root):
    assert looked("metrics", root, config())[0].text == "not enabled"
    assert looked("metrics", root, config("metrics.enabled=true"))[0].state == "ok"
    far = ("metrics.enabled=true", "metrics.address=0.0.0.0:9464")
    assert looked("metrics", root, config(*far))[0].state == "wrong"
    assert looked("metrics", root, config(*far, "metrics.allow_remote=true"))[0].state == "warning"


def test_space_for_packets(root):
    settings = ["source.kind=network", "source.network.buffer_mib=4"]
    assert looked("network", root) == looked("network", root, config()) == []
    assert looked("network", root, config(*settings, "source.network.address=ipc:///tmp/x")) == []
    assert looked("network", root, config(*settings))[0].state == "unknown"
    file(root / "proc/sys/net/core/rmem_max", "212992")
    [found] = looked("network", root, config(*settings))
    assert (found.state, "4.0 MiB wanted, 0.2 MiB allowed" in found.text) == ("warning", True)
    assert "sysctl -w net.core.rmem_max=4194304" in found.fix
    file(root / "proc/sys/net/core/rmem_max", str(4 << 20))
    assert looked("network", root, config(*settings))[0].state == "ok"


@pytest.mark.parametrize(("free", "state"), [(1 << 20, "wrong"), (100 << 20, "warning"), (1 << 40, "ok")])
def test_space_for_the_state(root, tmp_path, monkeypatch, free, state):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "not" / "yet"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
    (check,) = looked("state folder", root)
    assert (check.state, str(tmp_path) in check.text) == (state, True)


def test_a_clock_that_was_never_set(root, monkeypatch):
    class Epoch(dt.datetime):
        @classmethod
        def now(cls, tz=None):
            return dt.datetime(1970, 1, 1, tzinfo=tz)

    monkeypatch.setattr(room.dt, "datetime", Epoch)
    (check,) = looked("clock", root)
    assert (check.state, "1970-01-01" in check.text) == ("warning", True)


@pytest.mark.parametrize(
    ("governor", "driver", "state"),
    [("powersave", "acpi-cpufreq", "warning"), ("powersave", "intel_pstate", "ok"), ("schedutil", "cpufreq-dt", "ok")],
)
def test_the_frequency_governor(root, governor, driver, state):
    place = root / "sys/devices/system/cpu/cpu0/cpufreq"
    file(place / "scaling_governor", governor)
    file(place / "scaling_driver", driver)
    (check,) = looked("processor", root)
    assert (check.state, governor in check.text) == (state, True)


def test_meters(root):
    assert [check.state for check in looked("meters", root)] == ["absent"]
    chip = root / "sys/class/hwmon/hwmon0"
    file(chip / "name", "ina226")
    file(chip / "power1_input", "1000000")
    (check,) = looked("meters", root)
    assert (check.state, "ina226" in check.text) == ("ok", True)


def test_a_look_that_fails_spoils_no_other(root, monkeypatch):
    monkeypatch.setattr(room, "_cameras", lambda _: 1 / 0)
    found = installation(None, root)
    assert [check.state for check in found if check.name == "cameras"] == ["unknown"]
    assert len(found) > 8


def test_what_is_wrong_decides_the_exit_code(tmp_path):
    place = tmp_path / "workers"
    arguments = ("--set", "publish.tcp=tcp://127.0.0.1:5600", "--set", f"publish.keys={tmp_path}", "--timeout", "20")
    done = firstspike("doctor", "--json", *arguments, environment={"FIRSTSPIKE_WORKERS": str(place)})
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (os.EX_UNAVAILABLE, False)
    assert [check["name"] for check in report["installation"] if check["state"] == "wrong"] == ["publish.tcp"]
