"""`firstspike check`: is the configuration right, and where does each value come from?"""

from __future__ import annotations

import argparse

from firstspike import endpoints, plugins
from firstspike.bundle import open_bundle
from firstspike.cli.common import add_config_arguments, apply_settings
from firstspike.cli.output import emit, emit_json
from firstspike.config import Loaded
from firstspike.config_layers import read_layers
from firstspike.hybrid import place


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
    for _, own in loaded.streams or (("", loaded),):
        _check_one(own)
    if args.json:
        values = {".".join(key): {"value": value, "origin": origin} for key, (value, origin) in loaded.values.items()}
        emit_json({"ok": True, "endpoint": endpoint, "model": str(loaded.model_path), "values": values})
        return 0
    for key, (value, origin) in sorted(loaded.values.items()):
        emit(f"{'.'.join(key)} = {value!r}  ({origin})")
    streams = f", streams {', '.join(name for name, _ in loaded.streams)}" if loaded.streams else ""
    emit(f"ok: model {bundle.manifest.name}@{bundle.manifest.version}, publishes on {endpoint}{streams}")
    return 0


def _check_one(loaded: Loaded) -> None:
    """A back end that cannot run the bundle is a fault of the configuration too, and a source without files."""
    bundle, config = open_bundle(loaded.model_path), loaded.config
    config.window.over(bundle.manifest.window)
    for choice in loaded.backends:
        place.make(choice, bundle).close()
    plugins.load("sources", config.source.kind).create(loaded.source_options, loaded.base).close()
