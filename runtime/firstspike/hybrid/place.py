"""Who runs which part: makes the back end of a plan, of one part or of two."""

from __future__ import annotations

from typing import Any

from firstspike import plugins
from firstspike.backends import Backend
from firstspike.bundle import Bundle
from firstspike.config_plugins import BackendChoice
from firstspike.errors import BundleError
from firstspike.hybrid.accumulate import accumulated_shape
from firstspike.hybrid.chain import ChainBackend

PARTS = ("front", "back")


def make(choice: BackendChoice, bundle: Bundle) -> Backend:
    """The back end of one plan; it gets ready by itself.

    Raises:
        BundleError: a part has no back end, or one that cannot run it.
        UnavailableError: what it needs is not there.
    """
    parts = bundle.manifest.parts
    if parts is None:
        if choice.parts:
            raise BundleError(
                f"schedule.plans: {choice.name!r} is a chain, but the model {bundle.manifest.name} has one part: name "
                f"one back end, for example {choice.parts[0].name!r}"
            )
        backend: Backend = plugins.load("backends", choice.kind).create(choice.options, bundle, choice.name)
        return backend
    chosen = choice.parts or (choice,)
    if not choice.parts and hasattr(_module(choice), "front") and hasattr(_module(choice), "back"):
        chosen = (choice, choice)  # one that runs both
    if len(chosen) != len(PARTS):
        raise BundleError(
            f"schedule.plans: {choice.name!r} names {len(chosen)} back end{'s' * (len(chosen) > 1)}, the model "
            f"{bundle.manifest.name} has the parts front and back: write FRONT+BACK, for example 'emulator+openvino'"
        )
    front = _maker(chosen[0], "front")(chosen[0].options, bundle, chosen[0].name)
    try:
        shape = accumulated_shape(front.output_shape, bundle.manifest.input.steps, parts.interval)
        back = _maker(chosen[1], "back")(chosen[1].options, bundle, chosen[1].name, shape)
    except BaseException:
        front.close()
        raise
    decide, classes = bundle.manifest.decide, len(bundle.manifest.labels)
    return ChainBackend(choice.name, front, back, parts.interval, decide.logit_scale, classes)


def _module(choice: BackendChoice) -> Any:
    return plugins.load("backends", choice.kind)


def _maker(choice: BackendChoice, part: str) -> Any:
    module = _module(choice)
    if not hasattr(module, part):
        able = [name for name in plugins.names("backends") if hasattr(plugins.load("backends", name), part)]
        raise BundleError(
            f"schedule.plans: back end {choice.name!r} cannot run the model's {part}: name one of {', '.join(able)}"
        )
    return getattr(module, part)
