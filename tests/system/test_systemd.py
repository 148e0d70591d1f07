"""The installed service in a booted systemd: start, reload, watchdog, crash, stop, what its sandbox refuses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import pytest
from tests.support.figures import figure
from tests.support.nspawn import Machine, install, needs_machine, tool
from tests.support.program import ROOT

UNIT = "firstspike.service"
WATCHDOG_S, RESTART_S = 5, 1
CONFIG = "/etc/firstspike/config.toml"
SIMULATED = '[model]\npath = "nmnist"\n[source]\nkind = "simulated"\n'
DROP_IN = f"[Service]\nWatchdogSec={WATCHDOG_S}\nRestartSec={RESTART_S}\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder into which `make install` installed."""
    needs_machine()
    folder = tmp_path_factory.mktemp("installed") / "root"
    folder.mkdir(mode=0o755)
    install(folder)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def machine(tmp_path_factory, installed):
    """A machine with the service installed and started."""
    made = Machine(tmp_path_factory.mktemp("machine"))
    try:
        made.mount()
        made.copy(installed)
        made.write("/etc/systemd/system/firstspike.service.d/test.conf", DROP_IN)
        made.write(CONFIG, SIMULATED)
        made.boot()
        made("systemctl", "enable", "--now", UNIT)
        yield made
    finally:
        made.close()


@pytest.fixture
def service(machine):
    """The machine with the service running."""
    machine.write(CONFIG, SIMULATED)
    machine("systemctl", "reset-failed", UNIT, check=False)
    machine("systemctl", "start", UNIT)
    return machine


def until(right, within_s=30.0):
    """Wait for something to be true, and say how long that took."""
    began = time.monotonic()
    while not right():
        assert time.monotonic() - began < within_s
        time.sleep(0.05)
    return time.monotonic() - began


def pid(machine):
    return int(machine.show(UNIT, "MainPID"))


def test_it_starts_when_it_is_running_and_says_how_it_is(service):
    found = service.show(UNIT, "ActiveState", "SubState", "Type", "NRestarts")
    assert found == {"ActiveState": "active", "SubState": "running", "Type": "notify", "NRestarts": "0"}
    until(lambda: "last:" in service.show(UNIT, "StatusText"))
    status = service("systemctl", "status", UNIT).stdout
    assert 'Status: "running, nmnist@' in status
    assert "windows/s" in status


def test_its_log_has_fields_that_can_be_searched(service):
    entry = json.loads(
        service.journal("-u", UNIT, "FIRSTSPIKE_LOGGER=firstspike.manager", "-o", "json", "-n", "1").splitlines()[-1]
    )
    assert entry["MESSAGE"].startswith("publishing on ipc:///run/firstspike/firstspike.pub")
    assert (entry["PRIORITY"], entry["SYSLOG_IDENTIFIER"]) == ("6", "firstspike")
    assert entry["FIRSTSPIKE_THREAD"] == "MainThread"


def test_its_sockets_are_for_members_of_the_group(service):
    done = service("stat", "-c", "%A %G", "/run/firstspike", "/run/firstspike/firstspike.pub")
    assert done.stdout.split() == ["drwxr-x---", "firstspike-clients", "srw-rw----", "firstspike-clients"]
    watch = ("firstspike", "watch")
    service("groupadd", "-f", "strangers")
    for group, most_s, code in (("firstspike-clients", 5, 124), ("strangers", 30, 69)):
        done = service("setpriv", "--reuid=1234", f"--regid={group}", "--clear-groups", "timeout", str(most_s), *watch,
            "ipc:///run/firstspike/firstspike.pub", "--json", "--timeout", "1", check=False)  # fmt: skip
        assert done.returncode == code, (group, done.stderr)
        assert ("decision" in done.stdout) == (group == "firstspike-clients")


def test_a_reload_waits_for_its_outcome_and_a_bad_one_fails_with_the_reason(service):
    before = pid(service)
    service.write(CONFIG, SIMULATED + "[decide]\ndecay = 0.5\n")
    service("systemctl", "reload", UNIT)
    assert "reload: configuration 2 runs" in service.journal("-u", UNIT, f"_PID={before}")
    service.write(CONFIG, SIMULATED + "[decide]\ndecay = 5\n")
    assert service("systemctl", "reload", UNIT, check=False).returncode != 0
    assert f"decide.decay = 5 ({CONFIG}:6)" in service("systemctl", "status", UNIT, check=False).stdout
    assert (service.show(UNIT, "ActiveState"), pid(service)) == ("active", before)


