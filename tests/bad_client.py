"""Just enough HTTP/2 to be a bad gRPC client: one that stops in the middle of a message, or reads no answer.

RFC 9113 and RFC 7541; header fields go as literals, without compression.
"""

import socket
import struct
import time
from types import TracebackType
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _RST = 0, 1, 4, 6, 7, 8, 3
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4
_INITIAL_WINDOW_SIZE = 4
_FRAME = 16_384


class BadClient:
    """One connection.

    window: of bytes of each answer that the server may send; 0: it can send none, only hold them.
    """

    def __init__(self, address: str, *, window: int = 65_535) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._next_stream = 1
        self._room = {0: 65_535}  # of bytes that the server takes now, by stream; 0: the connection
        self._initial_room = 65_535
        self._buffer = bytearray()
        self.closed = False
        settings = struct.pack(">HI", _INITIAL_WINDOW_SIZE, window)
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, settings))

    def begin(self, method: str) -> int:
        """A new call; its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._room[stream] = self._initial_room
        fields = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "content-type": "application/grpc",
            "te": "trailers",
        }
        block = b"".join(b"\x00" + _text(name) + _text(value) for name, value in fields.items())
        self._socket.sendall(_frame(_HEADERS, _END_HEADERS, stream, block))
        return stream

    def send(self, stream: int, content: bytes, *, end: bool = False, patience_seconds: float = 5.0) -> int:
        """Send so much of ``content`` as the server takes; how much that was."""
        sent = 0
        give_up = time.monotonic() + patience_seconds
        while sent < len(content) and not self.closed and time.monotonic() < give_up:
            room = min(self._room[0], self._room[stream], _FRAME, len(content) - sent)
            if room <= 0:
                self.listen(0.05, until_heard=True)
                continue
            last = end and sent + room == len(content)
            try:
                self._socket.sendall(_frame(_DATA, _END_STREAM if last else 0, stream, content[sent : sent + room]))
            except OSError:
                self.closed = True
                break
            self._room[0] -= room
            self._room[stream] -= room
            sent += room
            self.listen(0.0)
        return sent

    def call(self, method: str, message: bytes) -> None:
        """A whole call of one message, without waiting for its answer."""
        self.send(self.begin(method), prefixed(message), end=True)

    def listen(self, seconds: float, *, until_heard: bool = False) -> None:
        """Take in what the server says for so long, or ``until_heard`` only until it said something: room to send,
        pings. Answers are thrown away, unacknowledged."""
        until = time.monotonic() + seconds
        while not self.closed:
            self._socket.settimeout(max(until - time.monotonic(), 0.0001))
            try:
                more = self._socket.recv(1 << 16)
            except TimeoutError:
                break
            except OSError:
                more = b""
            if not more:
                self.closed = True
                break
            self._buffer += more
            self._take_frames()
            if until_heard or time.monotonic() >= until:
                break
        self._socket.settimeout(30)

    def _take_frames(self) -> None:
        while len(self._buffer) >= 9:
            length = int.from_bytes(self._buffer[:3], "big")
            if len(self._buffer) < 9 + length:
                return
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9], "big") & 0x7FFF_FFFF
            body = bytes(self._buffer[9 : 9 + length])
            del self._buffer[: 9 + length]
            if kind == _WINDOW_UPDATE and stream in self._room:
                self._room[stream] += int.from_bytes(body, "big") & 0x7FFF_FFFF
            elif kind == _SETTINGS and not flags & _ACK:
                self._settings(body)
            elif kind == _PING and not flags & _ACK:
                self._socket.sendall(_frame(_PING, _ACK, 0, body))
            elif kind == _GOAWAY:
                self.closed = True

    def _settings(self, body: bytes) -> None:
        for at in range(0, len(body), 6):
            name, value = struct.unpack(">HI", body[at : at + 6])
            if name == _INITIAL_WINDOW_SIZE:
                for stream in self._room.keys() - {0}:
                    self._room[stream] += value - self._initial_room
                self._initial_room = value
        self._socket.sendall(_frame(_SETTINGS, _ACK, 0, b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()


def prefixed(message: bytes, *, claimed: int | None = None) -> bytes:
    """A gRPC message with its length before it; ``claimed``: another length than it has."""
    return b"\x00" + struct.pack(">I", len(message) if claimed is None else claimed) + message


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + body


def _text(value: str) -> bytes:
    encoded = value.encode()
    assert len(encoded) < 127
    return bytes([len(encoded)]) + encoded
