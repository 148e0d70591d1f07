"""Where the daemon's sockets are: ZeroMQ endpoints, and the files behind those on this machine.

The publish socket has an endpoint; the snapshot socket's is that with `.snapshot` appended, of TCP the next port.
"""

from __future__ import annotations

import grp
import os
import re
from pathlib import Path

from firstspike.errors import ConfigError
from firstspike.files import is_there

AUTO = "auto"
IPC = "ipc://"
SERVICE = Path("/run/firstspike/firstspike.pub")
"""Where the service of systemd/firstspike.service publishes."""
TCP = "tcp://"
MAX_IPC_PATH = 107
"""sizeof(sockaddr_un.sun_path) − 1 on Linux."""


def runtime_dir() -> Path:
    """The folder for sockets: systemd's `$RUNTIME_DIRECTORY`, else one of the user's own."""
    if given := os.environ.get("RUNTIME_DIRECTORY"):
        return Path(given.split(":")[0])
    if given := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(given) / "firstspike"
    return Path("/tmp") / f"firstspike-{os.getuid()}"  # noqa: S108 (publish refuses it if it is not ours alone)


def resolve(endpoint: str) -> str:
    """The endpoint on this machine that a configuration or command line means.

    Raises:
        ConfigError: not a local one. What leaves the machine has a key of its own, `[publish] tcp`.
    """
    if endpoint == AUTO:
        endpoint = f"{IPC}{runtime_dir() / 'firstspike.pub'}"
    elif endpoint.startswith("/"):
        endpoint = IPC + endpoint
    if endpoint.startswith(TCP):
        raise ConfigError(
            f"endpoint {endpoint!r}: only ipc:///absolute/path, or 'auto': TCP needs keys and is set by [publish] tcp"
        )
    if not endpoint.startswith(IPC + "/"):
        raise ConfigError(f"endpoint {endpoint!r}: only ipc:///absolute/path (nothing leaves this machine), or 'auto'")
    if "\0" in endpoint or any("\ud800" <= one <= "\udfff" for one in endpoint):
        raise ConfigError(f"endpoint {endpoint!r}: a socket's path must be UTF-8, without NUL")
    if len(snapshot_of(endpoint).encode()) - len(IPC) > MAX_IPC_PATH:
        raise ConfigError(f"endpoint {endpoint!r}: a socket's path may have {MAX_IPC_PATH} bytes, '.snapshot' included")
    return endpoint


def of_daemon(endpoint: str) -> str:
    """As `resolve`, for whoever looks for a daemon: 'auto' is the user's own, or else the machine's service."""
    own = resolve(endpoint)
    if endpoint == AUTO and not is_there(path_of(own)) and os.access(SERVICE, os.R_OK | os.W_OK):
        return f"{IPC}{SERVICE}"
    return own


def closed(endpoint: str = "") -> str:
    """What to tell whoever heard nothing: over TCP of keys, else whether the machine's service is not for them."""
    if endpoint.startswith(TCP):
        return " (strangers are told nothing: is --server-key its key, and is yours on its list: firstspike keys list?)"
    try:
        group = SERVICE.parent.stat().st_gid
        name = grp.getgrgid(group).gr_name
    except (OSError, KeyError):
        return ""
    if os.access(SERVICE.parent, os.X_OK):
        return ""
    return (
        f" (those of the service in {SERVICE.parent} are for the group {name}: usermod -aG {name} USER, log in again)"
    )


def resolve_tcp(endpoint: str) -> str:
    """A TCP endpoint, checked.

    Raises:
        ConfigError: it is none, or its port has no next one for the snapshot socket.
    """
    found = re.fullmatch(r"tcp://(\*|\[[0-9A-Fa-f:.]+\]|[\w.-]+):(\d{1,5})", endpoint, re.ASCII)
    if found is None or not 1 <= int(found[2]) < 65535:
        raise ConfigError(
            f"endpoint {endpoint!r}: must be tcp://ADDRESS:PORT with a port from 1 to 65534: state is asked for on the "
            f"next one"
        )
    return endpoint


def snapshot_of(endpoint: str) -> str:
    """The snapshot socket's endpoint."""
    if endpoint.startswith(TCP):
        address, _, port = endpoint.rpartition(":")
        return f"{address}:{int(port) + 1}"
    return f"{endpoint}.snapshot"


def path_of(endpoint: str) -> Path:
    """The file behind an ipc endpoint."""
    return Path(endpoint.removeprefix(IPC))
