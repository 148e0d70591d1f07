"""Where the daemon's sockets are: ZeroMQ endpoints on this machine, and the files behind them.

The publish socket has an endpoint; the snapshot socket's is that with `.snapshot` appended.
"""

from __future__ import annotations

import os
from pathlib import Path

from firstspike.errors import ConfigError

AUTO = "auto"
IPC = "ipc://"
SERVICE = Path("/run/firstspike/firstspike.pub")
"""Where the service of systemd/firstspike.service publishes."""
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
    """The endpoint that a configuration or command line means.

    Raises:
        ConfigError: not a local one. Nothing leaves the machine: TCP waits for CURVE keys and an allow-list.
    """
    if endpoint == AUTO:
        endpoint = f"{IPC}{runtime_dir() / 'firstspike.pub'}"
    elif endpoint.startswith("/"):
        endpoint = IPC + endpoint
    if not endpoint.startswith(IPC + "/"):
        raise ConfigError(f"endpoint {endpoint!r}: only ipc:///absolute/path (nothing leaves this machine), or 'auto'")
    if len(snapshot_of(endpoint).encode()) - len(IPC) > MAX_IPC_PATH:
        raise ConfigError(f"endpoint {endpoint!r}: a socket's path may have {MAX_IPC_PATH} bytes, '.snapshot' included")
    return endpoint


def of_daemon(endpoint: str) -> str:
    """As `resolve`, for whoever looks for a daemon: 'auto' is the user's own, or else the machine's service."""
    own = resolve(endpoint)
    if endpoint == AUTO and not path_of(own).exists() and os.access(SERVICE, os.R_OK | os.W_OK):
        return f"{IPC}{SERVICE}"
    return own


def snapshot_of(endpoint: str) -> str:
    """The snapshot socket's endpoint."""
    return f"{endpoint}.snapshot"


def path_of(endpoint: str) -> Path:
    """The file behind an ipc endpoint."""
    return Path(endpoint.removeprefix(IPC))
