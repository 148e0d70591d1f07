"""`firstspike send`: a recording as packets, to a daemon with a network source."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from firstspike.cli.common import stop_on_signal
from firstspike.cli.output import emit
from firstspike.cli.replay import geometry, speed
from firstspike.errors import ConfigError, UsageError
from firstspike.sender import DEFAULT_EVENTS, MAX_EVENTS, Sender, play
from firstspike.sources._ports import split
from firstspike.sources.decoding import DecoderProcess


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `send`."""
    command = commands.add_parser(
        "send",
        help="send a recording to a daemon by UDP or ZeroMQ",
        description='Send a recording\'s events as packets to a daemon with [source] kind = "network", as a camera '
        "node would: docs/network.md.",
    )
    command.add_argument("file", type=Path, metavar="FILE", help="recording of any known format")
    command.add_argument(
        "--to", default="udp://127.0.0.1:3333", metavar="ADDRESS", help="the daemon's source.network.address"
    )
    command.add_argument("--speed", default=1.0, type=speed, metavar="N|max", help="times real time (default: 1)")
    command.add_argument("--rate", type=float, metavar="N", help="events a second, in place of --speed")
    command.add_argument("--stream", default=0, type=int, metavar="N", help="the camera's number (default: 0)")
    command.add_argument(
        "--packet-events", default=DEFAULT_EVENTS, type=int, metavar="N",
        help=f"most events in a packet (default: {DEFAULT_EVENTS}, which fit an Ethernet frame; at most {MAX_EVENTS})",
    )  # fmt: skip
    command.add_argument("--loop", action="store_true", help="begin again at the end, for ever")
    command.add_argument("--format", help="the file's format (default: recognised by content)")
    command.add_argument("--columns", help="order of a CSV's columns, such as txyp")
    command.add_argument("--geometry", type=geometry, metavar="WxH", help="sensor size, where the file does not say")
    command.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Send until the recording ends or a signal comes."""
    if not 0 <= args.stream <= 65535:
        raise UsageError(f"--stream {args.stream}: a number from 0 to 65535")
    if not 0 < args.packet_events <= MAX_EVENTS:
        raise UsageError(f"--packet-events {args.packet_events}: a number from 1 to {MAX_EVENTS}")
    if args.rate is not None and not 0 < args.rate <= 1e12:
        raise UsageError(f"--rate {args.rate}: a positive number")
    try:
        split(args.to)
    except ConfigError as error:
        raise UsageError(f"--to {error}") from None
    stopping = stop_on_signal()
    pace = None if args.speed == "max" or args.rate is not None else args.speed
    width, height = args.geometry or (None, None)
    n_packets = n_events = 0
    began = time.monotonic()
    with DecoderProcess() as decoder:
        while True:
            with decoder.open(
                args.file, format=args.format, width=width, height=height, columns=args.columns
            ) as recording:
                info = recording.info
                with Sender(
                    args.to, info.width, info.height, stream=args.stream, packet_events=args.packet_events
                ) as sender:
                    play(sender, recording, pace, args.rate, stopping.is_set)
                n_packets, n_events = n_packets + sender.sent.packets, n_events + sender.sent.events
            if not args.loop or stopping.is_set():
                break
    seconds = time.monotonic() - began
    emit(f"{args.to}: {n_events} events in {n_packets} packets, {n_events / seconds / 1e6:.3g} M events a second")
    return stopping.exit_code
