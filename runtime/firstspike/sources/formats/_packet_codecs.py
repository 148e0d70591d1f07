"""The encodings of `event_camera_msgs/EventPacket`: evt3, mono, libcaer, libcaer_cmp; trigger is skipped.

Source: README of event_camera_msgs (mono, trigger), decoders and `libcaer_cmp_types.h` of event_camera_codecs,
`message_converter.cpp` of libcaer_driver, libcaer's `polarity.h`. Times: evt3 has the sensor's own, in the words;
the others count from the packet's `time_base` (ns), which is sensor time for mono and the host's for libcaer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from firstspike.sources.formats._event_packet import Packet, PacketError
from firstspike.sources.formats._stream import BLOCK_BYTES, Stats, Unwrap, pack, split
from firstspike.sources.formats.evt3 import Evt3
from firstspike.types import Events

TRIGGER = "trigger"
_CAER = np.dtype([("data", "<u4"), ("t", "<i4")])
_EVT3_KIND = np.array([8, 6, 0, 2, 3, 5, 15, 15, 15, 15, 15, 15, 15, 15, 15, 15], "<u2")
"""The word of EVT 3 that each word of libcaer_cmp (TIME_HIGH, TIME_LOW, ADDR_X, ADDR_Y, VECT_BASE_Y, VECT_8) is, with
x and y exchanged; 15 means nothing to the decoder."""
_TIME_HIGH, _TIME_LOW = 8, 6


class PacketDecoder:
    """Decodes a topic's packets in their order; keeps what EVT 3 carries from one to the next."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats
        self._evt3 = Evt3(stats)
        self._codecs: dict[str, Callable[[Packet], Iterator[Events]]] = {
            "evt3": self._decode_evt3,
            "mono": self._decode_mono,
            "libcaer": self._decode_caer,
            "libcaer_cmp": self._decode_compressed_caer,
            TRIGGER: self._skip_triggers,
        }

    def check(self, packet: Packet) -> None:
        """Raises PacketError where a packet's encoding is not supported."""
        if packet.encoding not in self._codecs:
            known = ", ".join(sorted(self._codecs))
            raise PacketError(f"the encoding is '{packet.encoding}', which is not supported (known: {known})")

    def __call__(self, packet: Packet) -> Iterator[Events]:
        """Yields the packet's events, at most MAX_EVENTS at once; PacketError where it is malformed."""
        self.check(packet)
        return self._codecs[packet.encoding](packet)

    def _decode_evt3(self, packet: Packet) -> Iterator[Events]:
        for block in _blocks(packet, 2):
            yield from self._evt3.batches(np.frombuffer(block, "<u2"))

    def _decode_mono(self, packet: Packet) -> Iterator[Events]:
        base, nanoseconds = divmod(packet.time_base, 1000)
        for block in _blocks(packet, 8):
            word = np.frombuffer(block, ">u8" if packet.big_endian else "<u8").astype(np.uint64)
            t = (nanoseconds + (word & 0xFFFFFFFF)).astype(np.int64) // 1000 + base
            yield from split(pack(t, word >> 32 & 0xFFFF, word >> 48 & 0x7FFF, word >> 63))

    def _decode_caer(self, packet: Packet) -> Iterator[Events]:
        unwrap = Unwrap(31)  # fresh: `time_base` has what wrapped before this packet
        for block in _blocks(packet, 8):
            record = np.frombuffer(block, _CAER)
            t = unwrap(record["t"]) + packet.time_base // 1000
            word = record["data"]
            valid = (word & 1) == 1
            self._stats.ignore("events marked invalid", len(word) - np.count_nonzero(valid))
            t, word = t[valid], word[valid]
            yield from split(pack(t, word >> 17, (word >> 2) & 0x7FFF, (word >> 1) & 1))

    def _decode_compressed_caer(self, packet: Packet) -> Iterator[Events]:
        if packet.big_endian:
            raise PacketError("libcaer_cmp from a big-endian machine, whose bit fields lie elsewhere, is not supported")
        decoder = _CompressedCaer(self._stats, packet.time_base // 1000)
        for block in _blocks(packet, 2):
            yield from decoder.batches(np.frombuffer(block, "<u2"))

    def _skip_triggers(self, packet: Packet) -> Iterator[Events]:
        self._stats.ignore("external triggers", len(packet.events) // 8)
        self._stats.tick()
        return iter(())


class _CompressedCaer:
    """A packet of libcaer_cmp: EVT 3 with x and y exchanged, with times that count from the packet's time base."""

    def __init__(self, stats: Stats, base_us: int) -> None:
        self._evt3 = Evt3(stats)
        self._base = base_us
        self._low = 0
        # The driver writes only what has changed, beginning from zero.
        self._evt3(np.array([_TIME_HIGH << 12, _TIME_LOW << 12], "<u2"))

    def batches(self, words: NDArray[np.uint16]) -> Iterator[Events]:
        """Yields the events of a block of words (shape (n,), uint16) in arrays of at most MAX_EVENTS."""
        kind = _EVT3_KIND[words >> 12]
        is_high, is_low = kind == _TIME_HIGH, kind == _TIME_LOW
        lows = np.concatenate((np.array([self._low], "<u2"), words[is_low] & 0x0FFF))
        self._low = int(lows[-1])
        # EVT 3's TIME_HIGH sets the low bits to zero and this one leaves them: they are written once more after it.
        before = lows[np.cumsum(is_low)[is_high]]
        as_evt3 = np.insert(kind << 12 | words & 0x0FFF, np.flatnonzero(is_high) + 1, _TIME_LOW << 12 | before)
        for events in self._evt3.batches(as_evt3):
            events["t"] += self._base
            columns = events["y"].copy()
            events["y"] = events["x"]
            events["x"] = columns
            yield events


def _blocks(packet: Packet, record: int) -> Iterator[memoryview]:
    """The encoded events in pieces; PacketError, after the whole records, where something is left over."""
    rest = len(packet.events) % record
    whole = packet.events[: len(packet.events) - rest]
    for start in range(0, len(whole), BLOCK_BYTES):
        yield whole[start : start + BLOCK_BYTES]
    if rest:
        raise PacketError(f"the {len(packet.events):,} bytes of events are no multiple of {record}")
