"""A private ssh server on this machine: own keys, own port, own configuration in a folder of the test."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

PRIVILEGES = Path("/run/sshd")
"""A server that runs as root insists on this empty folder, which a system service would make at boot."""


def _free_port():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@contextlib.contextmanager
def server(folder):
    """Yields the arguments for `ssh` up to the host: ["ssh", "-F", configuration, "host"]. Skips by name if absent."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    keygen = shutil.which("ssh-keygen")
    if sshd is None or keygen is None or shutil.which("ssh") is None:
        pytest.skip("no ssh server on this machine: on Debian, apt-get install openssh-server")
    for key in ("host", "user"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True)
    shutil.copy(folder / "user.pub", folder / "authorized")
    port, name = _free_port(), getpass.getuser()
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/authorized\n"
        f"PidFile none\nStrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        f"PermitRootLogin prohibit-password\nAllowUsers {name}\nPrintMotd no\n",
        encoding="utf-8",
    )
    (folder / "ssh_config").write_text(
        f"Host host\n HostName 127.0.0.1\n Port {port}\n User {name}\n IdentityFile {folder}/user\n"
        f" IdentitiesOnly yes\n GlobalKnownHostsFile none\n UserKnownHostsFile {folder}/known\n"
        f" StrictHostKeyChecking yes\n BatchMode yes\n LogLevel ERROR\n",
        encoding="utf-8",
    )
    kind, key = (folder / "host.pub").read_text(encoding="utf-8").split()[:2]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {kind} {key}\n", encoding="utf-8")
    ours = os.geteuid() == 0 and not PRIVILEGES.exists()
    if ours:
        PRIVILEGES.mkdir(mode=0o755)
    with (folder / "sshd.log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    ssh = ["ssh", "-F", str(folder / "ssh_config"), "host"]
    try:
        deadline = time.monotonic() + 20
        while (done := subprocess.run([*ssh, "true"], capture_output=True, text=True, check=False)).returncode:
            said = (folder / "sshd.log").read_text(encoding="utf-8", errors="replace")[-400:]
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.skip(f"a private ssh server does not work here: {done.stderr.strip()} {said.strip()}")
            time.sleep(0.05)
        yield ssh
    finally:
        process.terminate()
        process.wait()
        if ours:
            PRIVILEGES.rmdir()
