"""A bad gRPC client: one that stops in the middle of a message, or reads no answer."""

import socket
import time
from types import TracebackType
from typing import Self

from tests import http2


class BadClient:
    """One connection.

    window: of bytes of each answer that the server may send; 0: it can send none, only hold them.
    """

    def __init__(self, address: str, *, window: int = http2.FIRST_WINDOW) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        self._next_stream = 1
        self._room = {0: http2.FIRST_WINDOW}  # of bytes that the server takes now, by stream; 0: the connection
        self._initial_room = http2.FIRST_WINDOW
        self._buffer = bytearray()
        self.closed = False
        self._socket.sendall(http2.PREFACE + http2.settings({http2.INITIAL_WINDOW_SIZE: window}))

    def begin(self, method: str) -> int:
        """A new call; its stream."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self._room[stream] = self._initial_room
        self._socket.sendall(http2.frame(http2.HEADERS, http2.END_HEADERS, stream, http2.opening(method)))
        return stream

    def send(self, stream: int, content: bytes, *, end: bool = False, patience_seconds: float = 5.0) -> int:
        """Send so much of ``content`` as the server takes; how much that was."""
        sent = 0
        give_up = time.monotonic() + patience_seconds
        while sent < len(content) and not self.closed and time.monotonic() < give_up:
            room = min(self._room[0], self._room[stream], http2.LARGEST_FRAME, len(content) - sent)
            if room <= 0:
                self.listen(0.05, until_heard=True)
                continue
            last = end and sent + room == len(content)
            try:
                part = content[sent : sent + room]
                self._socket.sendall(http2.frame(http2.DATA, http2.END_STREAM if last else 0, stream, part))
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
        self.send(self.begin(method), http2.prefixed(message), end=True)

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
        for kind, flags, stream, body in http2.taken_frames(self._buffer):
            if kind == http2.WINDOW_UPDATE and stream in self._room:
                self._room[stream] += http2.number(body)
            elif kind == http2.SETTINGS and not flags & http2.ACK:
                self._settings(http2.settings_in(body))
            elif kind == http2.PING and not flags & http2.ACK:
                self._socket.sendall(http2.frame(http2.PING, http2.ACK, 0, body))
            elif kind == http2.GOAWAY:
                self.closed = True

    def _settings(self, values: dict[int, int]) -> None:
        room = values.get(http2.INITIAL_WINDOW_SIZE, self._initial_room)
        for stream in self._room.keys() - {0}:
            self._room[stream] += room - self._initial_room
        self._initial_room = room
        self._socket.sendall(http2.frame(http2.SETTINGS, http2.ACK, 0, b""))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
