"""What is installed beside the program: units, rules, manual, completion, each read by the tool that will use it."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys

import pytest
from tests.support.program import ROOT

from firstspike.cli import COMMANDS
from firstspike.config import Config

SYSTEMD = ROOT / "systemd"
UNIT = SYSTEMD / "firstspike.service"
EXPOSURE = 1.2
DROP_INS = sorted(path.stem for path in (SYSTEMD / "drop-ins").glob("*.conf"))


def tool(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"'{name}' was not found here")
    return found


def run(*argv, check=True, **options):
    done = subprocess.run([*map(str, argv)], capture_output=True, text=True, check=False, timeout=60, **options)
    assert done.returncode == 0 or not check, (done.stdout, done.stderr)
    return done


def keys(path):
    """Keys of a unit's [Service], each with all of its values."""
    found = {}
    for line in path.read_text().split("[Service]")[1].split("\n[")[0].splitlines():
        if match := re.match(r"([A-Za-z]+)=(.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found


def exposure(folder, *drop_ins):
    """What `systemd-analyze security` makes of the unit, from 0 (safe) to 10."""
    unit = folder / UNIT.name
    shutil.copy(UNIT, unit)
    (folder / f"{UNIT.name}.d").mkdir()
    for name in drop_ins:
        shutil.copy(SYSTEMD / "drop-ins" / f"{name}.conf", folder / f"{UNIT.name}.d")
    done = run(tool("systemd-analyze"), "security", "--offline=yes", unit, check=False)
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    if found is None:
        pytest.skip(f"systemd-analyze here cannot rate a unit offline: {done.stderr.strip()[:200]}")
    return float(found[1])


def test_the_sandbox_is_as_tight_as_promised(tmp_path):
    found = exposure(tmp_path)
    print(f"systemd-analyze security: {found}")
    assert found <= EXPOSURE


@pytest.mark.parametrize("name", DROP_INS)
def test_no_drop_in_loosens_more_than_it_must(tmp_path, name):
    assert exposure(tmp_path, name) <= (1.3 if name == "network" else EXPOSURE)


def test_all_drop_ins_together_still_leave_a_sandbox(tmp_path):
    assert exposure(tmp_path, *DROP_INS) <= 2.0


@pytest.mark.parametrize("name", [None, *DROP_INS])
def test_systemd_understands_the_unit_and_every_drop_in(tmp_path, name):
    text = UNIT.read_text().replace("/usr/bin/firstspike", "/bin/true")
    (tmp_path / UNIT.name).write_text(text)
    if name:
        (tmp_path / f"{UNIT.name}.d").mkdir()
        shutil.copy(SYSTEMD / "drop-ins" / f"{name}.conf", tmp_path / f"{UNIT.name}.d")
    done = run(tool("systemd-analyze"), "verify", "--man=no", tmp_path / UNIT.name, check=False)
    ours = [line for line in done.stderr.splitlines() if "firstspike" in line]
    assert not ours, ours


def test_the_unit_restarts_all_but_what_a_restart_does_not_mend():
    found = keys(UNIT)
    assert found["Type"] == ["notify"]
    assert found["Restart"] == ["always"]
    assert found["RestartPreventExitStatus"][0].split() == ["0", "64", "65", "66", "78"]
    assert float(found["WatchdogSec"][0]) >= 20  # a decoder may be silent for 10 s, an answer of a slow back end too
    assert found["KillMode"] == ["mixed"]  # SIGTERM is the daemon's alone: it lets its workers' devices go
    assert found["DynamicUser"] == ["yes"]
    assert found["RuntimeDirectoryMode"] == ["0750"]


def test_an_instance_has_all_places_to_itself(tmp_path):
    script = (ROOT / "packaging/install.sh").read_text()
    found = re.search(r'^sed "s\|/usr/bin/firstspike.*?> build/firstspike@\.service$', script, re.MULTILINE | re.DOTALL)
    lines = [line for line in found[0].splitlines() if not line.startswith("put ")]
    shutil.copytree(SYSTEMD, tmp_path / "systemd")
    (tmp_path / "build").mkdir()
    run("sh", "-euc", "\n".join(["PREFIX=/usr etc=/etc", *lines]), cwd=tmp_path)
    unit, made = UNIT.read_text(), (tmp_path / "build/firstspike@.service").read_text()
    own = re.compile(
        r"^(?:(?:State|Cache|Runtime)Directory|User|Environment|ExecStart|ExecReload|Description)=.*", re.M
    )
    assert len(own.findall(made)) == 8
    for line in own.findall(made):
        assert "%i" in line, line
        assert not re.search(r"%[SC]/firstspike(?!-%i)", line), line
    assert own.sub("", made) == own.sub("", unit)
    for line in keys(UNIT)["ExecStart"] + keys(UNIT)["ExecReload"]:
        assert "--config /etc/firstspike/config.toml" in line  # else an instance would ask the other daemon


def test_sysusers_and_tmpfiles_are_understood(tmp_path):
    for folder in ("etc", "usr/lib"):
        (tmp_path / folder).mkdir(parents=True)
    run(tool("systemd-sysusers"), f"--root={tmp_path}", SYSTEMD / "sysusers.conf")
    groups = {line.split(":")[0] for line in (tmp_path / "etc/group").read_text().splitlines()}
    assert {"firstspike-clients", "firstspike-devices"} <= groups
    run(tool("systemd-tmpfiles"), f"--root={tmp_path}", "--create", SYSTEMD / "tmpfiles.conf")
    assert (tmp_path / "etc/firstspike/conf.d").is_dir()


def test_rules_name_the_devices_that_the_drivers_look_for():
    text = (SYSTEMD / "60-firstspike.rules").read_text()
    for vendor in ("152a", "04b4", "1409", "03e7"):
        assert f'ATTR{{idVendor}}=="{vendor}"' in text
    for line in text.replace("\\\n", "").splitlines():
        if line and not line.startswith("#"):
            assert re.fullmatch(r'(\w+(\{\w+\})?(==|!=|\+=|=)"[^"]*",? *)+', line), line
    groups = set(re.findall(r'GROUP="([^"]+)"', text))
    assert groups == {"firstspike-devices"}


def test_udev_gives_a_camera_and_a_stick_to_the_group(tmp_path):
    udevadm = tool("udevadm")
    if "verify" not in run(udevadm, "--help").stdout:
        pytest.skip("this udevadm has no 'verify' (it came with systemd 254)")
    run(udevadm, "verify", SYSTEMD / "60-firstspike.rules")


@pytest.fixture(scope="module")
def manual(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    run(sys.executable, ROOT / "packaging/manual.py", folder)
    return folder


def test_the_manual_has_every_command_and_every_key(manual):
    program = (manual / "firstspike.1").read_text().replace("\\-", "-")
    for command in COMMANDS:
        name = command.__name__.rpartition(".")[2].replace("_", "-")
        assert f".SS firstspike {name}" in program
    configuration = (manual / "firstspike.toml.5").read_text().replace("\\-", "-")
    for section, info in Config.model_fields.items():
        for key in getattr(info.annotation, "model_fields", {}):
            assert f".B {key}" in configuration, (section, key)
    assert ".SS [backend.openvino]" in configuration
    assert ".SS [source.recording]" in configuration


@pytest.mark.parametrize("page", ["firstspike.1", "firstspike.toml.5"])
def test_the_manual_is_good_roff(manual, page):
    done = run(tool("mandoc"), "-Tlint", "-Wwarning", manual / page, check=False)
    assert not done.stdout, done.stdout[:1000]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (("",), {"run", "doctor", "workers", "--version"}),
        (("wo",), {"workers"}),
        (("run", "--"), {"--config", "--set", "--plan"}),
        (("workers", ""), {"install", "remove"}),
        (("workers", "install", "--"), {"--help"}),
        (("run", "--config", "a", "--p"), {"--plan"}),
    ],
)
def test_completion_offers_what_can_follow(manual, typed, offered):
    words = " ".join(f"'{word}'" for word in ("firstspike", *typed))
    script = (
        f"compopt() {{ :; }}; source {manual}/firstspike.bash; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; "
        'COMPREPLY=(); _firstspike; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = run(tool("bash"), "-c", script)
    assert offered <= set(done.stdout.split()), done.stdout


def test_scripts_of_the_packages_are_clean():
    scripts = [
        *(ROOT / "packaging").glob("*.sh"),
        *(ROOT / "packaging" / name for name in ("postinst", "prerm", "postrm")),
    ]
    run(tool("shellcheck"), *scripts)


def test_the_packages_configuration_is_right(tmp_path):
    text = (ROOT / "packaging/config.toml").read_text().replace("@source@", "simulated")
    (tmp_path / "config.toml").write_text(text)
    done = run(sys.executable, "-m", "firstspike", "check", "--config", tmp_path / "config.toml")
    assert "ok: model nmnist@" in done.stdout


def test_drop_ins_change_the_service_alone():
    for name in DROP_INS:
        parser = configparser.ConfigParser(strict=False, interpolation=None)
        parser.read(SYSTEMD / "drop-ins" / f"{name}.conf")
        assert parser.sections() == ["Service"]
