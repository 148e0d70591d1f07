"""The meters of machines: which rails are read, what is left out and why, and what readings say."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tests.support import sysfs

from firstspike.energy import Reading, Unavailable, meters, sensors
from firstspike.energy.sensors import _template as template


def found_in(root, *prefixes):
    """What is offered, the absences of whole kinds aside; only kinds of these names."""
    found = meters.find(root)
    names = [meter.name for meter in found.meters if meter.name.startswith(prefixes or ("",))]
    reasons = {one.name: one.reason for one in found.left_out if one.name and one.name.startswith(prefixes or ("",))}
    return found, names, reasons


def watts(meter):
    """Its reading, which there must be."""
    reading = meter.read()
    assert isinstance(reading, Reading), reading
    return reading.value


def test_an_empty_tree_names_every_kind_and_why_there_is_none(tmp_path):
    found = meters.find(tmp_path)
    assert found.meters == ()
    assert found.total() is None
    assert [one.kind for one in found.left_out] == meters.kinds()
    assert meters.kinds() == ["hwmon", "ina3221", "loihi", "ncs2", "nvml", "power_supply", "rapl"]
    assert all(one.reason and not one.name for one in found.left_out)


def test_nano_is_its_input_rail_in_milliwatts_and_nothing_twice(tmp_path):
    sysfs.nano(tmp_path)
    found, names, reasons = found_in(tmp_path)
    assert names == ["ina3221:POM_5V_IN"]
    assert watts(found.meters[0]) == pytest.approx(2.875)
    assert found.meters[0].scope == "board"
    assert found.meters[0].kind == "power"
    part = "part of ina3221:POM_5V_IN"
    assert reasons == {"ina3221:POM_5V_GPU": part, "ina3221:POM_5V_CPU": part}


def test_a_rail_that_is_left_out_can_be_had_by_name(tmp_path):
    sysfs.nano(tmp_path)
    found = meters.find(tmp_path)
    gpu = found.named("ina3221:POM_5V_GPU")
    assert gpu.scope == "rail"
    assert watts(gpu) == pytest.approx(0.123)
    assert found.named("ina3221:POM_5V_DLA") is None
    assert found.names() == ["ina3221:POM_5V_IN", "ina3221:POM_5V_GPU", "ina3221:POM_5V_CPU"]


def test_tx2_reads_the_module_and_names_the_carrier_board_beside_it(tmp_path):
    sysfs.tx2(tmp_path)
    found, names, reasons = found_in(tmp_path)
    assert names == ["ina3221:VDD_IN"]
    assert watts(found.meters[0]) == pytest.approx(3.051)
    assert len(reasons) == 8
    assert "carrier board" in reasons["ina3221:VDD_MUX"]


def test_agx_xavier_is_a_sum_of_six_rails_and_says_so(tmp_path):
    sysfs.agx_xavier(tmp_path)
    found, names, _ = found_in(tmp_path)
    assert names == ["ina3221:GPU+CPU+SOC+CV+VDDRQ+SYS5V"]
    assert watts(found.meters[0]) == pytest.approx(6.586)
    assert "sum of 6 rails" in found.meters[0].what


def test_orin_nano_is_volts_times_amperes_of_its_input(tmp_path):
    sysfs.orin_nano(tmp_path)
    found, names, reasons = found_in(tmp_path)
    assert names == ["ina3221:VDD_IN"]
    assert watts(found.meters[0]) == pytest.approx(4.984 * 0.96)
    # 40 µV over 5 mΩ are 8 mA.
    assert found.meters[0].resolution == pytest.approx(0.008 * 4.984)
    assert set(reasons) == {"ina3221:VDD_CPU_GPU_CV", "ina3221:VDD_SOC", "ina3221:in7@1-0040"}


def test_agx_orin_is_a_sum_without_the_rail_that_another_feeds_and_without_nc(tmp_path):
    sysfs.agx_orin(tmp_path)
    found, names, reasons = found_in(tmp_path)
    assert names == ["ina3221:VDD_GPU_SOC+VDD_CPU_CV+VIN_SYS_5V0"]
    assert watts(found.meters[0]) == pytest.approx(12.008 * 0.28 + 12.008 * 0.04 + 4.968 * 0.98)
    assert found.meters[0].resolution == pytest.approx(0.02 * np.sqrt(2 * 12.008**2 + 4.968**2))
    assert "feeds it" in reasons["ina3221:VDDQ_VDD2_1V8AO"]
    assert "connected to nothing" in reasons["ina3221:NC"]
    assert "no rail" in reasons["ina3221:in7@1-0041"]
    assert reasons["ina3221:VDD_GPU_SOC"].startswith("part of")


def test_rails_of_an_unknown_board_are_offered_each_and_not_added(tmp_path):
    sysfs.ina3221(tmp_path, "1-0040", 0, [("MOTOR", 12000, 500), ("LIGHTS", 5000, 100), ("", 0, 0)], 100_000)
    found, names, reasons = found_in(tmp_path)
    assert names == ["ina3221:MOTOR", "ina3221:LIGHTS"]
    assert {meter.scope for meter in found.meters} == {"rail"}
    assert "switched off" in reasons["ina3221:1-0040-3"]


def test_rails_of_one_label_are_told_apart_by_their_chips(tmp_path):
    for number in (0, 1):
        sysfs.ina3221(tmp_path, f"1-004{number}", number, [("MOTOR", 12000, 100 * (number + 1))], 100_000)
    found, names, _ = found_in(tmp_path)
    assert names == ["ina3221:MOTOR@1-0040", "ina3221:MOTOR@1-0041"]
    assert [watts(meter) for meter in found.meters] == pytest.approx([1.2, 2.4])


def test_a_laptop_counts_its_package_once_and_its_battery(tmp_path):
    sysfs.laptop(tmp_path)
    found, names, reasons = found_in(tmp_path)
    assert names == ["power_supply:BAT0", "rapl:package-0"]
    battery, package = found.meters
    assert watts(battery) == pytest.approx(7.98)
    assert package.kind == "counter"
    assert package.scope == "package"
    assert package.resolution == pytest.approx(2**-14, rel=1e-5)
    assert "packages too" in reasons["rapl:psys"]
    assert "same counter" in reasons["rapl:mmio:package-0"]
    assert reasons["rapl:package-0-core"] == "part of rapl:package-0"
    assert "negotiated" in reasons["power_supply:ucsi-source-psy-USBC000:001"]
    assert "mouse" in reasons["power_supply:hidpp_battery_0"]
    assert "no current_now" in reasons["power_supply:AC"]
    assert "mirrors" in reasons["hwmon:BAT0@hwmon2"]


def test_two_sockets_are_one_sum_and_memory_stands_beside_it(tmp_path):
    sysfs.server(tmp_path)
    found, names, reasons = found_in(tmp_path)
    assert names == ["rapl:packages", "rapl:package-0-dram", "rapl:package-1-dram"]
    assert set(reasons) == {"rapl:package-0", "rapl:package-1"}
    assert watts(found.meters[0]) == 0.0  # of a counter, what it counted since the first reading
    energy = tmp_path / "sys/class/powercap"
    (energy / "intel-rapl:0/energy_uj").write_text("5500000\n")
    (energy / "intel-rapl:1/energy_uj").write_text("10250000\n")
    assert watts(found.meters[0]) == pytest.approx(0.75)


def test_inline_meters_are_read_in_microwatts_and_named_by_chip_and_place(tmp_path):
    sysfs.hwmon(tmp_path, 0, "ina226", "i2c-1/1-0040", power1_input=1_250_000, in1_input=5000, curr1_input=250)
    sysfs.hwmon(tmp_path, 1, "ina260", "i2c-1/1-0041", power1_input=2_510_000)
    sysfs.hwmon(tmp_path, 3, "ina238", "i2c-2/2-0044", power1_input=31_000_000, in1_label="VIN")
    sysfs.hwmon(tmp_path, 4, "cpu_thermal", "virtual/thermal", temp1_input=51000)
    found, names, _ = found_in(tmp_path)
    assert names == ["hwmon:ina238@2-0044:power1", "hwmon:ina226@1-0040:power1", "hwmon:ina260@1-0041:power1"]
    assert [watts(meter) for meter in found.meters] == pytest.approx([31.0, 1.25, 2.51])
    assert [meter.scope for meter in found.meters] == ["board", "rail", "rail"]
    assert [meter.u95_fraction for meter in found.meters] == [None, None, 0.005]


def test_of_a_counter_and_a_power_of_one_chip_the_counter_is_taken(tmp_path):
    sysfs.hwmon(tmp_path, 0, "ina228", "i2c-1/1-0040", power1_input=1_250_000, energy1_input=10_000_000)
    sysfs.hwmon(tmp_path, 1, "amdgpu", "pci/0000:03:00.0", power1_average=40_000_000, power1_label="PPT")
    found, names, reasons = found_in(tmp_path)
    assert names == ["hwmon:amdgpu@0000:03:00.0:power1", "hwmon:ina228@1-0040:energy1"]
    assert "counts the same" in reasons["hwmon:ina228@1-0040:power1"]
    assert "mean power" in found.meters[0].what


def test_cores_are_not_offered_beside_their_sockets(tmp_path):
    energies = {"energy1_input": 10, "energy1_label": "Ecore000", "energy2_input": 99, "energy2_label": "Esocket0"}
    sysfs.hwmon(tmp_path, 0, "amd_energy", "platform/amd_energy.0", **energies)
    _, names, reasons = found_in(tmp_path)
    assert names == ["hwmon:amd_energy@amd_energy.0:energy2"]
    assert reasons == {"hwmon:amd_energy@amd_energy.0:energy1": "part of Esocket0 of the same chip"}


def test_a_stick_that_is_attached_is_named_with_its_inline_meter_as_the_fix(tmp_path):
    sysfs.put(tmp_path, "sys/bus/usb/devices/1-2", idVendor="03e7", idProduct="2485")
    stick = next(one for one in meters.find(tmp_path).left_out if one.kind == "ncs2")
    assert stick.name == "ncs2:1-2"
    assert "inline meter" in stick.fix


def test_a_copied_tree_asks_no_card_of_this_machine(tmp_path):
    nvml = next(one for one in meters.find(tmp_path).left_out if one.kind == "nvml")
    assert "another machine's" in nvml.reason


def test_readings_carry_the_monotonic_time_of_their_middle(tmp_path):
    sysfs.orin_nano(tmp_path)
    meter = meters.find(tmp_path).meters[0]
    before = time.monotonic_ns()
    reading = meter.read()
    assert before <= reading.t_ns <= time.monotonic_ns()


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", ""])
def test_a_battery_that_is_not_discharging_is_unavailable_and_comes_back(tmp_path, status):
    battery = sysfs.supply(tmp_path, "BAT1", type="Battery", status=status, power_now=-6_500_000)
    meter = meters.find(tmp_path).named("power_supply:BAT1")
    said = meter.read()
    assert isinstance(said, Unavailable)
    assert "not what the machine draws" in said.reason
    (battery / "status").write_text("Discharging\n")
    assert watts(meter) == pytest.approx(6.5)
    (battery / "power_now").write_text("0\n")
    assert "0 W" in meter.read().reason


def test_a_usb_supply_measures_while_something_is_plugged_in(tmp_path):
    charger = sysfs.supply(tmp_path, "bq25890", type="USB", online=1, voltage_now=5_000_000, current_now=1_200_000)
    meter = meters.find(tmp_path).named("power_supply:bq25890")
    assert watts(meter) == pytest.approx(6.0)
    assert meter.scope == "board"
    (charger / "online").write_text("0\n")
    assert "nothing is plugged in" in meter.read().reason


def test_a_copy_of_the_template_is_a_kind(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(Path(template.__file__).read_text().replace('"template"', '"mine"'))
    monkeypatch.setattr(sensors, "__path__", [*sensors.__path__, str(tmp_path)])
    assert "mine" in meters.kinds()
    said = next(one for one in meters.find(tmp_path).left_out if one.kind == "mine")
    assert (said.reason, said.fix) == ("why there is none", "what the user can do")
    sysfs.put(tmp_path, "sys/class/template/one", microwatts=1_500_000)
    try:
        assert watts(meters.find(tmp_path).named("mine:one")) == pytest.approx(1.5)
    finally:
        sys.modules.pop("firstspike.energy.sensors.mine", None)
        sensors.__dict__.pop("mine", None)


def test_a_kind_whose_file_fails_takes_no_other_along(tmp_path, monkeypatch):
    sysfs.nano(tmp_path)
    monkeypatch.setattr("firstspike.energy.sensors.rapl.find", lambda _: 1 // 0)
    found = meters.find(tmp_path)
    assert found.total().name == "ina3221:POM_5V_IN"
    assert "looking for it failed: ZeroDivisionError" in next(
        one.reason for one in found.left_out if one.kind == "rapl"
    )
