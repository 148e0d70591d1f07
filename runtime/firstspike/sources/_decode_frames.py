"""The frames between the daemon and the decoder's child process: a kind, a length, a body.

    kind (1 byte) · length of the body (4 bytes, little-endian) · body

`H` hello (JSON), `I` RecordingInfo (JSON), `E` events (raw EVENT records), `T` progress without events (empty),
`S` statistics, the recording's end (JSON), `X` a failure, also its end (JSON).
"""

from __future__ import annotations

import struct

from firstspike.sources.formats._stream import MAX_EVENTS
from firstspike.types import EVENT

PROTOCOL = 1
HEADER = struct.Struct("<cI")
HELLO, INFO, EVENTS, TICK, STATS, FAILURE = b"H", b"I", b"E", b"T", b"S", b"X"
MAX_JSON = 1 << 20
LIMITS = {
    HELLO: MAX_JSON,
    INFO: MAX_JSON,
    EVENTS: MAX_EVENTS * EVENT.itemsize,
    TICK: 0,
    STATS: MAX_JSON,
    FAILURE: MAX_JSON,
}
"""Largest body of each kind: a child whose memory is corrupt may send anything."""
