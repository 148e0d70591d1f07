"""Decompresses the packets of AEDAT4, each to at most MAX_BYTES, whatever its header claims.

A packet is one LZ4 frame («LZ4 Frame Format Description» 1.6) or one Zstandard frame (RFC 8878), and nothing after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

MAX_BYTES = 64 << 20
"""Of a packet, decompressed: 4 million events, where DV writes a packet every 10 ms."""
_FIRST_BYTES = 256 << 10
"""Enough for almost every packet at once; a multiple of LZ4's usual block, which is then decoded in place."""
_NEXT_BYTES = 4 << 20


class PacketError(ValueError):
    """A packet cannot be decompressed; the text says why, and continues «the packet …»."""


class Codec(Protocol):
    """One way to compress packets."""

    def decompress(self, body: bytes) -> bytes:
        """Returns the packet's content; PacketError where it is damaged or longer than MAX_BYTES."""

    def begin(self, body: bytes, size: int) -> bytes:
        """Returns the first bytes of a content that may be cut; fewer than `size`, if any, where there are no more."""


class Plain:
    """No compression."""

    def decompress(self, body: bytes) -> bytes:
        """Returns the packet as it is."""
        if len(body) > MAX_BYTES:
            raise _too_large()
        return body

    def begin(self, body: bytes, size: int) -> bytes:
        """Returns its first bytes."""
        return body[:size]


class Lz4:
    """LZ4 frames."""

    def __init__(self) -> None:
        import lz4.frame  # here, since only a recording that is compressed so needs it

        self._frame = lz4.frame
        # One context for all packets: making one takes longer than decompressing a small packet.
        self._context = lz4.frame.create_decompression_context()

    def _chunk(self, body: bytes | memoryview, size: int) -> tuple[bytes, int, bool]:
        """Up to `size` bytes more of the content, how much of `body` they took, and whether the frame has ended."""
        try:
            content, taken, ended = self._frame.decompress_chunk(self._context, body, size)
        except RuntimeError as error:
            raise PacketError(f"is no whole LZ4 frame: {error}") from error
        return content, taken, ended

    def decompress(self, body: bytes) -> bytes:
        """Returns the content of one frame."""
        self._frame.reset_decompression_context(self._context)
        content, taken, ended = self._chunk(body, _FIRST_BYTES)
        if not ended:
            parts, length, rest = [content], len(content), memoryview(body)
            while not ended:
                rest = rest[taken:]
                content, taken, ended = self._chunk(rest, _NEXT_BYTES)
                length += len(content)
                if length > MAX_BYTES:
                    raise _too_large()
                if not taken and not content and not ended:
                    raise PacketError("is no whole LZ4 frame: it ends too early")
                parts.append(content)
            taken += len(body) - len(rest)
            content = b"".join(parts)
        if taken != len(body):
            raise PacketError("goes on after its LZ4 frame")
        return content

    def begin(self, body: bytes, size: int) -> bytes:
        """Returns the content's first bytes; nothing where the frame is damaged there."""
        self._frame.reset_decompression_context(self._context)
        try:
            return self._chunk(body, size)[0]
        except PacketError:
            return b""


class Zstandard:
    """Zstandard frames."""

    def __init__(self) -> None:
        import zstandard  # here, since only a recording that is compressed so needs it

        self._zstandard = zstandard
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_BYTES)

    def decompress(self, body: bytes) -> bytes:
        """Returns the content of one frame."""
        try:
            size = self._zstandard.get_frame_parameters(body).content_size
            if size <= _FIRST_BYTES:
                return self._decompressor.decompress(body, allow_extra_data=False)
            # A size that is large or unknown (all ones) is not believed: memory is taken for what comes.
            parts, length = [], 0
            with self._decompressor.stream_reader(body) as reader:
                while part := reader.read(_NEXT_BYTES):
                    parts.append(part)
                    length += len(part)
                    if length > MAX_BYTES:
                        raise _too_large()
        except self._zstandard.ZstdError as error:
            raise PacketError(f"is no whole Zstandard frame: {error}") from error
        if size not in (length, self._zstandard.CONTENTSIZE_UNKNOWN):
            raise PacketError("is no whole Zstandard frame: it ends too early")
        return b"".join(parts)

    def begin(self, body: bytes, size: int) -> bytes:
        """Returns the content's first bytes; nothing where the frame is damaged there."""
        try:
            with self._decompressor.stream_reader(body) as reader:
                return reader.read(size)
        except self._zstandard.ZstdError:
            return b""


CODECS: tuple[Callable[[], Codec], ...] = (Plain, Lz4, Lz4, Zstandard, Zstandard)
"""By the number of the header's enumeration: NONE, LZ4, LZ4_HIGH, ZSTD, ZSTD_HIGH."""


def _too_large() -> PacketError:
    return PacketError(f"holds more than {MAX_BYTES >> 20} MiB, decompressed")
