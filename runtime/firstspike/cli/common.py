"""What commands share: the configuration's arguments, stopping by signal, and how a decision looks to a person."""

from __future__ import annotations

import argparse
import logging
import signal
import threading
from pathlib import Path

from firstspike.cli.output import printable
from firstspike.config import Loaded, ScheduleSection, load
from firstspike.config_layers import Layers, read_layers
from firstspike.messages import Decision, Energy, Provisional
from firstspike.messages_health import Counters

DEFAULT_MODEL = "nmnist"
BAR = 20
HEADER = "sensor time      answer, probability (recent windows) | last window alone, its events | close to publish | by"


def add_config_arguments(command: argparse.ArgumentParser) -> None:
    """`--config` and `--set`."""
    command.add_argument("--config", type=Path, metavar="FILE", help="configuration file (else $FIRSTSPIKE_CONFIG)")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override, such as schedule.deadline_ms=50"
    )


def add_plan_argument(command: argparse.ArgumentParser) -> None:
    """`--plan`."""
    command.add_argument(
        "--plan", metavar="NAME", help="the back end that is to answer first; those of schedule.plans stand by"
    )


def put_plan(layers: Layers, name: str | None) -> None:
    """Put the plan of `--plan` before the others."""
    if name is None:
        return
    plans = layers.values().get(("schedule", "plans"), (ScheduleSection().plans, ""))[0]
    others = [plan for plan in plans if plan != name] if isinstance(plans, list) else []
    layers.put(("schedule", "plans"), [name, *others], "--plan")


def layers_for_files(args: argparse.Namespace) -> Layers:
    """The configuration's layers for a command that is told its files: what it does not need has no say."""
    layers = read_layers(args.config, [])
    layers.drop_streams()
    if args.model is not None or not any(key[0] == "model" for key in layers.values()):
        model = args.model or DEFAULT_MODEL
        path = Path(model)
        layers.put(("model", "path"), str(path.resolve()) if path.exists() else model, "--model")
    layers.put(("source", "kind"), "recording", "command line")
    return layers


def apply_settings(layers: Layers, settings: list[str], plan: str | None = None) -> Loaded:
    """Put `--set` on top, and `--plan`, and validate; the log is as the configuration wants it from now on."""
    loaded = settle(layers, settings, plan)
    set_log_level(loaded)
    return loaded


def set_log_level(loaded: Loaded) -> None:
    """Log as the configuration says."""
    logging.getLogger().setLevel(loaded.config.log.level.upper())


def settle(layers: Layers, settings: list[str], plan: str | None = None) -> Loaded:
    """Put `--set` on top, and `--plan`, and validate."""
    for key, (value, origin) in read_layers(None, settings, {}).values().items():
        if origin == "--set":
            layers.put(key, value, origin)
    put_plan(layers, plan)
    return load(layers)


class Signalled(threading.Event):
    """Set by a signal's handler, which another signal may interrupt while it does: its lock is reentrant."""

    def __init__(self) -> None:
        super().__init__()
        self._cond = threading.Condition(threading.RLock())


class Stopping(Signalled):
    """Set by a signal; `exit_code` is what the shell expects of a program that Ctrl-C ended, else 0."""

    exit_code = 0


def stop_on_signal() -> Stopping:
    """An event that SIGINT and SIGTERM set, so that work ends in good order; a second signal ends it at once."""
    stopping = Stopping()

    def stop(number: int, _: object) -> None:
        if number == signal.SIGINT:
            stopping.exit_code = 128 + number
        stopping.set()
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGTERM, stop)
    return stopping


def describe(decision: Decision) -> str:
    """A decision as a line for a person."""
    answer = f"{decision.label if decision.label is not None else '–':>12}"
    confidence = decision.confidence or 0.0
    bar = "█" * round(confidence * BAR)
    window = decision.window
    stream = "" if decision.stream is None else f"{decision.stream:<8} "
    alone = "–" if window.label is None else f"{window.label} {window.confidence:.2f}"
    line = f"{stream}{decision.t_us / 1e6:9.3f} s {answer} {confidence:5.2f} {bar:<{BAR}}"
    line += f" window {alone:<8} {window.events:7d} ev"
    stamps = decision.stamps
    if stamps.clock == "monotonic":
        line += f" {(stamps.published_ns - stamps.closed_ns) / 1e6:7.2f} ms"
    line += f"  {decision.backend or 'nobody'}"
    if decision.energy is not None and decision.energy.dynamic_j is not None:
        line += f" {joules(decision.energy.dynamic_j, decision.energy.u95_j)} {decision.energy.method}"
    if decision.status != "ok":
        line += f"  {decision.status}: {'; '.join(decision.reasons)}"
    return printable(line)


PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n"), (1e-12, "p"))


def quantity(value: float | None, unit: str) -> str:
    """A value to three digits with its unit, or a dash."""
    if value is None:
        return "–"
    scale, prefix = next(((one, name) for one, name in PREFIXES if abs(value) >= one), (1.0, ""))
    return f"{value / scale:.3g} {prefix}{unit}"


def joules(value: float, u95: float | None) -> str:
    """An energy with its uncertainty, in one unit."""
    if u95 is None:
        return quantity(value, "J")
    scale, prefix = next(((one, name) for one, name in PREFIXES if max(abs(value), u95) >= one), (1.0, ""))
    return f"{value / scale:.3g} ± {u95 / scale:.2g} {prefix}J"


def describe_energy(energy: Energy, *, why: bool = True) -> str:
    """An energy window as a line for a person; `why`: with what is missing in it."""
    of = "" if energy.stream is None else f"{energy.stream}: "
    line = f"{of}energy of {energy.name}: {energy.method}"
    line += f", {energy.meter} ({energy.scope})" if energy.meter and energy.total_j is not None else ""
    if energy.total_j is not None:
        line += f", {energy.window_s:g} s, {quantity(energy.total_j / energy.window_s, 'W')}"
        line += f", idle {quantity(energy.baseline_w, 'W')}" if energy.baseline_w is not None else ""
    each = energy.classification
    if each is not None and each.dynamic_j is not None:
        line += f", {joules(each.dynamic_j, each.u95_j)} a classification ({energy.inferences})"
    return printable(f"{line}: {energy.reason}" if energy.reason and why else line)


def describe_provisional(provisional: Provisional) -> str:
    """A provisional decision as a line for a person; the decision's own line follows."""
    first, stamps = provisional.first_spike, provisional.stamps
    line = (
        f"{provisional.t_us / 1e6:9.3f} s {provisional.label:>12} provisional: spike at step {first.network_step} of "
        f"{first.network_steps}"
    )
    if len(first.candidates) > 1:
        line += f", known at {first.known_step}, a tie of {', '.join(first.candidates[:5])}"
        line += ", …" if len(first.candidates) > 5 else ""
    if stamps.clock == "monotonic":
        line += f" {(stamps.published_ns - stamps.closed_ns) / 1e6:7.2f} ms"
    return printable(line)


def describe_totals(counters: Counters) -> str:
    """Totals as a line for a person: what was read, what became of it, and every loss."""
    parts = [f"{counters.events} events", f"{counters.windows} windows"]
    parts += [
        f"{count} {name.replace('_', ' ')}"
        for name, count in counters.model_dump().items()
        if name not in ("events", "windows", "decisions_ok") and count
    ]
    return ", ".join(parts)
