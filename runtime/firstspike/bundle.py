"""A model bundle: a folder with `bundle.json` (the manifest) and the files it names, each checked by sha256.

No file of a bundle is ever unpickled. The manifest's models are the specification of the format; `firstspike schemas`
prints them as JSON Schema.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from firstspike.cuba.definition import MAX_STEPS as MAX_FRAMES
from firstspike.errors import BundleError, NoInputError
from firstspike.files import is_there
from firstspike.ttfs.network import MAX_STEPS

MANIFEST = "bundle.json"
SCHEMA = "firstspike.bundle/1"
MAX_MANIFEST_BYTES = 1 << 20
MAX_FILE_BYTES = 1 << 30

Role = Literal["ttfs", "ann", "card", "dense", "dense_fp16", "front", "back"]
"""`ttfs`: the integer network (`ttfs.network`); `ann`: its floating-point twin as ONNX; `card`: the model card;
`dense`: the integer network as ONNX in float32, with the same answers, for accelerators; `dense_fp16`: the same for
those that compute in half precision, to within their rounding (`ttfs.convert.dense`); `front` and `back`: the two
parts of a hybrid, a network of CUBA LIF neurons (`cuba`) and an ANN as ONNX; without `back` the front decides."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class InputSpec(_Strict):
    """What the network takes: how a window of events becomes spikes (`encode`)."""

    channels: Literal[1, 2]
    """2: OFF then ON; 1: both polarities together."""
    height: Annotated[int, Field(ge=1, le=4096)]
    """Pixels of the model's input."""
    width: Annotated[int, Field(ge=1, le=4096)]
    encoding: Literal["count", "first", "frames"]
    """`count`: latency code of Eq. 1 over the count image; `first`: time of the pixel's first event; `frames`: `steps`
    binary frames, 1 where the pixel had an event in that part of the window (`encode_frames`)."""
    steps: Annotated[int, Field(ge=1, le=MAX_FRAMES)]
    """T of the input code: at most 255, or 4096 `frames`."""
    count_scale: Annotated[int, Field(ge=1, le=65535)] = 1
    """Events a pixel that make p = 1 (`count` only)."""
    fit: Literal["stretch", "crop", "centre"] = "stretch"
    """How the sensor's field maps onto the model's: see `encode`."""


class WindowSpec(_Strict):
    """How events are cut into windows (`window`)."""

    kind: Literal["time", "count"]
    size: Annotated[int, Field(ge=1, le=1 << 40)]
    """µs (`time`) or events (`count`)."""
    hop: Annotated[int, Field(ge=1, le=1 << 40)]
    """µs or events from one window's start to the next; at most `size`."""

    @model_validator(mode="after")
    def _hop_within_size(self) -> WindowSpec:
        if self.hop > self.size:
            raise ValueError(f"hop {self.hop} is larger than size {self.size}: events between windows would be lost")
        return self


class DecideSpec(_Strict):
    """How potentials become decisions (`decide`)."""

    min_events: Annotated[int, Field(ge=0)] = 1
    """Windows with fewer events say nothing."""
    logit_scale: Annotated[float, Field(gt=0, le=1e6, allow_inf_nan=False)] = 1.0
    """log-probabilities are log_softmax(potential · logit_scale); fitted on validation data."""
    decay: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Evidence is multiplied by this at each window before the window's own is added."""
    min_evidence: Annotated[float, Field(ge=0)] = 0.5
    """Sum of decay^age over the windows that spoke; below it there is too little to answer."""
    min_confidence: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Below it the answer is `None`: abstained."""


class PartsSpec(_Strict):
    """How the two parts of a hybrid are joined (`hybrid`)."""

    interval: Annotated[int, Field(ge=1, le=255)] | None = None
    """I: the front's spikes are counted over so many steps; steps / I count frames go into the back, as channels. None:
    there is no back, and a potential is how often the front's output neuron spiked in the window."""


