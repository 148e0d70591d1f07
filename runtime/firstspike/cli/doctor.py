"""`firstspike doctor`: what this machine has, what it lacks, and the fix."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from firstspike import doctor
from firstspike.cli.common import DEFAULT_MODEL, add_config_arguments, apply_settings
from firstspike.cli.output import emit, emit_json
from firstspike.config import Loaded
from firstspike.config_layers import read_layers
from firstspike.doctor import Accelerator, Fact
from firstspike.errors import ConfigError, NoInputError

MARGIN = " " * 17


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `doctor`."""
    command = commands.add_parser(
        "doctor",
        help="what this machine has, what it lacks, and the fix",
        description="Say how the installation stands, for each accelerator whether it is attached, why not, and the "
        "fix; and whether the plans of the configuration can run (69 if one of them cannot or something is wrong, 78 "
        "if the configuration is). Nothing is changed.",
    )
    add_config_arguments(command)
    add_probe_arguments(command)
    command.set_defaults(run=run)


def add_probe_arguments(command: argparse.ArgumentParser) -> None:
    """`--json` and `--timeout`."""
    command.add_argument("--json", action="store_true", help="one JSON object: docs/workers.md")
    command.add_argument(
        "--timeout", type=seconds, default=doctor.PROBE_S, metavar="S",
        help=f"longest that a back end may look for its devices (default {doctor.PROBE_S:g})",
    )  # fmt: skip


def seconds(text: str) -> float:
    """A positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0 and up to 3600")
    return value


def run(args: argparse.Namespace) -> int:
    """Examine everything, print it, and say whether the plans can run."""
    loaded, configuration, origin = _configuration(args)
    machine, library = doctor.machine(), doctor.library()
    endpoint = doctor.endpoint(loaded.config.publish.endpoint if loaded else "auto")
    models = doctor.models()
    installation = doctor.installation(loaded)
    with _quiet():
        found = doctor.accelerators(doctor.sections(loaded), args.timeout)
        plans = doctor.plans(loaded, args.timeout) if loaded else []
    ok = configuration.ok and library.ok and endpoint.ok and bool(plans) and all(plan.ok for plan in plans)
    ok = ok and not any(check.state == "wrong" for check in installation)
    if args.json:
        emit_json({
            "schema": doctor.SCHEMA, "ok": ok, "machine": machine, "configuration": asdict(configuration),
            "native": asdict(library), "endpoint": asdict(endpoint), "models": models,
            "installation": [asdict(check) for check in installation],
            "accelerators": [as_json(accelerator) for accelerator in found], "plans": [asdict(plan) for plan in plans],
        })  # fmt: skip
    else:
        emit(
            f"{'firstspike':<16} {machine['firstspike']}, Python {machine['python']}, {machine['machine']}, "
            f"{machine['system']}, {machine['cpus']} CPUs"
        )
        _print("configuration", configuration)
        _print("native library", library)
        _print("publishes on", endpoint)
        _print("models", _models(models))
        emit("\ninstallation")
        for check in installation:
            emit(f"  {check.name:<14} {'' if check.state == 'ok' else f'{check.state}: '}{check.text}")
            _fix(check.fix)
        emit("\naccelerators")
        print_accelerators(found)
        emit(f"\nplans            of {origin}")
        for plan in plans:
            _print(f"  {plan.name}", Fact(plan.ok, plan.reason or "can run", plan.fix))
    if not configuration.ok:
        return os.EX_CONFIG
    return 0 if ok else os.EX_UNAVAILABLE


def as_json(accelerator: Accelerator) -> dict[str, Any]:
    """One accelerator as docs/workers.md describes it."""
    environment = accelerator.environment
    marker = environment.marker
    return {
        "name": accelerator.name, "kind": accelerator.kind, "state": accelerator.state,
        "reason": accelerator.reason, "fix": accelerator.fix,
        "devices": [asdict(device) for device in accelerator.devices],
        "probed_with": accelerator.probed_with, "worker": dict(accelerator.worker), "tried": accelerator.tried,
        "environment": {
            "state": environment.state, "path": str(environment.path), "reason": environment.reason,
            "fix": environment.fix, "python": marker.get("python"), "packages": marker.get("packages"),
            "installed": marker.get("installed"), "made": marker.get("made"),
        },
        "missing_libraries": [library._asdict() for library in accelerator.missing],
    }  # fmt: skip


def print_accelerators(found: Sequence[Accelerator]) -> None:
    """Accelerators for a person."""
    if not found:
        emit("  none: this firstspike has no back end that runs in a worker")
    for accelerator in found:
        known = accelerator.name if accelerator.name == accelerator.kind else f"{accelerator.name} ({accelerator.kind})"
        with_versions = ""
        if accelerator.probed_with != "firstspike" and accelerator.worker:
            packages = " ".join(accelerator.environment.marker.get("packages") or [])
            with_versions = f" (Python {accelerator.worker['python']}{f', {packages}' if packages else ''})"
        emit(f"  {known:<14} {accelerator.state}{with_versions}{_after(accelerator.reason)}")
        _fix(accelerator.fix)
        for device in accelerator.devices:
            if device.reason and device.reason == accelerator.reason:
                continue
            unseen = "not seen" if accelerator.probed_with == "firstspike" else "not attached"
            stands = "attached" if device.present else unseen
            emit(f"{MARGIN}{device.device}: {stands}{_after(device.reason)}")
            if device.fix != accelerator.fix:
                _fix(device.fix)
        for library in accelerator.missing:
            emit(f"{MARGIN}missing: {library}")
        if accelerator.tried:
            emit(f"{MARGIN}tried: {accelerator.tried}")


def _configuration(args: argparse.Namespace) -> tuple[Loaded | None, Fact, str]:
    """The configuration, how it stands, and what it is called; what a command would be told has a default."""
    try:
        layers = read_layers(args.config, [])
        values = layers.values()
        if not any(key[0] == "model" for key in values):
            layers.put(("model", "path"), DEFAULT_MODEL, "default")
        if ("source", "kind") not in values:
            layers.put(("source", "kind"), "simulated", "default")
        loaded = apply_settings(layers, args.set)
    except (ConfigError, NoInputError) as error:
        return None, Fact(ok=False, text=str(error), fix="firstspike check says more"), "no configuration"
    origin = str(layers.main_file) if layers.main_file else "the defaults (no configuration file)"
    return loaded, Fact(ok=True, text=origin), origin


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Let supervisors not log what the report says."""
    log = logging.getLogger("firstspike.worker")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


def _models(models: Sequence[dict[str, Any]]) -> Fact:
    bad = [f"{model['path']}: {model['reason']}" for model in models if not model["ok"]]
    if bad:
        return Fact(ok=False, text="; ".join(bad))
    return Fact(ok=True, text=", ".join(f"{model['name']}@{model['version']}" for model in models) or "none came along")


def _print(what: str, fact: Fact) -> None:
    emit(f"{what:<16} {'' if fact.ok else 'WRONG: '}{fact.text}".replace("\n", f"\n{MARGIN}"))
    _fix(fact.fix)


def _fix(fix: str) -> None:
    if fix:
        emit(f"{MARGIN}fix: {fix}")


def _after(reason: str) -> str:
    return f": {reason}" if reason else ""
