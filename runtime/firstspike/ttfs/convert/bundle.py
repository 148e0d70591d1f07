"""Writing a bundle: its files, and the manifest that seals them. A folder appears whole or not at all."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from firstspike.backends.emulator import EmulatorBackend
from firstspike.bundle import MANIFEST, Bundle, Role, open_bundle
from firstspike.errors import BundleError, OutputError
from firstspike.ttfs.convert.dense import dense
from firstspike.ttfs.file import load, save
from firstspike.ttfs.network import Network

log = logging.getLogger(__name__)

FILES: dict[Role, str] = {"ttfs": "network.npz", "ann": "ann.onnx", "card": "CARD.md"}
"""What every bundle that is written here holds."""
DENSE: dict[Role, str] = {"dense": "dense.onnx", "dense_fp16": "dense_fp16.onnx"}
"""What one of gated neurons has besides."""


def seal(folder: Path, manifest: Mapping[str, Any], files: Mapping[Role, str]) -> None:
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
    _replace(folder / MANIFEST, (text + "\n").encode())


def write_dense(folder: Path, network: Network) -> dict[Role, str]:
    """Write the dense forms of a gated network, each whole or not at all.

    Returns:
        Role to file name; empty for other neurons, which have none.

    Raises:
        BundleError, UnavailableError: see `dense`.
    """
    if network.neuron != "gated":
        return {}
    _replace(folder / DENSE["dense"], dense(network))
    _replace(folder / DENSE["dense_fp16"], dense(network, "f16"))
    return DENSE


def add_dense(folder: Path) -> Bundle:
    """Give a bundle that exists its dense forms, or make them anew, and seal it.

    Raises:
        NoInputError: there is no bundle.
        BundleError: the bundle is damaged, or its network has no dense form.
        UnavailableError: the package `onnx` is not installed.
        OutputError: the folder cannot be written; the bundle is as it was.
    """
    bundle = open_bundle(folder)
    if bundle.manifest.parts is not None:
        raise BundleError(
            f"{folder}: the bundle has a spiking front, and only a TTFS network has a dense form: its back, if it has "
            "one, is ONNX as it is, and runs on accelerators in a plan such as 'emulator+openvino'"
        )
    network = load(bundle.path("ttfs"))
    made: dict[Role, bytes] = {"dense": dense(network), "dense_fp16": dense(network, "f16")}
    manifest = json.loads((folder / MANIFEST).read_bytes())
    files: dict[Role, str] = {role: entry.path for role, entry in bundle.manifest.files.items()}
    for role in made:
        if role not in files and DENSE[role] in files.values():
            raise BundleError(f"{folder}: {DENSE[role]} is the bundle's file for something else: rename that first")
        files.setdefault(role, DENSE[role])
    try:
        for role, raw in made.items():
            _replace(folder / files[role], raw)
        seal(folder, {key: value for key, value in manifest.items() if key != "files"}, files)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return open_bundle(folder)


def _replace(path: Path, raw: bytes) -> None:
    """Write a file whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(raw)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def vacant(folder: Path) -> None:
    """Refuse a folder that holds something already (OutputError): nothing is overwritten."""
    try:
        taken = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be read: {error.strerror}") from None
    if taken:
        raise OutputError(f"{folder}: exists and is not empty: name a new folder, or remove it first")


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """A folder to be filled, which becomes `folder` at the end, or nothing is left of it.

    Raises:
        OutputError: `folder` cannot be written, or is not empty.
    """
    vacant(folder)
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        partial.chmod(0o755)
        yield partial
        os.replace(partial, folder)  # noqa: PTH105 (onto an empty folder, which Path.rename promises less clearly)
        partial = None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


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
    with whole(folder) as partial:
        save(network, partial / "network.npz")
        shutil.copyfile(ann, partial / "ann.onnx")
        (partial / "CARD.md").write_text(card, encoding="utf-8")
        seal(partial, manifest, {**FILES, **_dense_if_exact(partial, network)})
        EmulatorBackend(open_bundle(partial)).close()
    return open_bundle(folder)


def _dense_if_exact(folder: Path, network: Network) -> dict[Role, str]:
    """The emulator's bounds are a little wider than float32's: such a network is written without, and that is said."""
    try:
        return write_dense(folder, network)
    except BundleError as error:
        log.warning("no dense form, so accelerators can run the floating-point twin only: %s", error)
        return {}
