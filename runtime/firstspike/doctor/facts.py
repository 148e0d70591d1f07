"""The machine and what was installed on it: versions, native library, the sockets' place, models."""

from __future__ import annotations

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import firstspike
from firstspike import bundle, endpoints, native, publish
from firstspike.errors import FirstspikeError


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that is right or not."""

    ok: bool
    text: str
    """What there is; if it is not right, what is wrong."""
    fix: str = ""


def machine() -> dict[str, Any]:
    """Versions and processor."""
    return {
        "firstspike": firstspike.__version__, "python": platform.python_version(), "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}", "cpus": os.cpu_count() or 1,
    }  # fmt: skip


def library() -> Fact:
    """The native library, and the vector units that it uses here."""
    try:
        lib = native.library()
    except FirstspikeError as error:
        text, _, fix = str(error).rpartition(": run ")
        return Fact(ok=False, text=text or str(error), fix=f"run {fix}" if text else "run 'make setup'")
    network = lib.fs_network_new(0, 1, 1, 1, 1)
    levels = {name: level for name, level in native.KERNELS.items() if level >= 0}
    there = [name for name, level in levels.items() if network and not lib.fs_network_kernels(network, level)]
    lib.fs_network_free(network)
    return Fact(ok=True, text=f"kernels {max(there, key=levels.__getitem__, default='unknown')}")


def endpoint(wanted: str) -> Fact:
    """The place of the daemon's sockets, and whether one is listening there."""
    try:
        resolved = endpoints.of_daemon(wanted)
        path = endpoints.path_of(resolved)
        if os.access(path.parent, os.F_OK):
            publish.require_own(path.parent)
    except FirstspikeError as error:
        return Fact(ok=False, text=str(error), fix="set [publish] endpoint")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(0.2)
        if client.connect_ex(os.fsencode(path)) == 0:
            return Fact(ok=True, text=f"{resolved}, where a daemon listens")
    folder = path.parent
    while not os.access(folder, os.F_OK) and folder != folder.parent:
        folder = folder.parent
    if not os.access(folder, os.W_OK | os.X_OK):
        return Fact(ok=False, text=f"{folder}: cannot be written", fix="set [publish] endpoint, or XDG_RUNTIME_DIR")
    return Fact(ok=True, text=resolved)


def models() -> list[dict[str, Any]]:
    """The bundles that a configuration can name, each verified."""
    found: dict[str, dict[str, Any]] = {}
    for folder in bundle.places():
        for manifest in sorted(folder.glob(f"*/{bundle.MANIFEST}")):
            found.setdefault(manifest.parent.name, _model(manifest.parent))
    return list(found.values())


def _model(folder: Path) -> dict[str, Any]:
    try:
        manifest = bundle.open_bundle(folder).manifest
    except FirstspikeError as error:
        return {"name": folder.name, "version": None, "path": str(folder), "ok": False, "reason": str(error)}
    return {"name": folder.name, "version": manifest.version, "path": str(folder), "ok": True, "reason": ""}
