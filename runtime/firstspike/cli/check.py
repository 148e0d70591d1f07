"""`firstspike check`: is the configuration right, and where does each value come from?"""

from __future__ import annotations

import argparse

from firstspike import access, endpoints, plugins
from firstspike.bundle import Bundle, open_bundle
from firstspike.cli.common import add_config_arguments, apply_settings
from firstspike.cli.output import emit, emit_json
from firstspike.config import Loaded
from firstspike.config_layers import read_layers
from firstspike.energy.meters import find
from firstspike.energy.telemetry import model_of, wire
from firstspike.hybrid import place
from firstspike.metrics_server import address_of


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `check`."""
    command = commands.add_parser(
        "check",
        help="check the configuration",
        description="Check the configuration and the bundle it names without running anything. What is wrong is "
        "named by key, value and origin (78).",
    )
    add_config_arguments(command)
    command.add_argument("--json", action="store_true", help="every value that is set, with its origin")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Check, and list the values that were set."""
    loaded = apply_settings(read_layers(args.config, []), args.set)
    bundle = open_bundle(loaded.model_path)
    config = loaded.config
    endpoint = endpoints.resolve(config.publish.endpoint)
    remote = access.remote(config.publish.tcp, config.publish.keys, loaded.base)
    address_of(config.metrics.address, allow_remote=config.metrics.allow_remote)
    without = [text for name, own in loaded.streams or ((None, loaded),) if (text := _check_one(own, name))]
    if args.json:
        values = {".".join(key): {"value": value, "origin": origin} for key, (value, origin) in loaded.values.items()}
        emit_json({"ok": True, "endpoint": endpoint, "model": str(loaded.model_path), "values": values,
                   "warnings": without})  # fmt: skip
        return 0
    for key, (value, origin) in sorted(loaded.values.items()):
        emit(f"{'.'.join(key)} = {value!r}  ({origin})")
    for text in without:
        emit(f"warning: {text}")
    where = f"{endpoint} and {remote.endpoint}" if remote else endpoint
    streams = f", streams {', '.join(name for name, _ in loaded.streams)}" if loaded.streams else ""
    emit(f"ok: model {bundle.manifest.name}@{bundle.manifest.version}, publishes on {where}{streams}")
    return 0


def _check_one(loaded: Loaded, stream: str | None) -> str | None:
    """A back end that cannot run the bundle is a fault of the configuration too, and a source without files.

    Returns:
        What is to be warned of.
    """
    bundle, config = open_bundle(loaded.model_path), loaded.config
    config.window.over(bundle.manifest.window)
    config.filter.filters(loaded.base, config.window.reset_us, keep=False)
    for choice in loaded.backends:
        place.make(choice, bundle).close()
    plugins.load("sources", config.source.kind).create(loaded.source_options, loaded.base).close()
    without = _without_energy(loaded, bundle)
    return without if stream is None or without is None else f"stream {stream}: {without}"


def _without_energy(loaded: Loaded, bundle: Bundle) -> str | None:
    """Why a policy that goes by energy would have nothing to go by, or no meter's figures; None: it has."""
    config = loaded.config
    policy = config.schedule.policy
    if policy not in ("energy", "edp"):
        return None
    if not config.energy.enabled:
        return f"schedule.policy is {policy}, and energy.enabled is false: plans go by their order"
    found = find(loaded.base / config.energy.root)
    try:
        wiring = wire(config.energy, loaded.backends, found)
    finally:
        found.close()
    if any(plan.sums != ((),) for plan in wiring.plans.values()):
        return None
    modelled = model_of(bundle, at_once=False) is not None
    then = "plans go by the operation model, which is the same for all that run the network itself"
    return f"schedule.policy is {policy}: {wiring.why}: {then if modelled else 'plans go by their order'}"
