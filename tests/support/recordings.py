"""Writes small recordings from the formats' specifications, independently of the decoders that they test."""

import struct

import numpy as np

from firstspike.types import EVENT


def events_of(rows):
    """EVENT array of (t, x, y, p) tuples."""
    events = np.zeros(len(rows), EVENT)
    for i, (t, x, y, p) in enumerate(rows):
        events[i] = (t, x, y, p)
    return events


def raw_header(version, *lines):
    return "".join(f"% {line}\n" for line in (f"evt {version}", *lines, "end")).encode()


def evt2(rows, header=None):
    """EVT 2.0: TIME_HIGH where it changes, then a word an event."""
    words, high = [], None
    for t, x, y, p in rows:
        if t >> 6 != high:
            high = t >> 6
            words.append(8 << 28 | high & 0xFFFFFFF)
        words.append(p << 28 | (t & 63) << 22 | x << 11 | y)
    return (header or raw_header("2.0", "geometry 640x480")) + np.array(words, "<u4").tobytes()


def evt21(rows, *, legacy=False):
    """EVT 2.1: vectors of up to 32 events of the same time, row and polarity, from a column divisible by 32."""
    words, high, i = [], None, 0
    while i < len(rows):
        t, x, y, p = rows[i]
        if t >> 6 != high:
            high = t >> 6
            words.append((8 << 28 | high & 0xFFFFFFF, 0))
        base, mask, last = x // 32 * 32, 0, -1
        while i < len(rows) and (rows[i][0], rows[i][2], rows[i][3]) == (t, y, p) and last < rows[i][1] < base + 32:
            last = rows[i][1]
            mask |= 1 << (last - base)
            i += 1
        words.append((p << 28 | (t & 63) << 22 | base << 11 | y, mask))
    ordered = [(upper, mask) if legacy else (mask, upper) for upper, mask in words]
    endianness = "legacy" if legacy else "little"
    header = raw_header("2.1", f"format EVT21;height=480;width=640;endianness={endianness}")
    return header + np.array(ordered, "<u4").reshape(-1, 2).tobytes()


def evt3(rows, header=None, *, vectors=True):
    """EVT 3.0: times as TIME_HIGH and TIME_LOW, rows as ADDR_Y, events as ADDR_X or, in a run, as vectors."""
    words, high, low, row, i = [], None, None, None, 0
    while i < len(rows):
        t, x, y, p = rows[i]
        if t >> 12 != high:
            # A camera repeats TIME_HIGH far more often than it wraps.
            while high is not None and (t >> 12) - high > 1024:
                high += 1024
                words.append(0x8000 | high & 0xFFF)
            high, low = t >> 12, None
            words.append(0x8000 | high & 0xFFF)
        if t & 0xFFF != low:
            low = t & 0xFFF
            words.append(0x6000 | low)
        if y != row:
            row = y
            words.append(y)
        run = [x]
        while (
            vectors
            and i + len(run) < len(rows)
            and (rows[i + len(run)][0], *rows[i + len(run)][2:]) == (t, y, p)
            and run[-1] < rows[i + len(run)][1] < x + 32
        ):
            run.append(rows[i + len(run)][1])
        if len(run) == 1:
            words.append(0x2000 | p << 11 | x)
        else:
            mask = sum(1 << (column - x) for column in run)
            words.append(0x3000 | p << 11 | x)
            words += [0x4000 | mask & 0xFFF, 0x4000 | mask >> 12 & 0xFFF, 0x5000 | mask >> 24]
        i += len(run)
    return (header or raw_header("3.0", "geometry 640x480")) + np.array(words, "<u2").tobytes()


def dat(
    rows, *, header="% Data file containing CD events\n% Version 2\n% Width 640\n% Height 480\n", kind=12, old=False
):
    """DAT: 14+14+4 bits of address, or 9+8+1 in version 1."""
    out = bytearray(header.encode() + bytes([kind, 8]))
    for t, x, y, p in rows:
        out += struct.pack("<II", t & 0xFFFFFFFF, p << 17 | y << 9 | x if old else p << 28 | y << 14 | x)
    return bytes(out)