def test_a_stopped_process_is_restarted_by_the_watchdog(service):
    before = pid(service)
    service("kill", "-STOP", before)
    took = until(lambda: pid(service) not in (0, before))
    until(lambda: service.show(UNIT, "ActiveState") == "active")
    assert "Watchdog timeout" in service.journal("-u", UNIT)
    seen = f"replaced after {took:.1f} s (WatchdogSec={WATCHDOG_S}, RestartSec={RESTART_S})"
    figure("daemon stopped by SIGSTOP, under systemd", seen)
    assert took < 2 * (WATCHDOG_S + RESTART_S) + 5  # with room for a busy machine


def test_a_killed_one_is_back_and_leaves_nobody_behind(service):
    service.write(CONFIG, SIMULATED + '[schedule]\nplans = ["null", "emulator"]\n')
    service("systemctl", "restart", UNIT)
    before = pid(service)
    until(lambda: len(processes(service)) > 1)
    service("kill", "-KILL", before)
    took = until(lambda: pid(service) not in (0, before))
    figure("daemon killed by SIGKILL, under systemd", f"replaced after {took:.1f} s (RestartSec={RESTART_S})")
    until(lambda: service.show(UNIT, "ActiveState") == "active")
    until(lambda: len(processes(service)) == 2)  # the daemon and its new worker


def processes(machine):
    group = machine.show(UNIT, "ControlGroup")
    listed = machine("cat", f"/sys/fs/cgroup/systemd{group}/cgroup.procs", f"/sys/fs/cgroup{group}/cgroup.procs",
        f"/sys/fs/cgroup/unified{group}/cgroup.procs", check=False).stdout  # fmt: skip
    return set(listed.split()) - {"0"}  # which another container's are, where the hierarchy is shared


def test_what_another_start_would_not_mend_is_not_tried_again(service):
    service.write(CONFIG, SIMULATED + "[window]\nsizes = 3\n")
    assert service("systemctl", "restart", UNIT, check=False).returncode != 0
    found = service.show(UNIT, "ActiveState", "SubState", "ExecMainStatus")
    assert found == {"ActiveState": "failed", "SubState": "failed", "ExecMainStatus": "78"}
    error = service.journal("-u", UNIT, "-p", "err", "-n", "20")
    assert f"window.sizes = 3 ({CONFIG}:6): unknown key" in error


def test_it_is_never_given_up_however_often_it_is_started(service):
    for _ in range(12):
        service("systemctl", "restart", UNIT)
    assert service.show(UNIT, "ActiveState") == "active"


def test_a_reload_after_the_endpoint_was_changed_says_that_it_cannot_be(service):
    service.write(CONFIG, SIMULATED + '[publish]\nendpoint = "ipc:///run/firstspike/other.pub"\n')
    assert service("systemctl", "reload", UNIT, check=False).returncode != 0
    assert "cannot be changed in a running daemon" in service.show(UNIT, "StatusText")


def test_an_ordinary_user_may_ask_the_doctor(service):
    done = service("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "env", "HOME=/nowhere", "firstspike",
                   "doctor", check=False)  # fmt: skip
    assert "a fault of firstspike" not in done.stderr
    assert "/var/lib/firstspike/workers, where the service's are, is not for you to look into" in done.stdout


