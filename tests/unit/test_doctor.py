"""The doctor: always an answer, whatever a driver does when it is asked; and what cannot run is named with its fix."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest
from tests.support.program import ROOT, complained, firstspike
from tests.support.workers import fake_python, new_driver, script

from firstspike import cli, doctor
from firstspike.bundle import MANIFEST
from firstspike.doctor import Section
from firstspike.worker import drivers, environments, install

__all__ = ["new_driver"]

DRIVER = """
"`[backend.mine]`: a device of a test"
import os, signal, sys, time
from firstspike.worker.shim import AbsentError, Option
ENVIRONMENT = {{"python": ["3"], "packages": ["numpy"], "system": ["libnowhere-3.0-0"]}}
NETWORK = "none"
OPTIONS = {{"device": Option("any", "which"), "n": Option(3, "how many")}}
TRIED = "never run on hardware"
def probe(options):
    {body}
class Driver: pass
"""
HERE = (sys.executable,)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty place for environments."""
    monkeypatch.setenv(environments.OVERRIDE, str(tmp_path / "workers"))
    return tmp_path / "workers"


def examined(new_driver, body, *, options=None, command=HERE, within_s=10.0):
    """One driver whose probe has this body."""
    name = new_driver("mine", DRIVER.format(body=body))
    return doctor.accelerators([Section(name, name, options or {}, command)], within_s)[0]


def test_attached(new_driver, place):
    found = examined(new_driver, 'return [{"device": "a", "present": True, "driver": "1.2"}]')
    assert (found.state, found.reason, found.fix) == ("ready", "", "")
    assert [(d.device, d.present, dict(d.more)) for d in found.devices] == [("a", True, {"driver": "1.2"})]
    assert found.worker["python"] == ".".join(map(str, sys.version_info[:3]))
    assert found.tried == "never run on hardware"


def test_not_attached_is_told_in_the_drivers_words(new_driver, place):
    body = 'return [{"device": "stick", "present": False, "reason": "no USB device 03e7:2485", "fix": "plug it in"}]'
    found = examined(new_driver, body)
    assert (found.state, found.reason, found.fix) == ("absent", "no USB device 03e7:2485", "plug it in")
    found = examined(new_driver, "return []")
    assert (found.state, found.reason) == ("absent", "no device was found")
    found = examined(new_driver, 'raise AbsentError("no libcuda", "install it")')
    assert (found.state, found.reason, found.fix) == ("absent", "no libcuda", "install it")


def test_the_configured_options_reach_the_probe_over_the_defaults(new_driver, place):
    body = 'return [{"device": "%s %d" % (options["device"], options["n"]), "present": True}]'
    assert examined(new_driver, body, options={"device": "GPU"}).devices[0].device == "GPU 3"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("time.sleep(600)", "no answer within 1 s: the worker was killed"),
        ("os.kill(os.getpid(), signal.SIGSTOP)", "no answer within 1 s"),
        ("os._exit(3)", "exit code 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
        ("1 / 0", "its probe failed: ZeroDivisionError"),
        ("raise SystemExit('I give up')", "I give up"),
        ("return 7", "no list of devices"),
        ("return [7]", "a device without name and presence"),
        ("return [{'device': 'a'}]", "a device without name and presence"),
        ("return [{'device': 'a', 'present': 'yes'}]", "a device without name and presence"),
        ("return [{'device': 'a' * 3000000, 'present': True}]", "too large"),
        ("[os.write(fd, b'garbage' * 9) for fd in range(3, 6)]; return []", "is no frame"),
    ],
)
def test_whatever_a_probe_does_there_is_an_answer(new_driver, place, body, reason):
    hangs = "time.sleep" in body or "SIGSTOP" in body
    found = examined(new_driver, body, within_s=1.0 if hangs else 20.0)
    assert found.state == "failed"
    assert reason in found.reason
    assert found.devices == ()


def test_a_probe_that_floods_its_outputs_is_answered_all_the_same(new_driver, place):
    body = """for _ in range(2000): os.write(2, b'E: noise, again and again\\n' * 400); print('x' * 4000)
    return [{'device': 'a', 'present': True}]"""
    assert examined(new_driver, body).state == "ready"


def test_a_thousand_devices_are_cut(new_driver, place):
    body = "return [{'device': str(n), 'present': True, 'reason': 'x' * 1000} for n in range(500)]"
    found = examined(new_driver, body)
    assert len(found.devices) == 64
    assert max(len(device.reason) for device in found.devices) == 500


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "cannot be started"),
        ("#!/bin/sh\nexit 4\n", "exit code 4"),
        ("#!/bin/sh\necho hello there, this is no worker; cat > /dev/null\n", "is no frame"),
        ("#!/bin/sh\necho 'No module named numpy' >&2; exit 1\n", "No module named numpy"),
        ("#!/bin/sh\nsleep 600\n", "no answer within 1 s"),
    ],
)
def test_whatever_the_command_is_there_is_an_answer(new_driver, place, tmp_path, text, reason):
    path = tmp_path / "python"
    if text is not None:
        script(path, text)
    found = examined(new_driver, "return []", command=(str(path),), within_s=1.0 if "sleep" in str(text) else 20.0)
    assert (found.state, reason in found.reason) == ("failed", True), found.reason


