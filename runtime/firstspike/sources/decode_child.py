"""The decoder's child process: reads paths from standard input, decodes, writes frames to standard output.

Started by `firstspike.sources.decoding` only. Whatever a hostile file does to a decoder - endless loop, abort,
memory without end - happens here, in a process that is limited and that may be killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from firstspike.errors import FirstspikeError
from firstspike.sources import _decode_frames as frames
from firstspike.sources._child import Output, begin
from firstspike.sources.formats import open_recording
from firstspike.sources.formats._stream import Options, Stats


def _serve(request: dict[str, Any], output: Output) -> None:
    stats = Stats(tick=output.tick)
    options = Options(**{key: request.get(key) for key in ("format", "width", "height", "columns")})
    events = 0
    try:
        info, batches = open_recording(Path(request["path"]), options, stats)
        output.send_json(frames.INFO, dataclasses.asdict(info))
        for batch in batches:
            events += len(batch)
            output.send(frames.EVENTS, np.ascontiguousarray(batch).view(np.uint8).data)
        summary = {
            "events": events,
            "bytes_read": stats.bytes_read,
            "truncated_bytes": stats.truncated_bytes,
            "notes": stats.all_notes(),
        }
        output.send_json(frames.STATS, summary)
    except FirstspikeError as error:
        output.send_json(frames.FAILURE, {"kind": type(error).__name__, "text": str(error)})
    except MemoryError:
        output.send_json(frames.FAILURE, {"kind": "MemoryError", "text": "needed more memory than its limit"})


def main() -> None:
    """Serves requests until standard input ends. Arguments: the parent's pid, the memory limit in bytes."""
    output = begin()
    # BrokenPipeError: the parent closed its end and wants nothing more.
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin.buffer:
            _serve(json.loads(line), output)


if __name__ == "__main__":
    main()
