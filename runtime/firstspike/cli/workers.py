"""`firstspike workers`: the environments that back ends with a vendor's SDK run in."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from firstspike import doctor
from firstspike.cli.doctor import add_probe_arguments, as_json, print_accelerators
from firstspike.cli.output import Progress, emit, emit_json, say
from firstspike.errors import ConfigError, UsageError
from firstspike.worker import drivers, environments, install
from firstspike.worker.environments import Environment


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `workers`."""
    command = commands.add_parser(
        "workers",
        help="environments of accelerators: list, install, remove, doctor",
        description="Each accelerator's SDK runs in a process of its own, under the Python that it needs. Environments "
        f"lie in ${environments.OVERRIDE}, else {environments.SYSTEM_PLACE} (if it can be written), else "
        "~/.local/share/firstspike/workers.",
    )
    tasks = command.add_subparsers(dest="task", required=True, metavar="TASK")
    listing = tasks.add_parser("list", help="all back ends that run in a worker, and how their environments stand")
    listing.add_argument("--json", action="store_true", help="one JSON object")
    listing.set_defaults(run=run_list)
    making = tasks.add_parser("install", help="make the environment of a back end")
    making.add_argument("name", metavar="NAME", help="as `list` names it")
    making.add_argument("--python", type=Path, metavar="PATH", help="the interpreter to take (default: looked for)")
    making.add_argument("--force", action="store_true", help="make it anew even if it is installed")
    making.add_argument("--dry-run", action="store_true", help="say what would be done")
    making.set_defaults(run=run_install)
    removing = tasks.add_parser("remove", help="take the environment of a back end away")
    removing.add_argument("name", metavar="NAME")
    removing.set_defaults(run=run_remove)
    asking = tasks.add_parser(
        "doctor",
        help="what is attached, and how its environment stands",
        description="Look for devices, in each environment. Names given: 69 if one of them is not ready. Else: 69 "
        "if an environment that is installed does not work.",
    )
    asking.add_argument("names", metavar="NAME", nargs="*", help="default: all")
    add_probe_arguments(asking)
    asking.set_defaults(run=run_doctor)


def run_list(args: argparse.Namespace) -> int:
    """Print every driver with the state of its environment."""
    found = []
    for name in drivers.names():
        try:
            driver = drivers.load(name)
        except ConfigError as error:
            say(f"firstspike: {error}")
            continue
        found.append((driver, environments.look(driver)))
    if args.json:
        emit_json({
            "schema": "firstspike.workers/1",
            "places": [str(place) for place in environments.places()],
            "workers": [
                {
                    "name": driver.name, "summary": driver.summary, "state": environment.state,
                    "path": str(environment.path), "reason": environment.reason, "fix": environment.fix,
                    "python": environment.marker.get("python"), "wanted_python": driver.recipe.python,
                    "packages": driver.recipe.packages, "system_packages": driver.recipe.system,
                }
                for driver, environment in found
            ],
        })  # fmt: skip
        return 0
    for driver, environment in found:
        python = environment.marker.get("python")
        emit(f"{driver.name:<12} {environment.state:<14} {f'Python {python}' if python else '':<14} {driver.summary}")
        if environment.state in ("outdated", "broken"):
            emit(f"{'':<12} {environment.path}: {environment.reason}: {environment.fix}")
    return 0


def run_install(args: argparse.Namespace) -> int:
    """Make an environment, and say what its driver finds."""
    driver = _driver(args.name)
    if args.dry_run:
        for line in install.plan(driver, args.python)[1]:
            emit(line)
        return 0
    before = environments.look(driver)
    if before.state == "installed" and not args.force:
        emit(f"{driver.name}: already installed: {before.path} (--force makes it anew)")
        return 0
    progress = Progress(f"install {driver.name}")
    try:
        made = install.install(driver, args.python, force=args.force, say=say, progress=progress.show)
    finally:
        progress.done()
    emit(f"{driver.name}: installed: {made.path} (Python {made.marker.get('python')})")
    _warn(driver, made)
    found = doctor.accelerators([doctor.Section(driver.name, driver.name)])
    print_accelerators(found)
    return os.EX_UNAVAILABLE if found[0].state == "failed" else 0


def run_remove(args: argparse.Namespace) -> int:
    """Take an environment away."""
    name = _driver(args.name).name
    path = environments.remove(name, say)
    emit(f"{name}: removed {path}" if path else f"{name}: is not installed")
    return 0


def run_doctor(args: argparse.Namespace) -> int:
    """Look for devices with some drivers, or all."""
    names = args.names or doctor.of_use()
    unknown = [name for name in names if name not in drivers.names()]
    if unknown:
        _driver(unknown[0])
    found = doctor.accelerators([doctor.Section(name, name) for name in names], args.timeout)
    if args.json:
        emit_json({"schema": "firstspike.workers-doctor/1", "accelerators": [as_json(one) for one in found]})
    else:
        print_accelerators(found)
    if args.names:
        return 0 if all(one.state == "ready" for one in found) else os.EX_UNAVAILABLE
    return os.EX_UNAVAILABLE if any(one.state in ("broken", "failed") for one in found) else 0


def _driver(name: str) -> drivers.DriverFile:
    """The driver that an argument names."""
    try:
        return drivers.load(name)
    except ConfigError as error:
        raise UsageError(str(error)) from None


def _warn(driver: drivers.DriverFile, made: Environment) -> None:
    """Say what an installation could not see to."""
    interpreter = Path(str(made.marker.get("interpreter")))
    system = made.path.parent == environments.SYSTEM_PLACE
    if system and (closed := install.unreadable_by_others(interpreter)) is not None:
        say(
            f"{driver.name}: {interpreter} lies in {closed}, which other users cannot enter: a daemon that runs as "
            f"another user cannot start it: take an interpreter of the system (--python)"
        )
