"""`firstspike record`: what a camera or the network gives, into files."""

from __future__ import annotations

import argparse
import threading
import time
from pathlib import Path
from typing import get_args

from firstspike import plugins
from firstspike.cli.common import DEFAULT_MODEL, add_config_arguments, apply_settings, stop_on_signal
from firstspike.cli.output import Progress, emit, say
from firstspike.config_layers import Layers, read_layers
from firstspike.errors import ConfigError, FirstspikeError, OutputError, UsageError
from firstspike.recorder import Recorder, Rotation
from firstspike.recording_writer import SUFFIX, Format, RecordingFile
from firstspike.sources import LiveStream, Source, Waiting


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Arguments of `record`."""
    command = commands.add_parser(
        "record",
        help="write a camera's events to files",
        description="Write what the configuration's live source gives, until it ends or a signal comes. A file appears "
        "under its name when it is complete and on the disk; a camera that is plugged in again and a clock that is set "
        "back begin another one.",
    )
    command.add_argument("out", type=Path, metavar="OUT", help="a file ending in .aedat4 or .raw (EVT3)")
    command.add_argument(
        "--from", dest="address", metavar="ADDRESS", help="packets from the network, such as udp://127.0.0.1:3333"
    )
    command.add_argument("--stream", metavar="NAME", help="the camera of [stream.NAME]")
    command.add_argument("--format", choices=get_args(Format), help="default: by the name")
    command.add_argument("--seconds", type=_positive, metavar="N", help="stop so long after the first event")
    command.add_argument("--max-mib", type=_positive, metavar="N", help="begin another file at this size")
    command.add_argument("--max-s", type=_positive, metavar="N", help="begin another file after so much time")
    command.add_argument(
        "--free-mib", type=float, default=512.0, metavar="N", help="stop when less is free on the disk (default: 512)"
    )
    add_config_arguments(command)
    command.set_defaults(run=run)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e12:
        raise argparse.ArgumentTypeError(f"{text!r} is no positive number")
    return value


def _format(out: Path, given: Format | None) -> Format:
    for name, suffix in SUFFIX.items():
        if given == name or (given is None and out.suffix.lower() == suffix):
            return name  # type: ignore[return-value]  # the table's keys are the formats
    raise UsageError(f"{out}: of which format? Let it end in {' or '.join(SUFFIX.values())}, or use --format")


def _layers(args: argparse.Namespace) -> Layers:
    layers = read_layers(args.config, [])
    if args.stream is not None:
        if args.stream not in layers.streams():
            there = ", ".join(layers.streams()) or "none"
            raise UsageError(
                f"--stream {args.stream}: the configuration has no [stream.{args.stream}]: there are {there}"
            )
        layers = layers.for_stream(args.stream)
    elif (names := layers.streams()) and args.address is None:
        raise UsageError(f"the configuration has several streams: name one: --stream {names[0]}")
    layers.drop_streams()
    if not any(key[0] == "model" for key in layers.values()):
        layers.put(("model", "path"), DEFAULT_MODEL, "default")  # not used, but a configuration has one
    if args.address is not None:
        layers.put(("source", "kind"), "network", "--from")
        layers.put(("source", "network", "address"), args.address, "--from")
    return layers


def run(args: argparse.Namespace) -> int:
    """Record; the exit code is 74 if the disk had no more room."""
    format = _format(args.out, args.format)  # noqa: A001 (the user's word)
    layers = _layers(args)
    if not any(key[0] == "source" for key in [*layers.values(), *(("source",) for s in args.set if "source." in s)]):
        raise UsageError("nothing to record from: name a configuration (--config) or an address (--from)")
    loaded = apply_settings(layers, args.set)
    kind = loaded.config.source.kind
    source: Source = plugins.load("sources", kind).create(loaded.source_options, loaded.base)
    try:
        if not source.live:
            raise ConfigError(f"source.kind = {kind!r} is not live: record from camera or network")
        rotation = Rotation(args.out, None if args.max_mib is None else round(args.max_mib * (1 << 20)), args.max_s)
        free_bytes = round(args.free_mib * (1 << 20))
        rotation.look(free_bytes)
        recorder = Recorder(rotation, format, free_bytes, _tell)
        return _record(source, recorder, args.seconds, stop_on_signal())
    finally:
        source.close()


def _tell(file: RecordingFile) -> None:
    emit(f"{file.path}: {file.events} events")


def _record(source: Source, recorder: Recorder, seconds: float | None, stopping: threading.Event) -> int:
    lost: dict[str, int] = {}
    try:
        _read(source, recorder, lost, seconds, stopping)
    except OutputError:
        if recorder.error is None:  # else it tells once more
            raise
    finally:  # whatever it was that ended it: what was read becomes files
        try:
            recorder.close()
        finally:
            _report(recorder, lost)
    return 0


def _read(
    source: Source, recorder: Recorder, lost: dict[str, int], seconds: float | None, stopping: threading.Event
) -> None:
    """Put what comes to the recorder, until the source ends, the time is over or a signal comes."""
    progress, told, n_events = Progress("record"), "", 0
    end_s = float("inf")

    def over() -> bool:
        return stopping.is_set() or time.monotonic() > end_s

    def count(counts: dict[str, int]) -> None:
        for counter, more in counts.items():
            lost[counter] = lost.get(counter, 0) + more

    try:
        for segment in source.segments():
            if over():
                return
            if isinstance(segment, Waiting):
                count(segment.counts)
                if segment.reason != told:
                    say(segment.reason)
                told = segment.reason
                continue
            try:
                with segment.open() as stream:
                    assert isinstance(stream, LiveStream)  # noqa: S101 (the source is live)
                    size, name = (stream.info.width, stream.info.height), stream.info.sensor or segment.name
                    say(f"recording {name}, {size[0]}×{size[1]}")
                    while not over():
                        try:
                            arrival = stream.receive(0.1)
                        finally:
                            count(stream.take_counts())
                        if len(arrival.events):
                            recorder.put(arrival.events, size, name)
                            if not n_events and seconds:
                                end_s = time.monotonic() + seconds
                            n_events += len(arrival.events)
                        progress.show(f"{n_events} events, {recorder.written.files} files complete")
                        if arrival.ended:
                            break
            except OutputError:
                raise
            except FirstspikeError as error:
                say(str(error))
            recorder.end_segment()
    finally:
        progress.done()


def _report(recorder: Recorder, lost: dict[str, int]) -> None:
    written = recorder.written
    parts = [f"{written.events} events in {written.files} files"]
    parts += [f"{count} {name.replace('_', ' ')}" for name, count in lost.items() if count]
    left_out = {"outside": "outside the sensor", "backward": "out of order", "dropped": "the disk was too slow for"}
    for name, text in left_out.items():
        if count := getattr(written, name):
            parts.append(f"{count} {text}")
    say(", ".join(parts))
