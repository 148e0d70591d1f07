"""Events as Prophesee EVT 3.0 words. Source: docs.prophesee.ai, «EVT 3.0 Format»; `formats/evt3.py` reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from firstspike.types import Events

MAX_SIDE = 2048
"""11 bits a coordinate."""
_HIGH_LOOP = 4096
MAX_SILENCE_US = 86_400_000_000
"""A day. What lies further ahead is another time base, such as Unix time: telling it in steps would fill the disk."""
_MOST_HIGH_STEP = 1024
"""A reader knows a wrap of TIME_HIGH by its fall: longer silences are told in steps."""


def header(width: int, height: int, source: str) -> bytes:
    """The header of a RAW file."""
    name = "".join(c if c.isprintable() else " " for c in source)
    lines = ["evt 3.0", f"format EVT3;height={height};width={width}", f"geometry {width}x{height}",
             f"sensor_name {name}", "end"]  # fmt: skip
    return "".join(f"% {line}\n" for line in lines).encode()


class Evt3Encoder:
    """Encodes events in order of time, which is not below zero; keeps the state between calls.

    The format counts 16.8 s and begins anew; a reader knows how often by the falls alone. So a time that is more than
    `MAX_SILENCE_US` ahead, at the beginning of zero, is written without its whole turns.

    Every event is a word of its own (ADDR_X), after its row and time where they change: no vectors. So it takes about
    2 to 8 bytes an event.
    """

    def __init__(self) -> None:
        self._high = -1
        self._low = -1
        self._row = -1

    def encode(self, events: Events) -> NDArray[np.uint16]:
        """The words of events: shape (n,), uint16, little-endian."""
        if not len(events):
            return np.empty(0, "<u2")
        t, row = events["t"], events["y"].astype(np.int64)
        high, low = t >> 12, t & 0xFFF
        high_before = np.concatenate([[self._high], high[:-1]])
        new_high = high != high_before
        # A new TIME_HIGH sets the low bits to zero, so TIME_LOW follows.
        new_low = new_high | (low != np.concatenate([[self._low], low[:-1]]))
        new_row = row != np.concatenate([[self._row], row[:-1]])
        # Each event is up to four words in this order.
        words = np.empty((len(events), 4), "<u2")
        words[:, 0] = 0x8000 | high % _HIGH_LOOP
        words[:, 1] = 0x6000 | low
        words[:, 2] = row
        words[:, 3] = 0x2000 | (events["p"] != 0).astype(np.uint16) << 11 | events["x"]
        kept = np.stack([new_high, new_low, new_row, np.ones(len(events), bool)], axis=1)
        out: NDArray[np.uint16] = words[kept]
        jumps = np.flatnonzero(high - np.maximum(high_before, 0) > _MOST_HIGH_STEP)
        if len(jumps):
            out = self._with_steps(out, kept, high, high_before, jumps)
        self._high, self._low, self._row = int(high[-1]), int(low[-1]), int(row[-1])
        return out

    @staticmethod
    def _with_steps(
        out: NDArray[np.uint16], kept: NDArray[np.bool_], high: NDArray[np.int64], before: NDArray[np.int64],
        jumps: NDArray[np.int64],
    ) -> NDArray[np.uint16]:  # fmt: skip
        """Put TIME_HIGH words into silences that are longer than half its range."""
        places = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
        parts, last = [], 0
        for jump in jumps.tolist():
            begin, end = max(0, int(before[jump])), int(high[jump])
            if end - begin > MAX_SILENCE_US >> 12:
                continue
            steps = np.arange(begin, end, _MOST_HIGH_STEP)
            parts += [out[last : places[jump]], (0x8000 | steps % _HIGH_LOOP).astype("<u2")]
            last = int(places[jump])
        return np.concatenate([*parts, out[last:]])
