"""Who runs which part: makes the back end of a plan, of one part or of two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from firstspike import plugins
from firstspike.backends import Backend
from firstspike.backends._shared import Shared
from firstspike.bundle import Bundle
from firstspike.config_plugins import BackendChoice
from firstspike.errors import BundleError
from firstspike.hybrid.accumulate import accumulated_shape, interval_of
from firstspike.hybrid.alone import FrontBackend
from firstspike.hybrid.chain import ChainBackend
from firstspike.shelf import Shelf, key_of
from firstspike.worker.backend import WorkerModule

PARTS = ("front", "back")


class Parts:
    """The parts of a stream's plans, each made once: plans that name one back end for the same part share it."""

    def __init__(self, shelf: Shelf | None = None, stream: str | None = None) -> None:
        self._shelf = Shelf() if shelf is None else shelf
        self._stream = stream or ""

    def get(self, part: str, choice: BackendChoice, bundle: Bundle, *given: Any) -> Any:
        """The front or the back of the bundle that all plans run.

        Raises:
            BundleError: the back end that was chosen cannot run it.
            UnavailableError: what it needs is not there.
        """
        key = key_of(part, self._stream, bundle.digest, choice.name, choice.kind, choice.options)
        return self._shelf.get(key, lambda: _maker(choice, part)(choice.options, bundle, *given), _close)

    def close(self) -> None:
        """End them."""
        self._shelf.close()


def make(choice: BackendChoice, bundle: Bundle, shared: Parts | None = None) -> Backend:
    """The back end of one plan; it gets ready by itself.

    Args:
        choice: of the plan.
        bundle: the model.
        shared: the parts that plans have in common, which whoever gives them closes. None: the back end's own.

    Raises:
        BundleError: a part has no back end, or one that cannot run it.
        UnavailableError: what it needs is not there.
    """
    if bundle.manifest.parts is None:
        if choice.parts:
            raise BundleError(
                f"schedule.plans: {choice.name!r} is a chain, but the model {bundle.manifest.name} has one part: name "
                f"one back end, for example {choice.parts[0].name!r}"
            )
        backend: Backend = plugins.load("backends", choice.kind).create(choice.options, bundle, choice.name)
        return backend
    parts = Parts() if shared is None else shared
    close = parts.close if shared is None else _nothing
    try:
        build = _alone if bundle.manifest.parts.interval is None else _chain
        return build(choice, bundle, parts, close)
    except BaseException:
        close()
        raise


def kept(choice: BackendChoice, bundle: Bundle, shelf: Shelf, stream: str | None = None) -> Backend:
    """As `make`; what is on the shelf already is taken from there, and what is made is put there.

    Several streams that have a name share workers which run the whole model, in turns; all else is each one's own.
    """
    if bundle.manifest.parts is not None:
        return make(choice, bundle, Parts(shelf, stream))
    if stream is not None and isinstance(_module(choice), WorkerModule):
        key = key_of("shared", bundle.digest, choice.name, choice.kind, choice.options)
        shared: Shared = shelf.get(key, lambda: Shared(make(choice, bundle)), _close)
        return shared.access()
    key = key_of("plan", stream or "", bundle.digest, choice.name, choice.kind, choice.options)
    backend: Backend = shelf.get(key, lambda: make(choice, bundle), _close)
    return backend


def _close(thing: Any) -> None:
    thing.close()


def _nothing() -> None:
    """The parts are closed by their owner."""


def _alone(choice: BackendChoice, bundle: Bundle, parts: Parts, close: Callable[[], None]) -> Backend:
    manifest = bundle.manifest
    if choice.parts:
        raise BundleError(
            f"schedule.plans: {choice.name!r} is a chain, but the model {manifest.name} has a front and no back: name "
            f"one back end, for example {choice.parts[0].name!r}"
        )
    front = parts.get("front", choice, bundle, choice.name)
    if front.output_shape != (len(manifest.labels), 1, 1):
        raise BundleError(
            f"{bundle.path('front')}: without a back it decides, and needs an output neuron for each of "
            f"{len(manifest.labels)} labels: its output is {front.output_shape}"
        )
    return FrontBackend(front, close)


def _chain(choice: BackendChoice, bundle: Bundle, parts: Parts, close: Callable[[], None]) -> Backend:
    manifest = bundle.manifest
    chosen = choice.parts or (choice,)
    if not choice.parts and all(runs(choice.kind, part) for part in PARTS):
        chosen = (choice, choice)  # one that runs both
    if len(chosen) != len(PARTS):
        raise BundleError(
            f"schedule.plans: {choice.name!r} names {len(chosen)} back end{'s' * (len(chosen) > 1)}, the model "
            f"{manifest.name} has the parts front and back: write FRONT+BACK, for example 'emulator+openvino'"
        )
    interval = interval_of(bundle)
    front = parts.get("front", chosen[0], bundle, chosen[0].name)
    shape = accumulated_shape(front.output_shape, manifest.input.steps, interval)
    back = parts.get("back", chosen[1], bundle, chosen[1].name, shape)
    scale, classes = manifest.decide.logit_scale, len(manifest.labels)
    return ChainBackend(choice.name, front, back, interval, scale, classes, close)


def runs(kind: str, part: str) -> bool:
    """Whether a file of backends/ can run a front or a back, as far as the file says."""
    if kind not in plugins.names("backends"):
        return False
    module: Any = plugins.load("backends", kind)
    roles = getattr(module, "driver", None)
    return hasattr(module, part) and (part != "back" or roles is None or roles.NETWORK in ("dense", "ann"))


def _module(choice: BackendChoice) -> Any:
    return plugins.load("backends", choice.kind)


def _maker(choice: BackendChoice, part: str) -> Any:
    if not runs(choice.kind, part):
        able = ", ".join(name for name in plugins.names("backends") if runs(name, part))
        raise BundleError(f"schedule.plans: back end {choice.name!r} cannot run the model's {part}: name one of {able}")
    return getattr(_module(choice), part)
