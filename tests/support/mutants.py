"""Damaged files: cut, with bits flipped, bytes set, pieces removed, repeated or exchanged."""

from __future__ import annotations

import io

import numpy as np
from tests.support import aedat4
from tests.support import recordings as make

_ROWS = [(1000 + 37 * i, (7 * i) % 34, (3 * i) % 34, i % 2) for i in range(120)]


def _npz(compressed):
    file = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    array = make.events_of(_ROWS)
    save(file, t=array["t"], x=array["x"], y=array["y"], p=array["p"]) if compressed else save(file, events=array)
    return file.getvalue()


def originals():
    """A small whole file of every format that a decoder of ours reads, by name."""
    return {
        "evt2": make.evt2(_ROWS),
        "evt2.1": make.evt21(_ROWS),
        "evt3": make.evt3(_ROWS),
        "dat": make.dat(_ROWS),
        "es": make.es(_ROWS, 34, 34),
        "es-atis": make.es(_ROWS, 34, 34, atis=True),
        "atis": make.atis_bin(_ROWS),
        "aedat2": make.aedat2_dvs128(_ROWS),
        "aedat2-davis": make.aedat2_davis(_ROWS, [0x80000000, 0x80000C00]),
        "aedat3": make.aedat3(_ROWS),
        "aedat4": aedat4.events(_ROWS, each=50),
        "aedat4-odd": aedat4.file([(0, aedat4.payload([aedat4.record(*row) for row in _ROWS], odd=True))]),
        "aedat4-lz4": aedat4.events(_ROWS, aedat4.LZ4, each=50, tail=aedat4.table_of_packets(aedat4.LZ4), position=0),
        "aedat4-zstd": aedat4.events(_ROWS, aedat4.ZSTD, each=50),
        "aedat4-zstd-high": aedat4.events(_ROWS, aedat4.ZSTD_HIGH, each=50),
        "csv": make.csv(_ROWS),
        "csv-seconds": make.csv(_ROWS, "txyp", " ", seconds=6),
        "npz": _npz(compressed=False),
        "npz-compressed": _npz(compressed=True),
    }


def mutant(data, random):
    """The file with one to four damages."""
    out = bytearray(data)
    for _ in range(int(random.integers(1, 5))):
        if not out:
            break
        place = int(random.integers(len(out)))
        # Headers are small and decide most: every second damage is there.
        if random.integers(2):
            place = min(place, int(random.integers(160)))
        length = int(random.integers(1, 40))
        match int(random.integers(7)):
            case 0:
                out[place] ^= 1 << int(random.integers(8))
            case 1:
                out[place] = int(random.choice([0, 0xFF, 0x7F, 0x80, 10, 37, 44, 48]))
            case 2:
                del out[place:]
            case 3:
                del out[place : place + length]
            case 4:
                out[place:place] = out[place : place + length] * int(random.integers(1, 5))
            case 5:
                out[place : place + 4] = int(random.choice([0, 2**31 - 1, 2**32 - 1, 2**31])).to_bytes(4, "little")
            case _:
                out[place : place + length] = random.bytes(length)
    return bytes(out)
