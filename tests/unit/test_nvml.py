"""NVIDIA's cards through a library with NVML's functions, and what is said where there is none, or where it refuses."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from firstspike.energy import Reading, Unavailable
from firstspike.energy.sensors import nvml

ROOT = Path("/")


@functools.cache
def compiled():
    """The pretended library, built once a run."""
    source = Path(__file__).parents[1] / "support" / "fake_nvml.cpp"
    library = Path(tempfile.mkdtemp(prefix="firstspike-fake-nvml-")) / "libnvidia-ml.so.1"
    compiler = os.environ.get("CXX", "g++")
    subprocess.run([compiler, "-std=c++17", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A library of this test's own, and how to set what it says: ctypes sees the process's real environment."""
    path = shutil.copy(compiled(), tmp_path)
    monkeypatch.setattr(nvml, "LIBRARY", str(path))
    for name in ("DEVICES", "FAIL", "ENERGY", "POWER"):
        monkeypatch.delenv(f"FAKE_NVML_{name}", raising=False)
    return lambda **said: [monkeypatch.setenv(f"FAKE_NVML_{name}", str(value)) for name, value in said.items()]


def only_reason(offer):
    """Why there is no card."""
    assert offer.meters == ()
    (one,) = offer.left_out
    return one.reason


def test_the_counter_of_every_card_is_taken_and_its_power_can_be_named(driver):
    driver(DEVICES=2, ENERGY=5_000)
    offer = nvml.find(ROOT)
    assert [meter.name for meter in offer.meters] == ["nvml:0", "nvml:1"]
    assert "NVIDIA Fake 2000: the whole card" in offer.meters[0].what
    reading = offer.meters[0].read()
    assert isinstance(reading, Reading)
    assert reading.value == pytest.approx(5.0)
    assert [one.name for one in offer.left_out] == ["nvml:0:power", "nvml:1:power"]
    assert offer.left_out[0].meter.read().value == pytest.approx(61.25)


def test_a_card_without_a_counter_gives_its_power(driver):
    driver(FAIL="nvmlDeviceGetTotalEnergyConsumption=3")
    (meter,) = nvml.find(ROOT).meters
    assert (meter.name, meter.kind, meter.read().value) == ("nvml:0:power", "power", pytest.approx(61.25))


def test_a_card_that_tells_neither_is_left_out_in_the_librarys_words(driver):
    driver(FAIL="nvmlDeviceGetTotalEnergyConsumption=3,nvmlDeviceGetPowerUsage=4")
    assert only_reason(nvml.find(ROOT)) == "nvml:0:power: Insufficient Permissions (4)"


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        ("nvmlInit_v2=9", "Driver Not Loaded (9)"),
        ("nvmlDeviceGetCount_v2=999", "Unknown Error (999)"),
        ("nvmlDeviceGetHandleByIndex_v2=15", "GPU is lost (15)"),
    ],
)
def test_a_library_that_refuses_is_quoted(driver, fails, said):
    driver(FAIL=fails)
    assert only_reason(nvml.find(ROOT)).endswith(said)


def test_no_card_is_said(driver):
    driver(DEVICES=0)
    assert only_reason(nvml.find(ROOT)).endswith("no card")


def test_a_card_that_falls_off_the_bus_is_unavailable_and_comes_back(driver):
    driver(ENERGY=1_000)
    (meter,) = nvml.find(ROOT).meters
    driver(FAIL="nvmlDeviceGetTotalEnergyConsumption=15")
    said = meter.read()
    assert isinstance(said, Unavailable)
    assert "GPU is lost" in said.reason
    driver(FAIL="none", ENERGY=1_500)
    assert meter.read().value == pytest.approx(1.5)


def test_a_counter_that_was_set_back_never_falls(driver):
    driver(ENERGY=7_000)
    (meter,) = nvml.find(ROOT).meters
    assert meter.read().value == pytest.approx(7.0)
    driver(ENERGY=100)
    assert "set back" in meter.read().reason
    driver(ENERGY=600)
    assert meter.read().value == pytest.approx(7.5)


def test_no_library_is_no_driver(monkeypatch):
    monkeypatch.setattr(nvml, "LIBRARY", "libnvidia-ml-of-nobody.so.1")
    assert "was not found" in only_reason(nvml.find(ROOT))


def test_a_library_of_another_kind_is_told_apart(monkeypatch):
    monkeypatch.setattr(nvml, "LIBRARY", "libc.so.6")
    assert "not NVIDIA's, or too old" in only_reason(nvml.find(ROOT))
