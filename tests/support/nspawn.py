"""A machine of its own for the service: this one's files under a layer that is thrown away, with a booted systemd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from tests.support.program import ROOT

TOOLS = ("systemd-nspawn", "nsenter", "systemctl", "mount", "umount", "make")
BOOT_S = 60.0
ALONE = ("multi-user.target.wants", "timers.target.wants", "sysinit.target.wants", "getty.target.wants")


def tool(name):
    """Where a program is."""
    return shutil.which(name) or name


def needs_machine():
    """Skip by name where no machine can be booted."""
    if os.geteuid() != 0:
        pytest.skip("booting a machine with systemd-nspawn needs root")
    for tool in TOOLS:
        if shutil.which(tool) is None:
            pytest.skip(f"'{tool}' was not found: on Debian, apt-get install systemd-container")
    if not Path("/usr/lib/systemd/systemd").exists():
        pytest.skip("no /usr/lib/systemd/systemd to boot: the machine would be this one's files")


def install(folder):
    """`make install` into a folder; skips where packages cannot be had."""
    if not Path("/usr/bin/python3").exists():
        pytest.skip("no /usr/bin/python3 that the service could run under")
    done = subprocess.run(
        [tool("make"), "-s", "-o", ".venv/.done", "-o", "check-tools", "install", f"DESTDIR={folder}"],
        cwd=ROOT, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if "is older than 3.11" in done.stderr or "No matching distribution" in done.stderr:
        pytest.skip(f"make install: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done


class Machine:
    """A booted machine; its files are `root`."""

    def __init__(self, folder):
        self.root, self._folder = folder / "root", folder
        self._process = self._log = None
        self._leader = 0

    def mount(self):
        """Lay a throw-away layer over this machine's files."""
        subprocess.run([tool("mount"), "-t", "tmpfs", "-o", "size=1g", "test", self._folder], check=True)
        for name in ("up", "work", "root"):
            (self._folder / name).mkdir()
        options = f"lowerdir=/,upperdir={self._folder}/up,workdir={self._folder}/work"
        mount = [tool("mount"), "-t", "overlay", "overlay", "-o", options, self.root]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no overlay file system here: {done.stderr.strip()}")
        units = self.root / "etc/systemd/system"
        for name in ALONE:  # nothing but the service is to run
            shutil.rmtree(units / name, ignore_errors=True)
        (self.root / "etc/machine-id").write_text("")

    def boot(self):
        """Start it, and wait until its systemd answers."""
        self._log = (self._folder / "boot.log").open("wb")
        self._process = subprocess.Popen(
            [tool("systemd-nspawn"), "--register=no", "--keep-unit", "--quiet", "-D", self.root, "--private-network",
             f"--machine=firstspike-test-{os.getpid()}",
             "--console=pipe", "--link-journal=no", "--boot", "systemd.unit=multi-user.target"],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + BOOT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            if children:
                self._leader = int(children[0])
                with contextlib.suppress(AssertionError):
                    if self("systemctl", "is-system-running", check=False).stdout.strip() in ("running", "degraded"):
                        return
            time.sleep(0.2)
        log = (self._folder / "boot.log").read_text(errors="replace")[-2000:]
        assert self._process.poll() is not None, f"the machine runs, but its systemd never answered: {log}"
        pytest.skip(f"systemd does not boot in systemd-nspawn here: {log}")

    def __call__(self, *argv, check=True, timeout=60):
        """Run a command in it, as root."""
        done = subprocess.run(
            [tool("nsenter"), "-t", str(self._leader), "-m", "-p", "-n", "-i", "-u", "-C", "--", *map(str, argv)],
            capture_output=True, text=True, timeout=timeout, check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_PAGER": "cat", "HOME": "/root"},
        )  # fmt: skip
        assert done.returncode == 0 or not check, (argv, done.stdout, done.stderr)
        return done

    def copy(self, folder):
        """Copy a folder's content into it."""
        subprocess.run([tool("cp"), "-a", *folder.iterdir(), self.root], check=True)

    def write(self, path, text):
        """Write a file in it."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)

    def show(self, unit, *names):
        """Properties of a unit."""
        done = self("systemctl", "show", unit, *(f"-p{name}" for name in names))
        found = dict(line.split("=", 1) for line in done.stdout.splitlines())
        return found[names[0]] if len(names) == 1 else found

    def journal(self, *arguments):
        """Lines of the journal."""
        return self("journalctl", "--no-pager", "-q", *arguments).stdout

    def close(self):
        """Turn it off, and take the layer away."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(10)
            if self._process.poll() is None:
                os.kill(self._leader, signal.SIGKILL)
                self._process.kill()
                self._process.wait()
            self._log.close()
        for place in (self.root, self._folder):
            subprocess.run([tool("umount"), "-l", place], check=False, capture_output=True)
