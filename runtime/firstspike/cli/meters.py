"""`firstspike meters`: what can measure energy here, and why the rest cannot."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path
from typing import Any

from firstspike.cli.output import emit, emit_json
from firstspike.energy import Meter, Reading, Unavailable
from firstspike.energy.meters import Found, find
from firstspike.errors import NoInputError

SCHEMA = "firstspike.meters/1"
COUNT_S = 0.25
"""A counter is read twice, so far apart, to tell a power."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `meters`."""
    command = commands.add_parser(
        "meters",
        help="what can measure energy here, and why the rest cannot",
        description="List every meter of power or energy with a reading, what is in it, and why others are left out: "
        "docs/meters.md.",
    )
    command.add_argument("--json", action="store_true", help="one JSON object (with --watch: one a second)")
    command.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="a copy of a machine's /sys")
    command.add_argument("--watch", action="store_true", help="go on, a line a second, until interrupted")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """List, or watch."""
    if not (args.root / "sys").is_dir():
        raise NoInputError(f"{args.root}: has no folder sys: name the folder that holds a copy of /sys")
    found = find(args.root)
    try:
        if args.watch:
            return _watch(found, json=args.json)
        powers = _powers(found.meters, COUNT_S)
        emit_json(_plain(found, powers, args.root)) if args.json else _print(found, powers, args.root)
    finally:
        found.close()
    return os.EX_OK


def _powers(meters: tuple[Meter, ...], over_s: float) -> list[float | Unavailable]:
    """W of each now, of a counter over some time."""
    first = [meter.read() for meter in meters]
    if any(meter.kind == "counter" for meter in meters):
        time.sleep(over_s)
    powers: list[float | Unavailable] = []
    for meter, before in zip(meters, first, strict=True):
        after = meter.read() if meter.kind == "counter" and isinstance(before, Reading) else before
        if isinstance(after, Reading) and isinstance(before, Reading):
            elapsed_s = (after.t_ns - before.t_ns) / 1e9
            if meter.kind == "power":
                powers.append(after.value)
            elif after.value > before.value:
                powers.append((after.value - before.value) / elapsed_s)
            else:
                powers.append(Unavailable(f"{meter.name}: the counter stood still for {elapsed_s:.2g} s"))
        elif isinstance(after, Unavailable):
            powers.append(after)
    return powers


def _plain(found: Found, powers: list[float | Unavailable], root: Path) -> dict[str, Any]:
    total = found.total()
    return {
        "schema": SCHEMA, "root": str(root), "total": total.name if total else None,
        "meters": [
            {
                "name": meter.name, "what": meter.what, "scope": meter.scope, "kind": meter.kind,
                "resolution": meter.resolution or None, "u95_fraction": meter.u95_fraction,
                "watts": None if isinstance(power, Unavailable) else round(power, 6),
                "reason": power.reason if isinstance(power, Unavailable) else None,
                "fix": (power.fix or None) if isinstance(power, Unavailable) else None,
            }
            for meter, power in zip(found.meters, powers, strict=True)
        ],
        "left_out": [
            {
                "kind": one.kind, "name": one.name or None, "reason": one.reason, "fix": one.fix or None,
                "by_name": one.meter is not None,
            }
            for one in found.left_out
        ],
    }  # fmt: skip


def _print(found: Found, powers: list[float | Unavailable], root: Path) -> None:
    total = found.total()
    if total is None:
        emit(f"no meter {'on this machine' if root == Path('/') else f'in {root}'}: energy is modelled, or unavailable")
    for meter, power in zip(found.meters, powers, strict=True):
        said = f"unavailable: {power.reason}" if isinstance(power, Unavailable) else f"{power:.3f} W"
        nearest = ", nearest to the whole machine" if meter is total else ""
        emit(f"{meter.name}  {said}")
        emit(f"    {meter.what}")
        unit, accuracy = "J" if meter.kind == "counter" else "W", meter.u95_fraction
        step = f"steps of {meter.resolution:.3g} {unit}" if meter.resolution else "steps not known"
        known = "accuracy not known" if accuracy is None else f"±{accuracy:.2%} by its data sheet"
        emit(f"    {meter.scope}{nearest}; {meter.kind}; {step}; {known}")
        if isinstance(power, Unavailable) and power.fix:
            emit(f"    fix: {power.fix}")
    parts = [one for one in found.left_out if one.meter is not None]
    if parts:
        emit("")
        emit("part of a meter above, or beside it; can be named:")
        for one in parts:
            emit(f"    {one.name}: {one.reason}")
    others = [one for one in found.left_out if one.meter is None]
    if others:
        emit("")
        emit("left out:")
        for one in others:
            emit(f"    {one.name or one.kind}: {one.reason}" + (f" (fix: {one.fix})" if one.fix else ""))


def _watch(found: Found, *, json: bool) -> int:
    if not found.meters:
        raise NoInputError("no meter to watch: 'firstspike meters' says why")
    while True:
        powers = _powers(found.meters, 1.0)
        if json:
            values = [None if isinstance(power, Unavailable) else round(power, 6) for power in powers]
            emit_json(dict(zip((meter.name for meter in found.meters), values, strict=True)))
        else:
            said = ("unavailable" if isinstance(power, Unavailable) else f"{power:.3f} W" for power in powers)
            emit("  ".join(f"{meter.name} {text}" for meter, text in zip(found.meters, said, strict=True)))
        if not any(meter.kind == "counter" for meter in found.meters):
            time.sleep(1.0)
