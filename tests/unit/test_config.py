from __future__ import annotations

import contextlib
import errno
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.program import ROOT

from firstspike import plugins
from firstspike.bundle import find
from firstspike.config import load
from firstspike.config_layers import read_layers
from firstspike.errors import ConfigError, NoInputError
from firstspike.worker import drivers
from firstspike.worker.options import WorkerOptions

GOOD = """\
[model]
path = "m"
[source]
kind = "recording"
[source.recording]
paths = ["a.raw"]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "config.toml"
    path.write_text(GOOD)
    return path


def fault(file, *settings, environment=None):
    with pytest.raises(ConfigError) as caught:
        load(read_layers(file, settings, environment or {}))
    return str(caught.value)


def test_defaults_and_base_folder(file):
    loaded = load(read_layers(file, [], {}))
    assert loaded.config.publish.endpoint == "auto"
    assert loaded.model_path == file.parent / "m"
    assert loaded.source_options.paths == ["a.raw"]


def test_later_layers_win_and_say_so(file):
    (file.parent / "conf.d").mkdir()
    (file.parent / "conf.d" / "10.toml").write_text("[schedule]\ndeadline_ms = 7\n")
    layers = read_layers(file, ["schedule.deadline_ms=9"], {"FIRSTSPIKE__SCHEDULE__DEADLINE_MS": "8"})
    assert load(layers).config.schedule.deadline_ms == 9
    layers = read_layers(file, [], {"FIRSTSPIKE__SCHEDULE__DEADLINE_MS": "8", "FIRSTSPIKE__PUBLISH__ENDPOINT": "/a/b"})
    loaded = load(layers)
    assert (loaded.config.schedule.deadline_ms, loaded.config.publish.endpoint) == (8, "/a/b")
    assert loaded.values["schedule", "deadline_ms"][1] == "environment FIRSTSPIKE__SCHEDULE__DEADLINE_MS"
    layers = read_layers(file, [], {})
    assert layers.origin(("schedule", "deadline_ms")).endswith("10.toml:2")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[publish]\nendpiont = 'x'\n", ["publish.endpiont", "'x'", "config.toml:8", "unknown key"]),
        ("[nonsense]\na = 1\n", ["nonsense", "config.toml:8", "unknown key"]),
        ("[schedule]\ndeadline_ms = -3\n", ["schedule.deadline_ms", "-3", "config.toml:8", "greater than 0"]),
        ("[source.recording2]\nx = 1\n", ["source.recording2", "config.toml:8", "unknown key"]),
        ("[source.simulated]\nsede = 1\n", ["source.simulated.sede", "config.toml:8", "unknown key"]),
        ("[backend.a]\nkind = 'loihi9'\n", ["backend.a.kind", "'loihi9'", "config.toml:8", "emulator"]),
        ("[backend]\nkind = 'emulator'\n", ["backend.kind", "config.toml:8", "unknown key", "schedule.plans"]),
        ("[backend.null]\nlatency_sm = 3\n", ["backend.null.latency_sm", "config.toml:8", "unknown key"]),
        ("[backend.null]\nlatency_ms = -3\n", ["backend.null.latency_ms", "-3", "config.toml:8", "greater than"]),
        ("[backend.null]\nfault = 'odd'\n", ["backend.null.fault", "'odd'", "config.toml:8", "'none'"]),
        ("[schedule]\nplans = ['gpu']\n", ["schedule.plans", "'gpu'", "config.toml:8", "emulator"]),
        ("[schedule]\nplans = ['null', 'null']\n", ["schedule.plans", "config.toml:8", "stands twice"]),
        ("[schedule]\nplans = []\n", ["schedule.plans", "config.toml:8", "at least 1"]),
        ("[schedule]\nprobe_every = 1\n", ["schedule.probe_every", "config.toml:8", "0 or 2"]),
    ],
)
def test_a_fault_names_key_value_and_origin(file, text, named):
    file.write_text(GOOD + text)
    message = fault(file)
    assert all(part in message for part in named), message


def test_two_sections_may_be_of_one_kind_and_a_name_without_a_section_is_a_kind(file):
    file.write_text(
        GOOD + "[schedule]\nplans = ['slow', 'quick', 'emulator']\n"
        "[backend.slow]\nkind = 'null'\nlatency_ms = 5\nhang_s = 0.5\n[backend.quick]\nkind = 'null'\n"
    )
    chosen = load(read_layers(file, [], {})).backends
    assert [(one.name, one.kind) for one in chosen] == [("slow", "null"), ("quick", "null"), ("emulator", "emulator")]
    assert (chosen[0].options.latency_ms, chosen[1].options.latency_ms) == (5, 0)
    assert chosen[0].options.limits().hang_s == 0.5


def test_all_faults_are_listed_not_just_the_first(file):
    message = fault(file, "schedule.deadline_ms=no", "publish.high_water_mark=0")
    assert len(message.splitlines()) == 2


def test_a_section_that_contradicts_itself_says_how(file):
    said = fault(file, "record.lookback_s=100")
    assert said.startswith("record = {'lookback_s': 100} (--set): max_s must be lookback_s + after_s at least")


def test_what_is_missing_is_named(file):
    file.write_text("[source]\nkind='recording'\n")
    assert "model: missing, and it has no default: set it in" in fault(file)


def test_no_such_file(tmp_path):
    with pytest.raises(NoInputError, match=r"gone\.toml"):
        read_layers(tmp_path / "gone.toml", [], {})


def test_a_folder_is_no_configuration(tmp_path):
    with pytest.raises(NoInputError, match="directory"):
        read_layers(tmp_path, [], {})


def test_a_setting_without_a_value(file):
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        read_layers(file, ["schedule.deadline_ms"], {})


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: (GOOD + text).encode())))
def test_no_file_makes_anything_but_a_config_error(tmp_path_factory, raw):
    path = tmp_path_factory.mktemp("fuzz") / "config.toml"
    path.write_bytes(raw)
    with contextlib.suppress(ConfigError):
        load(read_layers(path, [], {}))


def test_text_may_look_like_a_number(file):
    loaded = load(read_layers(file, [], {"FIRSTSPIKE__MODEL__PATH": "31"}))
    assert loaded.config.model.path == "31"


@pytest.mark.parametrize(
    "setting", ["window.size=" + "9" * 5000, "window.size=10000000000000", "source.recording.width=3"]
)
def test_values_beyond_all_limits(file, setting):
    assert setting.split("=")[0].rpartition(".")[0] in fault(file, setting)


@pytest.mark.parametrize("kind", ["openvino", "ncs2", "tensorrt"])
def test_the_reference_configuration_has_every_key_of_an_accelerator_with_its_default(kind):
    sections = tomllib.loads((ROOT / "config.toml").read_text())["backend"]
    options = plugins.load("backends", kind).Options
    defaults = {name: field.default for name, field in options.model_fields.items()}
    assert sections[kind] == {name: defaults[name] for name in sections[kind]}
    assert set(drivers.load(kind).options) <= set(sections[kind])
    common = set(WorkerOptions.model_fields) - {"command"}
    assert kind != "openvino" or common <= set(sections[kind])


def test_a_folder_of_parts_that_may_not_be_read_is_no_empty_one(tmp_path, monkeypatch):
    (tmp_path / "c.toml").write_text("")
    (tmp_path / "conf.d").mkdir()
    assert read_layers(tmp_path / "c.toml", [], {}).main_file

    def refuse(self):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(NoInputError, match=r"conf\.d: cannot be read: Permission denied"):
        read_layers(tmp_path / "c.toml", [], {})


def test_a_model_in_a_folder_that_may_not_be_looked_into_is_looked_for_elsewhere(tmp_path, monkeypatch):
    found = Path.exists

    def exists(self):
        if tmp_path in self.parents:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return found(self)

    monkeypatch.setattr(Path, "exists", exists)
    assert find("nmnist", tmp_path) != tmp_path / "nmnist"
    assert find("none-such", tmp_path) == tmp_path / "none-such"
