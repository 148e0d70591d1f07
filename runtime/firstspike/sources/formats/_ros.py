"""What ROS 1 and ROS 2 bags have in common: the choice of a topic, and its messages turned into events."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from firstspike.errors import DataError
from firstspike.sources.formats._event_packet import TYPES, Packet, PacketError
from firstspike.sources.formats._packet_codecs import TRIGGER, PacketDecoder
from firstspike.sources.formats._stream import Options, Stats, data_error
from firstspike.types import Events, RecordingInfo

MAX_MESSAGE = 64 << 20
"""Bytes: no message of events that is larger is taken (a driver's has some 10 kB)."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic of a bag."""

    name: str
    type: str
    """As ROS 1 writes it: `package/Type`."""
    count: int
    """Messages, as far as the bag's index tells."""


class Bag(Protocol):
    """A container of messages."""

    def topics(self) -> list[Topic]:
        """All topics; DataError where the container is damaged."""

    def messages(self, topic: Topic) -> Iterator[bytes]:
        """The topic's messages in the order of recording; DataError after those before a fault."""

    def parse(self, data: bytes) -> Packet:
        """Deserialises a message; PacketError where it is malformed."""


def open_bag(name: str, path: Path, bag: Bag, options: Options, stats: Stats) -> tuple[RecordingInfo, Iterator[Events]]:
    """Opens a bag's topic of events: of several, the one with most messages, then the first by name.

    A topic that carries triggers alone is taken only where there is no other.

    Raises:
        DataError: There is no such topic, or its first message is malformed or in an unknown encoding.
    """
    topics = bag.topics()
    ranked = sorted((topic for topic in topics if topic.type in TYPES), key=lambda topic: (-topic.count, topic.name))
    if not ranked:
        kinds = ", ".join(sorted({topic.type for topic in topics})[:8]) or "none at all"
        raise data_error(path, f"has no topic of type {TYPES[0]}; there is {kinds}")
    chosen, first = _choose(path, bag, ranked, stats)
    notes = [f"topic {topic.name} with events too is ignored" for topic in ranked if topic != chosen]
    others = len(topics) - len(ranked)
    if others:
        notes.append(f"{others} topics without events are ignored")
    if first is None:
        notes.insert(0, f"there is no message on the topic {chosen.name}")
        if options.width is None or options.height is None:
            raise data_error(path, f"has no message on the topic {chosen.name}, so no geometry: give width and height")
        return RecordingInfo(name, options.width, options.height, "given", None, tuple(notes)), iter(())
    notes.insert(0, f"topic {chosen.name}, encoding {first.encoding}")
    info = RecordingInfo(name, first.width, first.height, "header", first.frame or None, tuple(notes))
    return info, _events(path, bag, chosen, first, stats)


def _choose(path: Path, bag: Bag, ranked: list[Topic], stats: Stats) -> tuple[Topic, Packet | None]:
    """The first topic whose first packet holds events, with that packet; else the first that has a message."""
    found: list[tuple[Topic, Packet | None]] = []
    decoder = PacketDecoder(stats)
    for topic in ranked:
        first = next(_packets(path, bag, topic), None)
        if first is None:
            found.append((topic, None))
            continue
        try:
            decoder.check(first[1])
        except PacketError as error:
            raise _unusable(path, topic, first[0], error) from error
        found.append((topic, first[1]))
        if first[1].encoding != TRIGGER:
            return found[-1]
    return next((pair for pair in found if pair[1] is not None), found[0])


def _packets(path: Path, bag: Bag, topic: Topic) -> Iterator[tuple[int, Packet]]:
    """The topic's packets, numbered from 1."""
    for number, data in enumerate(bag.messages(topic), 1):
        try:
            packet = bag.parse(data)
        except PacketError as error:
            raise _unusable(path, topic, number, error) from error
        yield number, packet


def _events(path: Path, bag: Bag, topic: Topic, first: Packet, stats: Stats) -> Iterator[Events]:
    decoder = PacketDecoder(stats)
    account = _Account(first)
    for number, packet in _packets(path, bag, topic):
        account.add(packet)
        stats.tick()
        try:
            yield from decoder(packet)
        except PacketError as error:
            raise _unusable(path, topic, number, error) from error
    stats.notes.extend(account.notes())


class _Account:
    """Counts what was lost on the way into the bag."""

    def __init__(self, first: Packet) -> None:
        self.size = (first.width, first.height)
        self.next: int | None = None
        self.missing = self.restarts = self.resized = 0

    def add(self, packet: Packet) -> None:
        if self.next is not None:
            self.missing += max(0, packet.seq - self.next)
            self.restarts += packet.seq < self.next
        self.next = packet.seq + 1
        self.resized += (packet.width, packet.height) != self.size

    def notes(self) -> Iterator[str]:
        if self.missing:
            yield f"{self.missing:,} packets are missing, as gaps in their numbers tell"
        if self.restarts:
            yield f"the packets' numbers fall back {self.restarts:,} times: the driver began anew"
        if self.resized:
            yield f"{self.resized:,} packets state another geometry than the first"


def _unusable(path: Path, topic: Topic, number: int, error: PacketError) -> DataError:
    return data_error(path, f"has an unusable message {number:,} on the topic {topic.name}: {error}")
