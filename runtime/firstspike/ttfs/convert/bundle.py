"""Writing a bundle: its files, and the manifest that seals them. A folder appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from firstspike.backends.emulator import EmulatorBackend
from firstspike.bundle import MANIFEST, Bundle, open_bundle
from firstspike.errors import OutputError
from firstspike.ttfs.file import save
from firstspike.ttfs.network import Network


def seal(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Write bundle.json: the manifest with the sha256 of each file, which must all be there.

    Args:
        folder: of the bundle.
        manifest: without `files`.
        files: role to file name.
    """
    entries = {
        role: {"path": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}
        for role, name in files.items()
    }
    text = json.dumps({**manifest, "files": entries}, indent=2, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")


def vacant(folder: Path) -> None:
    """Refuse a folder that holds something already (OutputError): nothing is overwritten."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be read: {error.strerror}") from None
    if taken:
        raise OutputError(f"{folder}: exists and is not empty: name a new folder, or remove it first")


def write(folder: Path, network: Network, ann: Path, card: str, manifest: Mapping[str, Any]) -> Bundle:
    """Write a bundle and open it as the runtime would.

    Args:
        folder: must not exist, or be empty.
        network: the integer network.
        ann: the ONNX file, which is copied.
        card: text of CARD.md.
        manifest: without `files`.

    Raises:
        OutputError: the folder cannot be written, or is not empty.
        BundleError: what was written would not run; nothing is left then.
    """
    vacant(folder)
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        partial.chmod(0o755)
        save(network, partial / "network.npz")
        shutil.copyfile(ann, partial / "ann.onnx")
        (partial / "CARD.md").write_text(card, encoding="utf-8")
        seal(partial, manifest, {"ttfs": "network.npz", "ann": "ann.onnx", "card": "CARD.md"})
        EmulatorBackend(open_bundle(partial)).close()
        os.replace(partial, folder)  # noqa: PTH105 (onto an empty folder, which Path.rename promises less clearly)
        partial = None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return open_bundle(folder)
