"""The ROS message `event_camera_msgs/EventPacket`, out of either serialisation.

Source: `EventPacket.msg` of the package event_camera_msgs (and `EventArray.msg` of event_array_msgs, its older name,
with the same fields); ROS 1 serialisation as in wiki.ros.org, «msg»: little-endian, packed; ROS 2: OMG CDR as in
«DDS Interoperability Wire Protocol» 2.5, section 10: four bytes of encapsulation, then aligned values.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

TYPES = ("event_camera_msgs/EventPacket", "event_array_msgs/EventArray")
"""Types of messages with this layout, as ROS 1 writes them; ROS 2 has `/msg/` for the slash."""

_CDR_ORDERS = {b"\x00\x00": ">", b"\x00\x01": "<"}
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
_CDR_PADDING = 3


class PacketError(Exception):
    """A message is malformed or says what is not supported; its text continues «a message of which …»."""


@dataclass(frozen=True, slots=True)
class Packet:
    """One message."""

    frame: str
    """The camera's `frame_id`."""
    width: int
    height: int
    seq: int
    """Counts the camera's packets: a gap is a loss."""
    time_base: int
    """ns; its meaning depends on the encoding."""
    encoding: str
    big_endian: bool
    events: memoryview
    """The encoded events."""


class _Cursor:
    """Reads values one after another; `pad` is whether they are aligned to their size."""

    def __init__(self, data: memoryview, order: str, *, pad: bool) -> None:
        self.data = data
        self.order = order
        self.pad = pad
        self.at = 0

    def number(self, code: str) -> int:
        size = struct.calcsize(code)
        if self.pad:
            self.at += -self.at % size
        if self.at + size > len(self.data):
            raise PacketError("the end is missing")
        (value,) = struct.unpack_from(self.order + code, self.data, self.at)
        self.at += size
        return int(value)

    def octets(self, what: str) -> memoryview:
        size = self.number("I")
        if self.at + size > len(self.data):
            raise PacketError(f"the {what} of {size:,} bytes goes beyond the end")
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self, what: str) -> str:
        return bytes(self.octets(what)[:200]).rstrip(b"\0").decode("utf-8", "replace")


def parse_ros1(data: bytes) -> Packet:
    """Deserialises a message of a ROS 1 bag; PacketError where it is malformed."""
    cursor = _Cursor(memoryview(data), "<", pad=False)
    cursor.number("I")  # header.seq, which ROS 1 has besides the packet's own
    return _parse(cursor, spare=0)


def parse_cdr(data: bytes) -> Packet:
    """Deserialises a message of a ROS 2 bag (CDR); PacketError where it is malformed or of another encapsulation."""
    order = _CDR_ORDERS.get(data[:2])
    if order is None or len(data) < 4:
        if data.startswith(_ZSTANDARD):
            raise PacketError("the content is compressed with Zstandard: rewrite the bag with `ros2 bag convert`")
        raise PacketError(f"the encapsulation is {data[:4].hex() or 'missing'} where plain CDR is expected")
    return _parse(_Cursor(memoryview(data)[4:], order, pad=True), spare=_CDR_PADDING)


def _parse(cursor: _Cursor, *, spare: int) -> Packet:
    cursor.number("I")  # header.stamp
    cursor.number("I")
    frame = cursor.text("frame_id")
    height, width = cursor.number("I"), cursor.number("I")
    seq, time_base = cursor.number("Q"), cursor.number("Q")
    encoding = cursor.text("encoding")
    big_endian = cursor.number("B") != 0
    events = cursor.octets("array of events")
    if len(cursor.data) - cursor.at > spare:
        raise PacketError(f"{len(cursor.data) - cursor.at:,} bytes are left over")
    return Packet(frame, width, height, seq, time_base, encoding, big_endian, events)
