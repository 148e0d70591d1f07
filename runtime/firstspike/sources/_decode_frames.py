"""The frames between the daemon and the decoder's child process: a kind, a length, a body.

    kind (1 byte) · length of the body (4 bytes, little-endian) · body

`H` hello (JSON), `I` RecordingInfo (JSON), `E` events (raw EVENT records), `T` progress without events (empty),
`S` statistics, the recording's end (JSON), `X` a failure, also its end (JSON). A camera's child sends `B`, a batch
(`BATCH` and events), instead of `E`, and `W`, why there is no camera (JSON), before `I`.
"""

from __future__ import annotations

import struct

from firstspike.sources.formats._stream import MAX_EVENTS
from firstspike.types import EVENT

PROTOCOL = 1
HEADER = struct.Struct("<cI")
HELLO, INFO, EVENTS, TICK, STATS, FAILURE = b"H", b"I", b"E", b"T", b"S", b"X"
CAMERA, WAITING = b"B", b"W"
BATCH = struct.Struct("<qqIII4x")
"""When the events reached this machine (ns of CLOCK_MONOTONIC), the sensor's time then (µs; −1: unknown), and since the
last batch: overflows, cuts of the backlog, packets cut. A multiple of 16 bytes: events follow, read by native code."""
MAX_JSON = 1 << 20
LIMITS = {
    HELLO: MAX_JSON,
    INFO: MAX_JSON,
    EVENTS: MAX_EVENTS * EVENT.itemsize,
    TICK: 0,
    STATS: MAX_JSON,
    FAILURE: MAX_JSON,
    CAMERA: BATCH.size + MAX_EVENTS * EVENT.itemsize,
    WAITING: MAX_JSON,
}
"""Largest body of each kind: a child whose memory is corrupt may send anything."""
