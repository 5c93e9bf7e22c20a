"""HTTP/2 frames by hand, for clients that gRPC's libraries don't make: bad ones, and very cheap ones.

RFC 9113 and RFC 7541; header fields go as literals, without compression.
"""

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
ACK, END_STREAM, END_HEADERS = 1, 1, 4
HEADER_TABLE_SIZE, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE = 1, 3, 4
FIRST_WINDOW = 65_535  # bytes that may be sent, of a connection and of a stream, until the other side says otherwise
LARGEST_FRAME = 16_384


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def taken_frames(received: bytearray) -> Iterator[tuple[int, int, int, bytes]]:
    """(kind, flags, stream, body) of the whole frames in ``received``, which are then taken out of it."""
    at = 0
    while len(received) - at >= 9:
        end = at + 9 + int.from_bytes(received[at : at + 3], "big")
        if len(received) < end:
            break
        stream = number(received[at + 5 : at + 9])
        yield received[at + 3], received[at + 4], stream, bytes(received[at + 9 : end])
        at = end
    del received[:at]


def number(body: bytes | bytearray) -> int:
    """31 bits: a stream, or by how much a window grows."""
    return int.from_bytes(body, "big") & 0x7FFF_FFFF


def grow_window(stream: int, by: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, by.to_bytes(4, "big"))


def settings(values: Mapping[int, int]) -> bytes:
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", name, value) for name, value in values.items()))


def settings_in(body: bytes) -> dict[int, int]:
    return dict(struct.iter_unpack(">HI", body))


def opening(
    method: str, deadline_seconds: float | None = None, more: Mapping[str, str] = MappingProxyType({})
) -> bytes:
    """The header block of a gRPC call."""
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": method,
        ":authority": "localhost",
        "content-type": "application/grpc",
        "te": "trailers",
    }
    if deadline_seconds is not None:
        fields["grpc-timeout"] = f"{max(round(deadline_seconds * 1e3), 1)}m"
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in {**fields, **more}.items())


def prefixed(message: bytes, *, claimed: int | None = None) -> bytes:
    """A gRPC message with its length before it; ``claimed``: another length than it has."""
    return b"\x00" + struct.pack(">I", len(message) if claimed is None else claimed) + message


def _text(value: str) -> bytes:
    encoded = value.encode()
    assert len(encoded) < 127
    return bytes([len(encoded)]) + encoded