def test_without_an_environment_firstspikes_own_python_looks_and_the_fix_is_to_install(new_driver, place):
    body = 'return [{"device": "stick", "present": True}]'
    found = examined(new_driver, body, command=None)
    assert (found.state, found.fix) == ("not installed", "firstspike workers install mine")
    assert found.reason == "no environment was made for it"
    assert found.probed_with == "firstspike"
    assert found.devices[0].present
    assert [library.package for library in found.missing] == ["libnowhere-3.0-0"]


def test_an_environment_that_broke_is_told_so(new_driver, place, tmp_path):
    python = fake_python(tmp_path / "py" / "python3.9")
    name = new_driver("mine", DRIVER.format(body="return []"))
    install.install(drivers.load(name), python, force=False, say=print, progress=print)
    found = doctor.accelerators([Section(name, name)])[0]
    assert (found.state, found.probed_with) == ("failed", "environment")  # what was installed is no Python
    assert found.fix == "firstspike workers install mine --force"
    python.unlink()
    found = doctor.accelerators([Section(name, name)])[0]
    assert (found.state, found.fix) == ("broken", "firstspike workers install mine")
    assert "is gone" in found.reason


@pytest.mark.parametrize("text", ["import nowhere", "def", "raise SystemError(1)", "class Driver: pass"])
def test_a_drivers_file_that_cannot_be_used_spoils_nothing_else(new_driver, place, capsys, text):
    new_driver("mine", text)
    found = {one.name: one for one in doctor.accelerators([Section(name, name) for name in ("mine", "null")])}
    assert found["mine"].state == "failed"
    assert "the file of back end mine cannot be used" in found["mine"].reason
    assert found["null"].state == "ready"
    assert cli.main(["workers", "list"]) == 0
    out, err = capsys.readouterr()
    assert "null" in out
    assert "the file of back end mine cannot be used" in err
    assert cli.main(["workers", "install", "mine"]) == os.EX_USAGE


def test_many_are_asked_at_once_and_one_that_hangs_keeps_no_other_from_its_answer(new_driver, place):
    new_driver("mine", DRIVER.format(body='return [{"device": "a", "present": True}]'))
    new_driver("stuck", DRIVER.format(body="time.sleep(600)"))
    found = doctor.accelerators([Section(name, name, {}, HERE) for name in ("stuck", "mine", "stuck", "mine")], 5.0)
    assert [accelerator.state for accelerator in found] == ["failed", "ready", "failed", "ready"]


def test_the_report_for_a_new_user(place):
    done = firstspike("doctor")
    assert done.returncode == 0, done.stdout
    for part in ("native library   kernels ", "nmnist@", "accelerators", "emulator       can run", "ipc://"):
        assert part in done.stdout
    assert done.stderr == ""


JSON_KEYS = {
    "": {
        "schema", "ok", "machine", "configuration", "native", "endpoint", "models", "installation",
        "accelerators", "plans",
    },
    "machine": {"firstspike", "python", "machine", "system", "cpus"},
    "configuration": {"ok", "text", "fix"}, "native": {"ok", "text", "fix"}, "endpoint": {"ok", "text", "fix"},
    "installation": {"name", "state", "text", "fix"},
    "models": {"name", "version", "path", "ok", "reason"},
    "accelerators": {
        "name", "kind", "state", "reason", "fix", "devices", "probed_with", "worker", "tried", "environment",
        "missing_libraries",
    },
    "plans": {"name", "ok", "reason", "fix"},
}  # fmt: skip


