"""Who takes part: back ends by the names of their sections, and why one cannot."""

from __future__ import annotations

import time
from dataclasses import dataclass

from firstspike import plugins
from firstspike.backends import Backend
from firstspike.bundle import Bundle
from firstspike.config import Loaded, load
from firstspike.config_layers import Layers
from firstspike.config_plugins import JOINT, BackendChoice
from firstspike.errors import FirstspikeError
from firstspike.hybrid import place
from firstspike.hybrid.alone import FrontBackend
from firstspike.hybrid.chain import ChainBackend
from firstspike.worker.backend import WorkerModule
from firstspike.worker.held import Held
from firstspike.worker.shim import AbsentError

TWIN = "-ann"
"""`NAME-ann` is the section NAME with `network = "ann"`."""
LEFT_OUT = ("null", "definition", "lava")
"""Not asked unless named: one is for tests, the others are thousands of times slower, to check networks against."""
REFERENCE = "emulator"
PARTS = "parts"
"""Form of a model with a spiking front."""


@dataclass(frozen=True, slots=True)
class Absent:
    """A back end that cannot take part."""

    state: str
    reason: str
    fix: str


def all_names(layers: Layers, bundle: Bundle) -> list[str]:
    """The reference first, then every section of the configuration and every kind of back end, and their twins.

    Of a model in two parts: the reference, and it as the front of every other back end that runs backs.
    """
    found = [REFERENCE, *_sections(layers)]
    found += [name for name in plugins.names("backends") if name not in found and name not in LEFT_OUT]
    found = list(dict.fromkeys(found))
    parts = bundle.manifest.parts
    if parts is not None:
        wanted = "front" if parts.interval is None else "back"
        able = [name for name in found[1:] if place.runs(_kind(layers, name), wanted)]
        return [REFERENCE, *(able if parts.interval is None else (f"{REFERENCE}{JOINT}{name}" for name in able))]
    names = []
    for name in found:
        names.append(name)
        if _has_twin(_kind(layers, name)) and not name.endswith(TWIN) and name + TWIN not in found:
            names.append(name + TWIN)
    return names


def choose(layers: Layers, names: list[str]) -> Loaded:
    """The configuration with these back ends as its plans; twins get their sections.

    Raises:
        ConfigError: a name is no back end's, or a section is wrong.
    """
    for name in (part for plan in names for part in plan.split(JOINT)):
        base = name.removesuffix(TWIN)
        if name != base and name not in _sections(layers) and _has_twin(_kind(layers, base)):
            for key, (value, origin) in list(layers.values().items()):
                if key[:2] == ("backend", base):
                    layers.put(("backend", name, *key[2:]), value, origin)
            layers.put(("backend", name, "kind"), _kind(layers, base), "bench")
            layers.put(("backend", name, "network"), "ann", "bench")
    layers.put(("schedule", "plans"), names, "--plans")
    return load(layers)


def start(choice: BackendChoice, bundle: Bundle, within_s: float) -> Backend | Absent:
    """Make a back end ready, or learn why it is not."""
    try:
        backend = place.make(choice, bundle)
    except AbsentError as error:
        return Absent("absent", error.reason, error.fix)
    except FirstspikeError as error:
        reason, _, fix = str(error).partition(": make it with: ")
        return Absent("refused", reason, fix)
    deadline = time.monotonic() + within_s
    while (condition := backend.condition()).state == "starting" and time.monotonic() < deadline:
        time.sleep(0.01)
    if condition.state == "ready":
        return backend
    backend.close()
    reason = condition.reason or f"was not ready within {within_s:g} s"
    return Absent(condition.state, reason, condition.fix or "")


def device_of(backend: Backend) -> str:
    """What it runs on, in its own words."""
    if isinstance(backend, ChainBackend | FrontBackend):
        return " + ".join(_device(part) for part in backend.parts)
    return _device(backend)


def _device(part: object) -> str:
    if not isinstance(part, Held):
        return "CPU, in the daemon"
    about = part.supervisor.about
    name = about.get("name") or about.get("device") or "?"
    return str(name)[:60]


def form_of(choice: BackendChoice, bundle: Bundle) -> str:
    """`dense`, `ann` and the like; `ttfs` for those that run the network itself; `parts`, see `hybrid`."""
    if bundle.manifest.parts is not None:
        return PARTS
    if choice.parts:
        return "–"  # a chain, which this model is none for
    module = plugins.load("backends", choice.kind)
    if not isinstance(module, WorkerModule):
        return "ttfs"
    return str(getattr(choice.options, "network", module.driver.NETWORK))


def _sections(layers: Layers) -> list[str]:
    return list(dict.fromkeys(key[1] for key in layers.values() if key[0] == "backend" and len(key) > 2))


def _kind(layers: Layers, name: str) -> str:
    value = layers.values().get(("backend", name, "kind"))
    return name if value is None else str(value[0])


def _has_twin(kind: str) -> bool:
    if kind not in plugins.names("backends"):
        return False
    module = plugins.load("backends", kind)
    option = module.driver.OPTIONS.get("network") if isinstance(module, WorkerModule) else None
    return option is not None and "ann" in (option.choices or ())