def es(rows, width, height, *, atis=False):
    """Event Stream 2: a byte of time since the last event and polarity, x, y from below."""
    out = bytearray(b"Event Stream" + bytes([2, 0, 0, 2 if atis else 1]) + struct.pack("<HH", width, height))
    last = 0
    for t, x, y, p in rows:
        step = t - last
        last = t
        if atis:
            while step >= 0x3F:
                loops = min(3, step // 0x3F)
                out.append(0xFC | loops)
                step -= 0x3F * loops
            out.append(step << 2 | p << 1)
        else:
            while step >= 0x7F:
                out.append(0xFF)
                step -= 0x7F
            out.append(step << 1 | p)
        out += struct.pack("<HH", x, height - 1 - y)
    return bytes(out)


def atis_bin(rows):
    """N-MNIST's 40 bits: x, y, polarity and 23 bits of time."""
    out = bytearray()
    for t, x, y, p in rows:
        out += bytes([x, y]) + struct.pack(">I", p << 23 | t & 0x7FFFFF)[1:]
    return bytes(out)


AEDAT2_DVS128 = "#!AER-DAT2.0\r\n# Timestamps tick: 1 us\r\n# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
AEDAT2_DAVIS = "#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"


def aedat2_dvs128(rows, header=AEDAT2_DVS128):
    """AEDAT 2.0, DVS128: y from below, x mirrored, bit 0 set is OFF."""
    out = bytearray(header.encode())
    for t, x, y, p in rows:
        out += struct.pack(">II", (127 - y) << 8 | (127 - x) << 1 | 1 - p, t & 0xFFFFFFFF)
    return bytes(out)


def aedat2_davis(rows, extra=(), header=AEDAT2_DAVIS):
    """AEDAT 2.0, DAVIS240C; `extra` are raw words (frames, IMU) put before the events."""
    out = bytearray(header.encode())
    for word in extra:
        out += struct.pack(">II", word, rows[0][0] & 0xFFFFFFFF if rows else 0)
    for t, x, y, p in rows:
        out += struct.pack(">II", (179 - y) << 22 | (239 - x) << 12 | p << 11, t & 0xFFFFFFFF)
    return bytes(out)


AEDAT3_HEADER = (
    "#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 1: DAVIS240C\r\n#Start-Time: 2026-01-01 00:00:00\r\n#!END-HEADER\r\n"
)


def aedat3_packet(rows, *, kind=1, overflow=0, invalid=(), spare=0):
    """A packet of polarity events; `spare` is capacity that is not filled."""
    body = bytearray()
    for i, (t, x, y, p) in enumerate(rows):
        body += struct.pack("<Ii", x << 17 | y << 2 | p << 1 | (i not in invalid), t & 0x7FFFFFFF)
    head = struct.pack("<hhiiiiii", kind, 1, 8, 4, overflow, len(rows) + spare, len(rows), len(rows) - len(invalid))
    return head + bytes(body) + bytes(8 * spare)


def aedat3(rows, *, packet=7):
    """AEDAT 3.1 with a new packet every few events and where the time overflows, an IMU packet in between."""
    out = bytearray(AEDAT3_HEADER.encode())
    i = 0
    while i < len(rows):
        overflow = rows[i][0] >> 31
        part = [row for row in rows[i : i + packet] if row[0] >> 31 == overflow]
        out += aedat3_packet(part, overflow=overflow, spare=i % 3)
        out += struct.pack("<hhiiiiii", 3, 1, 36, 4, 0, 1, 1, 1) + bytes(36)
        i += len(part)
    return bytes(out)


def csv(rows, order="txyp", delimiter=",", header=None, seconds=None, end="\n"):
    """Lines of values in an order; `seconds` is the number of decimals of times in seconds."""
    lines = [header] if header else []
    for t, x, y, p in rows:
        time = str(t) if seconds is None else f"{t // 10**6}." + f"{t % 10**6:06d}".ljust(seconds, "0")
        values = {"t": time, "x": str(x), "y": str(y), "p": str(p), "-": "9"}
        lines.append(delimiter.join(values[letter] for letter in order))
    return (end.join(lines) + end).encode() if lines else b""