def test_the_report_for_programs_has_the_documented_keys(new_driver, place, capsys):
    new_driver("mine", DRIVER.format(body='return [{"device": "a", "present": False, "reason": "r"}]'))
    assert cli.main(["doctor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["schema"], report["ok"]) == ("firstspike.doctor/1", True)
    documented = (ROOT / "docs" / "workers.md").read_text()
    for name, keys in JSON_KEYS.items():
        value = report[name] if name else report
        for entry in value if isinstance(value, list) else [value]:
            assert set(entry) == keys, name
        assert all(f"`{key}`" in documented for key in keys), name
    mine = next(accelerator for accelerator in report["accelerators"] if accelerator["name"] == "mine")
    assert set(mine["environment"]) == {
        "state", "path", "reason", "fix", "python", "packages", "installed", "made",
    }  # fmt: skip
    assert mine["devices"] == [{"device": "a", "present": False, "reason": "r", "fix": "", "more": {}}]
    assert "null" not in [accelerator["name"] for accelerator in report["accelerators"]]  # it is for tests


def test_the_report_for_a_person_names_state_reason_and_fix(new_driver, place, capsys):
    body = 'return [{"device": "stick", "present": False, "reason": "not plugged in", "fix": "plug it in"}]'
    new_driver("mine", DRIVER.format(body=body))
    assert cli.main(["workers", "doctor", "mine"]) == os.EX_UNAVAILABLE
    out = capsys.readouterr().out
    for part in (
        "mine           not installed", "fix: firstspike workers install mine", "stick: not seen: not plugged in",
        "fix: plug it in", "missing: libnowhere-3.0.so.0", "apt-get install libnowhere-3.0-0", "never run on hardware",
    ):  # fmt: skip
        assert part in out, out


def test_a_configuration_that_is_wrong_ends_nothing_else(place, tmp_path):
    done = firstspike("doctor", "--set", "model.pat=1")
    assert done.returncode == os.EX_CONFIG
    assert "model.pat" in done.stdout
    assert "native library   kernels" in done.stdout
    done = firstspike("doctor", "--config", tmp_path / "none.toml", "--json")
    assert done.returncode == os.EX_CONFIG
    assert not json.loads(done.stdout)["configuration"]["ok"]


def test_a_plan_that_cannot_run_is_named(place, tmp_path):
    done = firstspike("doctor", "--set", f"model.path={tmp_path}/nothing", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == os.EX_UNAVAILABLE
    assert [(plan["name"], plan["ok"]) for plan in report["plans"]] == [("emulator", False)]
    assert "nothing" in report["plans"][0]["reason"]


def test_every_plan_is_tried_as_the_daemon_makes_it(new_driver, place, capsys):
    new_driver("mine", DRIVER.format(body='return [{"device": "a", "present": True}]'))
    arguments = [
        'schedule.plans=["slow", "gone", "mine", "null", "emulator"]',
        "backend.slow.kind=null", "backend.slow.load_s=8",
        "backend.gone.kind=null", "backend.gone.fault=absent", f"backend.mine.command=['{sys.executable}']",
    ]  # fmt: skip
    settings = [part for argument in arguments for part in ("--set", argument)]
    assert cli.main(["doctor", "--json", "--timeout", "4", *settings]) == os.EX_UNAVAILABLE
    out, err = capsys.readouterr()
    report = json.loads(out)
    slow, gone, mine, *others = report["plans"]
    assert [(plan["name"], plan["ok"], plan["reason"]) for plan in others] == [
        ("null", True, ""),
        ("emulator", True, ""),
    ]
    assert (slow["name"], slow["ok"], slow["reason"]) == ("slow", False, "not ready within 4 s")
    assert (gone["name"], gone["reason"]) == ("gone", "absent: it was told to be absent")
    assert gone["fix"] == "set backend.null.fault to none"
    assert (mine["name"], mine["ok"]) == ("mine", False)  # its probe sees a device, and its driver loads no network
    states = {one["name"]: (one["kind"], one["state"]) for one in report["accelerators"]}
    assert states["gone"] == ("null", "absent")
    assert states["slow"] == ("null", "ready")
    assert states["mine"] == ("mine", "ready")
    assert err == ""


def test_what_else_may_be_wrong_is_told(place, tmp_path, monkeypatch):
    (tmp_path / "models" / "bad").mkdir(parents=True)
    (tmp_path / "models" / "bad" / MANIFEST).write_text("{}")
    (tmp_path / "file").write_text("")
    done = firstspike(
        "doctor", "--set", f"publish.endpoint=ipc://{tmp_path}/file/x", "--json",
        environment={"FIRSTSPIKE_MODELS": str(tmp_path / "models"), "FIRSTSPIKE_LIBRARY": str(tmp_path / "file")},
    )  # fmt: skip
    report = json.loads(done.stdout)
    assert done.returncode == os.EX_UNAVAILABLE
    assert (report["endpoint"]["ok"], report["native"]["ok"]) == (False, False)
    assert "make setup" in report["native"]["fix"]
    bad = [model for model in report["models"] if not model["ok"]]
    assert [Path(model["path"]).name for model in bad] == ["bad"]


def test_mistakes_of_the_caller(place, capsys):
    complained(firstspike("doctor", "--timeout", "0"), os.EX_USAGE, "'0'")
    assert cli.main(["workers", "doctor", "nul"]) == os.EX_USAGE
    assert "'nul'" in capsys.readouterr().err


def test_a_place_for_sockets_that_may_not_be_looked_into_is_an_answer(tmp_path, monkeypatch):
    def refuse(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "exists", refuse)
    fact = doctor.endpoint(f"ipc://{tmp_path}/sub/p")
    assert not fact.ok
    assert f"{tmp_path}/sub: cannot be looked at: Permission denied" in fact.text
