"""Real OpenVINO where the stick, libusb, netlink, the plug-in or OpenVINO itself is not there: each by name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support.program import ROOT
from tests.support.pythons import environment
from tests.support.sticks import CHILD, ask, myriad, umockdev

from firstspike.backends import _ncs2_preflight as preflight
from firstspike.backends import ncs2
from firstspike.worker.start import Program
from firstspike.worker.supervisor import Limits, Supervisor, WorkerError

ANN = ROOT / "models" / "nmnist" / "ann.onnx"
MODEL = {"name": "nmnist", "classes": 10, "channels": 2, "height": 34, "width": 34, "steps": 8, "scale": 0.125}
ON_STICK = f"driver.Driver(options(network='ann', connect_s=1.0), {MODEL!r}, Path({str(ANN)!r}).read_bytes()).about"
ON_CPU = ON_STICK.replace("options(", "options(device='CPU', ")
WITHOUT_NETLINK = [sys.executable, CHILD.parent / "without_netlink.py"]


def newer_openvino() -> Path:
    return environment(("3.9", "3.8", "3.7"), "openvino==2022.3.2")


def supervised(before, **limits):
    options = {key: option.default for key, option in ncs2.OPTIONS.items()} | {"network": "ann", "connect_s": 1.0}
    program = Program((*before, str(myriad())), "ncs2", ncs2.SIBLINGS, local=not before)
    return Supervisor("ncs2", program, ({"options": options, "model": MODEL}, ANN.read_bytes()), Limits(**limits))


def assert_absent(worker, *parts):
    try:
        condition = worker.wait_ready(30)
        assert condition.state == "absent"
        for part in parts:
            assert part in f"{condition.reason} {condition.fix}"
        with pytest.raises(WorkerError, match="absent"):
            worker.infer(np.zeros((2, 34, 34), np.uint8), time.monotonic() + 0.05)
    finally:
        worker.close()


def test_a_machine_without_a_stick():
    found = preflight.look()
    if found.stick is not None:
        pytest.skip(f"a stick is plugged in here: {found.stick.id}")
    assert_absent(supervised([]), found.reason, found.fix)


def test_a_stick_that_never_boots_is_absent_with_openvinos_words(tmp_path):
    assert_absent(supervised(umockdev(tmp_path, preflight.UNBOOTED)), "NC_ERROR", "did not boot within 1 s", "udev")


def test_a_stick_that_a_crashed_process_left_booted_is_told_apart(tmp_path):
    assert_absent(supervised(umockdev(tmp_path, preflight.BOOTED)), "1.1-ma2480", "03e7:f63b", "plug it in again")


def test_the_first_neural_compute_stick_is_told_apart(tmp_path):
    assert_absent(supervised(umockdev(tmp_path, preflight.OLDER)), "03e7:2150", "Neural Compute Stick 2")


def test_a_stick_is_looked_for_again_and_found(tmp_path):
    # It is plugged in between two looks: the command is a file that is changed.
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nexec "{myriad()}" "$@"\n')
    script.chmod(0o755)
    before = umockdev(tmp_path, preflight.UNBOOTED)
    if preflight.look().stick is not None:
        pytest.skip("a stick is plugged in here")
    program = Program((str(script),), "ncs2", ncs2.SIBLINGS, local=False)
    options = {key: option.default for key, option in ncs2.OPTIONS.items()} | {"network": "ann", "connect_s": 1.0}
    load = {"options": options, "model": MODEL}, ANN.read_bytes()
    worker = Supervisor("ncs2", program, load, Limits(look_s=0.2))
    try:
        assert worker.wait_ready(30).state == "absent"
        assert "did not boot" not in str(worker.condition.reason)
        script.write_text(f'#!/bin/sh\nexec {" ".join(before)} "{myriad()}" "$@"\n')
        deadline = time.monotonic() + 30
        while "did not boot" not in str(worker.condition.reason) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "did not boot" in str(worker.condition.reason)
    finally:
        worker.close()


def test_the_probe_lists_the_sticks_that_are_there(tmp_path):
    (found,), _ = ask(myriad(), "driver.probe(options())", before=umockdev(tmp_path, preflight.UNBOOTED))
    assert (found["device"], found["present"], found["state"]) == ("MYRIAD.1.1-ma2480", True, "ready")
    assert "never a real stick" in found["tried"]
    other = "driver.probe(options(device='MYRIAD.2.3-ma2480'))"
    (found,), _ = ask(myriad(), other, before=umockdev(tmp_path, preflight.UNBOOTED))
    assert (found["present"], found["state"]) == (False, "no-stick")
    assert "1.1-ma2480" in found["reason"]


@pytest.mark.parametrize("expression", ["driver.probe(options())", ON_STICK])
def test_a_libusb_that_does_not_load_is_named(tmp_path, expression):
    (tmp_path / "libusb-1.0.so.0").write_bytes(b"")  # found before the system's own
    found, _ = ask(myriad(), expression, environ={"LD_LIBRARY_PATH": str(tmp_path)})
    assert "libusb-1.0.so.0" in str(found)
    assert "apt-get install libusb-1.0-0" in str(found)


@pytest.mark.parametrize("expression", ["driver.probe(options())", ON_STICK])
def test_a_sandbox_without_netlink_is_named_and_floods_nothing(expression):
    found, errors = ask(myriad(), expression, before=WITHOUT_NETLINK)
    assert "netlink sockets are not allowed here" in str(found)
    assert "RestrictAddressFamilies" in str(found)
    assert len(errors) < 1000


def test_without_the_look_at_netlink_openvino_floods_its_log():
    """The reason for the look; should a later OpenVINO not do so, the look may go."""
    code = (
        "import sys; from openvino.inference_engine import IECore; core = IECore(); "
        "core.load_network(core.read_network(sys.argv[1]), 'MYRIAD')"
    )
    argv = [*WITHOUT_NETLINK, myriad(), "-c", code, ANN]
    child = subprocess.Popen([str(part) for part in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert len(child.stdout.read(1_000_000)) == 1_000_000
    finally:
        child.kill()
        child.communicate()


def test_an_openvino_without_the_plug_in_says_which_to_install(tmp_path):
    before = umockdev(tmp_path, preflight.UNBOOTED)
    (found,), _ = ask(newer_openvino(), "driver.probe(options())", before=before)
    assert (found["present"], found["state"], found["openvino"]) == (False, "no-sdk", "2022.3.2")
    assert "OpenVINO 2022.3.2 has no plug-in for the stick" in found["reason"]
    assert "openvino==2021.4.2" in found["fix"]
    found, _ = ask(newer_openvino(), ON_STICK, before=before)
    assert found["error"] == "AbsentError"
    assert "libopenvino_intel_myriad_plugin.so" in found["text"]


def test_no_openvino_at_all():
    found, _ = ask(sys.executable, ON_CPU)
    assert found["text"].startswith("OpenVINO is not installed for this Python")
    assert "firstspike workers install ncs2" in found["fix"]


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ({"openvino/__init__.py": "__version__ = '2026.4.1'"}, "OpenVINO 2026.4.1 knows no Neural Compute Stick"),
        ({"openvino.py": ""}, "OpenVINO of an unknown version knows no Neural Compute Stick"),
        (
            {"openvino/__init__.py": "", "openvino/runtime.py": "raise ImportError('libtbb.so.2: cannot open')"},
            "openvino.runtime cannot be used: libtbb.so.2: cannot open",
        ),
    ],
)
def test_an_openvino_that_cannot_drive_a_stick(tmp_path, files, text):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    found, _ = ask(sys.executable, ON_CPU, environ={"PYTHONPATH": str(tmp_path)})
    assert found["text"] == text


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """OpenVINO 2022.3 laid out as its archives are, where no library finds another by itself."""
    wheel = next(newer_openvino().parents[1].glob("lib/python3.*/site-packages/openvino"))
    folder = tmp_path_factory.mktemp("archive")
    python = wheel.parents[1].name
    machine = {"x86_64": "intel64"}.get(os.uname().machine, os.uname().machine)
    shutil.copytree(wheel, folder / "python" / python / "openvino", ignore=shutil.ignore_patterns("libs"))
    shutil.copytree(wheel / "libs", folder / "runtime" / "lib" / machine)
    return folder, python.removeprefix("python"), folder / "runtime" / "lib" / machine


def test_an_unpacked_archive_is_used_without_its_setupvars(archive):
    folder, version, libraries = archive
    python = environment((version,), "numpy==1.24.4")
    expression = (
        f"(lambda made: [made.about, made.infer(__import__('numpy').zeros((2, 34, 34), 'uint8'))['output'].shape, "
        f"str(driver.openvino.library_folder())])"
        f"(driver.Driver(options(device='CPU', network='ann', archive=arguments[0]), {MODEL!r}, "
        f"Path({str(ANN)!r}).read_bytes()))"
    )
    (about, shape, place), _ = ask(python, expression, folder)
    assert about == {"device": "CPU", "openvino": "2022.3.2", "api": "openvino.runtime"}
    assert shape == [10]
    assert place == str(libraries)
    files = "str(driver.openvino.check_files(driver.openvino.find(arguments[0])))"
    found, _ = ask(python, files, folder)
    assert "has no plug-in for the stick" in found["text"]
    (libraries / "libopenvino_intel_myriad_plugin.so").touch()
    found, _ = ask(python, files, folder)
    assert "firmware usb-ma2x8x.mvcmd is not in" in found["text"]
    (libraries / "usb-ma2x8x.mvcmd").touch()
    assert ask(python, files, folder)[0] == str(libraries)


def test_an_archive_for_another_python_or_none_at_all(archive, tmp_path):
    folder, version, _ = archive
    found, _ = ask(sys.executable, "driver.openvino.find(arguments[0])", folder)
    assert f"it is for python{version}" in found["text"]
    assert "unpacked OpenVINO 2022.3.1 LTS" in found["fix"]
    found, _ = ask(sys.executable, "driver.openvino.find(arguments[0])", tmp_path)
    assert f"the archive {tmp_path} has no runtime/lib" in found["text"]