def test_it_stops_in_good_order_and_keeps_its_totals(service):
    until(lambda: "last:" in service.show(UNIT, "StatusText"))
    began = time.monotonic()
    service("systemctl", "stop", UNIT)
    print(f"systemctl stop: {time.monotonic() - began:.2f} s")
    assert service.show(UNIT, "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    kept = json.loads(service("cat", "/var/lib/firstspike/state.json").stdout)
    assert kept["totals"]["windows"] > 0
    assert kept["runs"] >= 1
    assert not (service.root / "run/firstspike").exists()


PROBE = """
import ctypes, json, mmap, os, socket, sys
def tried(do):
    try:
        do()
    except BaseException as error:
        return type(error).__name__
    return "allowed"
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)
def write(path):
    open(path, "a").close()
def listed(path):
    if not os.listdir(path):
        raise FileNotFoundError(path)
found = {
    "network": tried(lambda: socket.socket(socket.AF_INET)),
    "packets": tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "etc": tried(lambda: write("/etc/firstspike/config.toml")),
    "usr": tried(lambda: write("/usr/lib/firstspike/x")),
    "var": tried(lambda: write("/var/x")),
    "home": tried(lambda: listed("/root")),
    "tmp of others": tried(lambda: listed("/tmp")),
    "disk": tried(lambda: os.close(os.open("/dev/probe-disk", os.O_RDONLY))),
    "mount": tried(lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None)),
    "namespace": tried(lambda: call("unshare", 0x10000000)),
    "executable memory": tried(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)),
    "root": tried(lambda: os.setuid(0)),
    "clock": tried(lambda: call("clock_settime", 0, ctypes.create_string_buffer(16))),
    "other processes": tried(lambda: os.stat("/proc/1")),
    "set-uid file": tried(lambda: os.chmod("/var/lib/firstspike/x", 0o4755)),
    "state": tried(lambda: write("/var/lib/firstspike/x")),
    "sockets": tried(lambda: write("/run/firstspike/x")),
    "configuration": tried(lambda: open("/etc/firstspike/config.toml").close()),
    "devices of the group": tried(lambda: open("/srv/probe-device").close()),
    "netlink": tried(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)),
}
json.dump(found, open("/var/lib/firstspike/probe.json", "w"))
"""
NEEDED = {"state", "sockets", "configuration", "devices of the group", "netlink"}


def test_its_sandbox_refuses_what_it_does_not_need(machine):
    machine("systemctl", "stop", UNIT)
    unit = (machine.root / "usr/lib/systemd/system" / UNIT).read_text()
    kept = [
        line
        for line in unit.splitlines()
        if not line.startswith(("ExecStart", "ExecReload", "Type", "Restart", "Watchdog", "NotifyAccess"))
    ]
    text = "\n".join(kept).replace(
        "[Service]", "[Service]\nType=oneshot\nExecStart=/usr/lib/firstspike/bin/python3 -I /srv/probe.py"
    )
    machine.write("/etc/systemd/system/firstspike-probe.service", text)
    machine.write("/srv/probe.py", PROBE)
    machine.write("/srv/probe-device", "")
    machine("chgrp", "firstspike-devices", "/srv/probe-device")
    machine("chmod", "0640", "/srv/probe-device")
    machine.write("/tmp/of-somebody", "")  # noqa: S108 (the machine's own)
    machine("mknod", "-m", "666", "/dev/probe-disk", "b", "254", "0", check=False)
    machine("systemctl", "daemon-reload")
    machine("systemctl", "start", "firstspike-probe.service")
    found = json.loads(machine("cat", "/var/lib/firstspike/probe.json").stdout)
    allowed = {what for what, outcome in found.items() if outcome == "allowed"}
    assert allowed == NEEDED, found


def test_doctor_and_status_tell_a_new_user_what_is_missing(service):
    done = service("firstspike", "doctor", check=False)
    assert CONFIG in done.stdout
    assert "where a daemon listens" in done.stdout
    for name in ("ncs2", "openvino", "tensorrt"):
        assert f"{name} " in done.stdout
    assert "fix: firstspike workers install ncs2" in done.stdout


def test_an_instance_has_directories_of_its_own(service):
    service.write("/etc/firstspike/second.toml", SIMULATED)
    service("systemctl", "start", "firstspike@second.service")
    assert service.show("firstspike@second.service", "ActiveState") == "active"
    service("test", "-S", "/run/firstspike-second/firstspike.pub")
    service("systemctl", "stop", "firstspike@second.service")
    assert service.show(UNIT, "ActiveState") == "active"


def test_uninstall_leaves_the_configuration_and_nothing_else(installed):
    files = [path for path in installed.rglob("*") if path.is_file()]
    assert len(files) > 500
    text = [
        path for path in files if path.suffix in ("", ".service", ".cfg", ".toml") and path.stat().st_size < 1 << 16
    ]
    assert not [path for path in text if str(installed).encode() in path.read_bytes()]
    done = subprocess.run(
        [tool("make"), "-s", "uninstall", f"DESTDIR={installed}"], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    left = {str(path.relative_to(installed)) for path in installed.rglob("*") if path.is_file()}
    assert left == {"etc/firstspike/config.toml"}


@pytest.mark.soak
def test_a_new_user_installs_starts_and_is_told_how_it_is(tmp_path_factory):
    needs_machine()
    made = Machine(tmp_path_factory.mktemp("user"))
    wheels = tmp_path_factory.mktemp("wheels")
    wanted = ("numpy", "pyzmq", "msgpack", "pydantic", "faery", "lz4", "zstandard")
    download = (sys.executable, "-m", "pip", "download", "-q", "-d", wheels, "-c", ROOT / "constraints.txt", *wanted)
    subprocess.run([*map(str, download)], check=True)
    try:
        made.mount()
        shutil.copytree(wheels, made.root / "srv/wheels")  # the machine has no network
        made.boot()
        index = ("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/srv/wheels")
        made(*index, "make", "-s", "-C", ROOT, "-o", ".venv/.done", "-o", "check-tools", "install", timeout=300)
        made("systemctl", "enable", "--now", UNIT)
        until(lambda: "last:" in made.show(UNIT, "StatusText"))
        told = made("firstspike", "doctor", check=False).stdout
        assert CONFIG in told
        assert "ipc:///run/firstspike/firstspike.pub, where a daemon listens" in told
        assert "fix: firstspike workers install ncs2" in told
        assert made("getent", "group", "firstspike-clients", "firstspike-devices").stdout.count("firstspike") == 2
        made("make", "-s", "-C", ROOT, "uninstall")
        assert made("systemctl", "is-active", UNIT, check=False).returncode != 0
        assert not (made.root / "usr/lib/firstspike").exists()
    finally:
        made.close()


@pytest.mark.soak
def test_the_debian_package_installs_starts_updates_and_goes(tmp_path_factory):
    needs_machine()
    for program in ("dpkg-deb", "dpkg-shlibdeps", "fakeroot"):
        if shutil.which(program) is None:
            pytest.skip(f"'{program}' was not found: on Debian, apt-get install dpkg-dev fakeroot")
    subprocess.run([tool("make"), "-s", "-o", ".venv/.done", "-o", "check-tools", "deb"], cwd=ROOT, check=True)
    (package,) = (ROOT / "build").glob("firstspike_*.deb")
    made = Machine(tmp_path_factory.mktemp("debian"))
    try:
        made.mount()
        shutil.copy(package, made.root / "srv/firstspike.deb")
        (made.root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)  # an image's way to keep services from starting
        made.boot()
        made("dpkg", "--install", "/srv/firstspike.deb", timeout=300)
        assert made.show(UNIT, "ActiveState", "UnitFileState") == {"ActiveState": "active", "UnitFileState": "enabled"}
        assert "FIRSTSPIKE(1)" in made("man", "-P", "cat", "firstspike").stdout
        before = pid(made)
        made.write(CONFIG, SIMULATED + "[decide]\ndecay = 0.25\n")
        made("dpkg", "--install", "/srv/firstspike.deb", timeout=300)  # an update restarts it, and keeps what is ours
        assert pid(made) not in (0, before)
        assert "0.25" in made("cat", CONFIG).stdout
        assert made("dpkg", "--verify", "firstspike").stdout.split() in ([], ["??5??????", "c", CONFIG])
        made("dpkg", "--remove", "firstspike", timeout=300)
        assert made("systemctl", "is-active", UNIT, check=False).stdout.strip() in ("inactive", "unknown", "failed")
        assert not (made.root / "usr/lib/firstspike").exists()
        assert made("cat", "/var/lib/private/firstspike/state.json").stdout
        made("dpkg", "--purge", "firstspike", timeout=300)
        for place in ("/etc/firstspike/config.toml", "/var/lib/private/firstspike", "/var/cache/private/firstspike"):
            assert made("test", "-e", place, check=False).returncode == 1, place
    finally:
        made.close()
