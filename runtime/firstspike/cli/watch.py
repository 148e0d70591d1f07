"""`firstspike watch`: what a subscriber receives."""

from __future__ import annotations

import argparse

from firstspike import endpoints
from firstspike.cli.common import (
    HEADER,
    describe,
    describe_energy,
    describe_provisional,
    describe_totals,
    stop_on_signal,
)
from firstspike.cli.output import emit, emit_json, printable, say
from firstspike.client import Message, Subscriber
from firstspike.errors import UnavailableError
from firstspike.messages import Decision, Energy, Health, Provisional, to_plain
from firstspike.topics import TOPICS

POLL_S = 0.2


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `watch`."""
    command = commands.add_parser(
        "watch",
        help="print what a running daemon publishes",
        description="Subscribe to a daemon and print its messages as they arrive. Waits for a daemon that is not there "
        "yet, and stays when one restarts.",
    )
    add_endpoint_arguments(command)
    command.add_argument(
        "--json", action="store_true", help="one JSON object a message, health, energy and provisional ones included"
    )
    command.add_argument("--until-stop", action="store_true", help="end when the daemon says that it stops")
    command.add_argument("--timeout", type=float, metavar="S", help="end with 69 if nothing comes for this long")
    command.set_defaults(run=run)


def add_endpoint_arguments(command: argparse.ArgumentParser) -> None:
    """Whom to subscribe to, and the keys that TCP needs."""
    command.add_argument(
        "endpoint", nargs="?", default=endpoints.AUTO, metavar="ENDPOINT",
        help="ipc:///path, tcp://address:port with keys, or auto (the default)",
    )  # fmt: skip
    command.add_argument("--server-key", metavar="KEY", help="over TCP: the daemon's public key, or its file")
    command.add_argument("--keys", metavar="FILE", help="over TCP: your .key_secret file (firstspike keys client)")


def subscribe(args: argparse.Namespace) -> Subscriber:
    """A subscriber to all topics, as the arguments say."""
    return Subscriber(args.endpoint, topics=TOPICS, server_key=args.server_key, keys=args.keys)


def run(args: argparse.Namespace) -> int:
    """Print messages until told to stop."""
    stopping = stop_on_signal()
    if not args.json:
        say(HEADER)
    with subscribe(args) as subscriber:
        quiet_s = 0.0
        told: dict[str, str] = {}
        running: set[str | None] = set()
        while not stopping.is_set():
            message = subscriber.receive(POLL_S)
            if message is None:
                quiet_s += POLL_S
                if subscriber.epoch is None and POLL_S <= quiet_s - 1 < 2 * POLL_S:
                    say(f"waiting for a daemon at {subscriber.endpoint}{endpoints.closed(subscriber.endpoint)}")
                if args.timeout is not None and quiet_s >= args.timeout:
                    raise UnavailableError(
                        f"{subscriber.endpoint}: nothing came for {args.timeout:g} s: is it running?"
                        f"{endpoints.closed(subscriber.endpoint)}"
                    )
                continue
            quiet_s = 0.0
            _show(message, told, as_json=args.json)
            if isinstance(message, Health) and message.state != "stopping":
                running.add(message.stream)
            elif args.until_stop and isinstance(message, Health):
                if not args.json:
                    say(describe_totals(message.counters))
                running.discard(message.stream)
                if not running:
                    break
        lost = {topic: count for topic, count in subscriber.lost.items() if count}
        if lost or subscriber.malformed:
            say(f"lost messages: {lost or 'none'}; malformed: {subscriber.malformed}")
    return stopping.exit_code


def _show(message: Message, told: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        emit_json(to_plain(message))
    elif isinstance(message, Decision):
        emit(describe(message))
    elif isinstance(message, Provisional):
        emit(describe_provisional(message))
    elif isinstance(message, Energy):
        _show_energy(message, told)
    else:
        _show_changes(message, told)


def _show_energy(energy: Energy, told: dict[str, str]) -> None:
    """A plan's energy is shown each time that it is metered, and why it is not when that is news."""
    subject = f"energy of {energy.stream} {energy.name}"
    why = energy.reason or ""
    if (energy.subject == "backend" and energy.total_j is not None and energy.inferences) or told.get(subject) != why:
        say(describe_energy(energy, why=told.get(subject) != why))
    told[subject] = why


def _show_changes(health: Health, told: dict[str, str]) -> None:
    """Say what is new: how the daemon is, and each back end.

    Args:
        health: the latest.
        told: what was said last, by subject; updated.
    """
    now = {"health": f"{health.state}: {'; '.join(health.reasons)}" if health.state == "degraded" else "ok"}
    for backend in health.backends:
        # From ready to busy and back it goes with every window.
        well = backend.state in ("ready", "busy")
        pid = f" (pid {backend.pid})" if backend.pid is not None else ""
        state = f"ready{pid}" if well else backend.state
        now[f"back end {backend.name}"] = ": ".join(part for part in (state, backend.reason, backend.fix) if part)
    if health.stream is not None:
        now = {f"{health.stream}: {subject}": text for subject, text in now.items()}
    for subject, text in now.items():
        # That all is well is news only after it was not.
        if told.get(subject, "ok" if subject.endswith("health") else "ready") != text:
            say(printable(f"{subject}: {text}"))
    told.update(now)