class FileEntry(_Strict):
    """One file of the bundle."""

    path: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """A name in the bundle's folder: no directories."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Manifest(_Strict):
    """`bundle.json`."""

    schema_: Annotated[Literal["firstspike.bundle/1"], Field(alias="schema")]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    version: str
    labels: Annotated[list[str], Field(min_length=2, max_length=65536)]
    """One for each output neuron, in order."""
    input: InputSpec
    window: WindowSpec
    """The windows that the network was trained on; the configuration may override them."""
    decide: DecideSpec
    files: dict[Role, FileEntry]
    """By what they are for: see `Role`."""
    parts: PartsSpec | None = None
    """Of a model with a spiking front; None: the model is one TTFS network."""
    licence: str
    trained_on: list[str]

    @model_validator(mode="after")
    def _has_network(self) -> Manifest:
        if self.parts is not None:
            self._has_parts(self.parts)
        elif "ttfs" not in self.files:
            raise ValueError("files: no entry 'ttfs': a bundle must hold the integer network")
        elif self.input.encoding == "frames":
            raise ValueError("input.encoding: 'frames' is for bundles with parts: a TTFS network takes count or first")
        elif self.input.steps > MAX_STEPS:
            raise ValueError(f"input.steps: {self.input.steps}: a TTFS network takes at most {MAX_STEPS}")
        if len(set(self.labels)) != len(self.labels):
            raise ValueError("labels: a label stands twice")
        return self

    def _has_parts(self, parts: PartsSpec) -> None:
        if "front" not in self.files:
            raise ValueError("files: no entry 'front': a bundle with parts needs the file 'front'")
        if self.input.encoding != "frames":
            raise ValueError(
                f"input.encoding: {self.input.encoding!r}: the front of a bundle with parts takes 'frames'"
            )
        if parts.interval is None:
            if "back" in self.files:
                raise ValueError("parts.interval: missing: the file 'back' takes counts over so many steps")
            return
        if "back" not in self.files:
            raise ValueError(
                "files: no entry 'back', which takes the counts: leave parts.interval out if the front decides alone"
            )
        if self.input.steps % parts.interval:
            raise ValueError(
                f"parts.interval: {self.input.steps} steps do not divide by an interval of {parts.interval}: take one "
                "that they do"
            )


@dataclass(frozen=True, slots=True)
class Bundle:
    """A verified bundle: every file it names had the stated sha256 when it was opened."""

    folder: Path
    manifest: Manifest
    digest: str
    """sha256 of the manifest, and so of everything in the bundle."""

    def path(self, role: Role) -> Path:
        """Where the file of that role lies.

        Raises:
            BundleError: the bundle has none.
        """
        try:
            return self.folder / self.manifest.files[role].path
        except KeyError:
            fix = f": make it with: firstspike dense {self.folder}" if role in ("dense", "dense_fp16") else ""
            if self.manifest.parts is not None and role not in ("front", "back"):
                fix = ": its network has a spiking front of CUBA LIF neurons and no such form (docs/hybrid.md)"
            raise BundleError(
                f"{self.folder}: the bundle has no file '{role}'; it has {sorted(self.manifest.files)}{fix}"
            ) from None


def places() -> list[Path]:
    """Folders of models that came with firstspike, the first one first; they need not exist."""
    given = [Path(os.environ["FIRSTSPIKE_MODELS"])] if "FIRSTSPIKE_MODELS" in os.environ else []
    # An installed one lies in PREFIX/lib/firstspike.
    prefixes = [*Path(sys.prefix).parents[1:2], Path("/usr")]
    installed = [prefix / "share/firstspike/models" for prefix in prefixes]
    return [*given, Path(__file__).resolve().parents[2] / "models", *dict.fromkeys(installed)]


def find(model: str, base: Path) -> Path:
    """The folder of a model: a path relative to `base`, or the name of a model that came with firstspike.

    A path that exists wins; the name is looked up in `$FIRSTSPIKE_MODELS`, the checkout's models/ and
    /usr/share/firstspike/models. What is found nowhere is returned as a path, for `open_bundle` to explain.
    """
    candidates = [base / model, *(place / model for place in places() if "/" not in model)]
    return next((path for path in candidates if is_there(path / MANIFEST)), base / model)


def _came_along() -> str:
    """Names of the models that came with firstspike."""
    return ", ".join(sorted({path.parent.name for place in places() for path in place.glob(f"*/{MANIFEST}")})) or "none"


def open_bundle(folder: Path) -> Bundle:
    """Read and verify a bundle.

    Raises:
        NoInputError: the folder or its manifest is not there.
        BundleError: the manifest is malformed, or a file is missing or differs from its sha256.
    """
    manifest_path = folder / MANIFEST
    try:
        raw = _read(manifest_path, MAX_MANIFEST_BYTES)
    except FileNotFoundError:
        raise NoInputError(
            f"{folder}: no model bundle here (no {MANIFEST}): name a folder that has one, or one of {_came_along()}"
        ) from None
    except OSError as error:
        raise NoInputError(f"{manifest_path}: cannot be read: {error.strerror}") from None
    try:
        manifest = Manifest.model_validate(json.loads(raw), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(f"{manifest_path}: {where}: {first['msg']} (found {first['input']!r:.80})") from None
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{manifest_path}: not valid JSON: {error}") from None
    for role, entry in manifest.files.items():
        _verify(folder / entry.path, entry.sha256, role)
    return Bundle(folder, manifest, hashlib.sha256(raw).hexdigest())


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise BundleError(f"{path}: larger than {limit} bytes: not a bundle's file")
    return raw


def _verify(path: Path, expected: str, role: str) -> None:
    try:
        actual = sha256_of(path)
    except FileNotFoundError:
        raise BundleError(f"{path}: missing, but the bundle's manifest names it as '{role}'") from None
    except OSError as error:
        raise BundleError(f"{path}: cannot be read: {error.strerror}") from None
    if actual != expected:
        raise BundleError(f"{path}: sha256 is {actual}, the manifest says {expected}: the file was changed: restore it")


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in blocks."""
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BundleError(f"{path}: larger than {MAX_FILE_BYTES} bytes: not a bundle's file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
