"""`firstspike bench --energy`: metered where there is a meter, modelled where not, beside papers' figures."""

from __future__ import annotations

import builtins
import json

import pytest
from tests.support.sysfs import hwmon
from tests.unit.test_energy_telemetry import Ticking

from firstspike.benchmark.draw import draw
from firstspike.benchmark.energy import EnergyRow, lines
from firstspike.benchmark.papers import CITED
from firstspike.cli import main
from firstspike.energy.meters import find
from firstspike.errors import OutputError, UnavailableError

HERE = ("bench", "--plans", "emulator", "--windows", "4")


def row(**changes):
    fields = {
        "name": "a", "accuracy": 0.5, "accuracy_reason": None, "latency_s": 0.001, "static_w": 4.0, "dynamic_w": 1.0,
        "dynamic_j": 0.001, "u95_j": 0.0002, "total_j": 0.005, "edp_js": 5e-6, "method": "integrated", "meter": "m",
        "scope": "board", "inferences": 100, "reason": None,
    }  # fmt: skip
    return EnergyRow(**(fields | changes))


def test_without_a_meter_energy_is_modelled_and_says_why(capsys, tmp_path):
    assert main([*HERE, "--energy", "--json", "--set", f"energy.root={tmp_path}"]) == 0
    found = json.loads(capsys.readouterr().out)
    (mine,) = found["energy"]
    assert (mine["method"], mine["static_w"], mine["edp_js"], mine["total_j"]) == ("modelled", None, None, None)
    assert mine["dynamic_j"] > 0
    assert mine["accuracy"] > 0.5
    assert mine["reason"].startswith("no meter was found")
    assert [one["name"] for one in found["cited"]] == [one.name for one in CITED]


def test_with_a_meter_static_and_dynamic_power_are_apart(capsys, tmp_path):
    board = hwmon(tmp_path, 0, "ina226", "i2c-1/1-0040", power1_input=4_000_000)
    with Ticking(board / "power1_input", 50, 4.0):
        settings = ("--energy", "--seconds", "1.5", "--json", "--set", f"energy.root={tmp_path}")
        assert main([*HERE, *settings]) == 0
    (mine,) = json.loads(capsys.readouterr().out)["energy"]
    assert (mine["method"], mine["meter"]) == ("integrated", find(tmp_path).meters[0].name)
    assert mine["static_w"] == pytest.approx(4.0, rel=0.02)
    # The sensor shows 4 W whatever runs: nothing is left above idle, and what is left may be below 0.
    assert abs(mine["dynamic_j"]) <= 2 * mine["u95_j"]
    assert mine["total_j"] == pytest.approx(4.0 * mine["latency_s"], rel=0.05)
    assert mine["edp_js"] == pytest.approx(mine["total_j"] * mine["latency_s"])
    assert mine["inferences"] > 100


def test_a_slow_sensor_is_rested_for_until_its_idle_power_is_known(capsys, tmp_path):
    board = hwmon(tmp_path, 0, "ina226", "i2c-1/1-0040", power1_input=4_000_000)
    with Ticking(board / "power1_input", 8, 4.0):
        settings = ("--energy", "--seconds", "1", "--json", "--set", f"energy.root={tmp_path}")
        assert main([*HERE, *settings]) == 0
    (mine,) = json.loads(capsys.readouterr().out)["energy"]
    assert (mine["method"], mine["static_w"]) == ("integrated", pytest.approx(4.0, rel=0.02))


def test_the_table_marks_what_is_cited_and_gives_reasons_once():
    found = lines([row(), row(name="b", method="modelled", scope=None, edp_js=None, reason="no meter"),
                   row(name="c", accuracy=None, accuracy_reason="no labels", reason="no meter")])  # fmt: skip
    assert found[1].split() == [
        "a", "50.0%", "1", "ms", "4", "W", "1", "W", "1", "mJ", "200", "µJ", "5", "mJ", "5", "µJs", "integrated,",
        "board",
    ]  # fmt: skip
    assert sum(line.startswith("cited: ") for line in found) == len(CITED)
    assert found[-2:] == ["b, c: no meter", "c: no labels"]


def test_a_papers_figures_agree_with_each_other():
    quartz = CITED[0]
    assert quartz.dynamic_j == pytest.approx(156.9e-6, rel=0.001)  # its §4.2
    for cited in CITED:
        if cited.total_j is not None:
            assert (cited.static_w + cited.dynamic_w) * cited.latency_s == pytest.approx(cited.total_j, rel=0.01)
            assert cited.total_j * cited.latency_s == pytest.approx(cited.edp_js, rel=0.01)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_drawing(tmp_path, suffix):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'firstspike[plots]'")
    path = tmp_path / f"energy.{suffix}"
    rows = [row(), row(name="b", dynamic_j=-0.1), row(name="c", dynamic_j=None, u95_j=None)]
    draw(rows, "a title", path)
    first = path.read_bytes()
    assert first.startswith(b"<?xml" if suffix == "svg" else b"\x89PNG")
    if suffix == "svg":
        text = first.decode()
        assert "a title" in text
        assert "no figure" in text
        assert "below 0" in text
        draw(rows, "a title", path)
        assert path.read_bytes() == first
    with pytest.raises(OutputError, match="cannot be written"):
        draw(rows, "", tmp_path / "nowhere" / f"energy.{suffix}")


def test_without_matplotlib_the_fix_is_told(monkeypatch, tmp_path):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UnavailableError, match=r"pip install 'firstspike\[plots\]'"):
        draw([row()], "", tmp_path / "energy.svg")


@pytest.mark.parametrize("wrong", [("--draw", "x.pdf"), ("--seconds", "0"), ("--seconds", "many")])
def test_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit):
        main([*HERE, "--energy", *wrong])
    assert f"argument {wrong[0]}: " in capsys.readouterr().err


def test_check_says_when_a_policy_has_no_meter_to_go_by(capsys, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text(
        f'[model]\npath = "nmnist"\n[source]\nkind = "simulated"\n[schedule]\npolicy = "edp"\n'
        f'[energy]\nroot = "{tmp_path}"\n'
    )
    assert main(["check", "--config", str(config)]) == 0
    out = capsys.readouterr().out
    assert "warning: schedule.policy is edp: no meter was found" in out
    assert "go by the operation model" in out
    assert main(["check", "--config", str(config), "--set", "energy.enabled=false"]) == 0
    assert "energy.enabled is false: plans go by their order" in capsys.readouterr().out
    hwmon(tmp_path, 0, "ina226", "i2c-1/1-0040", power1_input=4_000_000)
    assert main(["check", "--config", str(config)]) == 0
    assert "warning" not in capsys.readouterr().out


def test_a_meter_of_a_section_that_is_no_name_is_a_fault(capsys, tmp_path):
    config = tmp_path / "config.toml"
    config.write_text('[model]\npath = "nmnist"\n[source]\nkind = "simulated"\n[backend.emulator]\nmeter = 3\n')
    assert main(["check", "--config", str(config)]) == 78
    assert "must be a name that `firstspike meters` lists" in capsys.readouterr().err
