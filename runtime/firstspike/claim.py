"""The sockets' place in the file system: one daemon's at a time, its group's, and nobody else's."""

from __future__ import annotations

import fcntl
import grp
import os
import stat
from pathlib import Path
from typing import Any

from firstspike import endpoints
from firstspike.errors import ConfigError, OutputError, UnavailableError


def group_id(name: str) -> int:
    """A group's number; -1: leave it.

    Raises:
        ConfigError: there is none, or the daemon is not in it.
    """
    if not name:
        return -1
    try:
        found = grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(f"publish.group = {name!r}: no such group: `groupadd --system {name}` makes one") from None
    if os.geteuid() != 0 and found not in (*os.getgroups(), os.getegid()):
        raise ConfigError(f"publish.group = {name!r}: the daemon's user is not in it: `usermod -aG {name} USER`")
    return found


def give(path: Path, gid: int) -> None:
    """Give a file to a group, if one was named: the service's sandbox refuses the mere call."""
    if gid != -1:
        os.chown(path, -1, gid)


def claim(endpoint: str, gid: int) -> Any:
    """Lock the endpoint: ZeroMQ's second bind would silently steal the path from the first.

    Args:
        endpoint: resolved.
        gid: whose a new folder is to be; -1: nobody else's.

    Returns:
        An open file; while it is, the endpoint is locked.

    Raises:
        OutputError: its folder cannot be made or written.
        UnavailableError: another daemon has it, or the folder is someone else's.
    """
    path = endpoints.path_of(endpoint)
    try:
        new = not path.parent.exists()
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        if new:
            give(path.parent, gid)
        require_own(path.parent)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        lock = os.fdopen(os.open(f"{path}.lock", flags, 0o600), "rb+")
    except OSError as error:
        raise OutputError(f"{path.parent}: no place for sockets: {error.strerror}: set [publish] endpoint") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise UnavailableError(
            f"{endpoint}: another firstspike publishes here: stop it or set [publish] endpoint"
        ) from None
    return lock


def require_own(folder: Path) -> None:
    """Refuse a folder in a shared place that someone else made: they could read or replace the sockets.

    Raises:
        UnavailableError: it is such a folder.
        OSError: it is not there.
    """
    found = folder.lstat()
    if folder.name != f"firstspike-{os.getuid()}":
        return
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise UnavailableError(
            f"{folder}: is not a folder that only you can write: remove it or set [publish] endpoint"
        )
