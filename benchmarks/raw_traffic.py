"""Many calls at little cost: an open loop over HTTP/2 by hand, some tens of microseconds a call.

A gRPC client of Python needs more of a processor for a call than the server needs to refuse one; measured with it,
overload is mostly the client's. Here requests are bytes made beforehand, and of an answer only its status is read.
"""

import random
import selectors
import socket
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.synchronize import Barrier
from threading import Event

import grpc
import numpy as np

from benchmarks.traffic import UNANSWERED, Calls, Flow, Sent, cpu_seconds
from tests import http2
from tests.waiting import PATIENCE_SECONDS

_WIDE = (1 << 31) - 1 - http2.FIRST_WINDOW
_UPDATE_EVERY = 1 << 24  # bytes taken
_CODES = {code.value[0]: code.name for code in grpc.StatusCode}
_STATUS = b"grpc-status"
_OUR_ERROR = b"oneglance-error-bin"
_CANCEL = (8).to_bytes(4, "big")


@dataclass
class _Call:
    due: float
    payload: bytes = field(repr=False)
    connection: "_Connection | None" = None
    stream: int = 0
    done: bool = False


def send_raw(stop: Event, address: str, flow: Flow, start: Barrier, seconds: float, linger: float = 30.0) -> Sent:
    """As traffic.send for one flow of an open loop, begun when all have come to ``start``.

    ``what`` of a refusal has "typed" in place of our reason.
    """
    return _Sender(stop, address, flow).run(start, seconds, linger)


class _Connection:
    """One HTTP/2 connection that never blocks."""

    def __init__(self, address: str, opening: bytes, sender: "_Sender") -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self._opening = opening
        self._sender = sender
        self._received = bytearray()
        self._unsent = bytearray()
        self._next = 1
        self._room = http2.FIRST_WINDOW
        self._stream_room = http2.FIRST_WINDOW
        self._most = float("inf")
        self._block: dict[int, bytearray] = {}
        self._taken = 0
        self.open: dict[int, _Call] = {}
        self.waiting: deque[_Call] = deque()
        self.closed = False
        settings = http2.settings({http2.HEADER_TABLE_SIZE: 0, http2.INITIAL_WINDOW_SIZE: _WIDE})
        self._write(http2.PREFACE + settings + http2.grow_window(0, _WIDE))

    def call(self, call: _Call) -> None:
        self.waiting.append(call)
        self.push()

    def push(self) -> None:
        """Send what waits, as far as the server lets."""
        while self.waiting and not self.closed and len(self.open) < self._most:
            call = self.waiting[0]
            size = len(call.payload)
            if size > min(self._room, self._stream_room):
                return
            self.waiting.popleft()
            if call.done:
                continue
            call.connection, call.stream = self, self._next
            self._next += 2
            self._room -= size
            self.open[call.stream] = call
            parts = [http2.frame(http2.HEADERS, http2.END_HEADERS, call.stream, self._opening)]
            for start in range(0, size, http2.LARGEST_FRAME):
                part = call.payload[start : start + http2.LARGEST_FRAME]
                last = start + http2.LARGEST_FRAME >= size
                parts.append(http2.frame(http2.DATA, http2.END_STREAM if last else 0, call.stream, part))
            self._write(b"".join(parts))

    def cancel(self, call: _Call) -> None:
        if self.open.pop(call.stream, None) is not None:
            self._write(http2.frame(http2.RST_STREAM, 0, call.stream, _CANCEL))

    def _write(self, content: bytes) -> None:
        self._unsent += content
        self.flush()

    def flush(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: self.socket.send(self._unsent)]
        except BlockingIOError:
            pass
        except OSError:
            self._end()

    def read(self) -> None:
        try:
            more = self.socket.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            more = b""
        if not more:
            self._end()
            return
        self._received += more
        for kind, flags, stream, body in http2.taken_frames(self._received):
            self._frame(kind, flags, stream, body)
        if self._taken > _UPDATE_EVERY:
            self._write(http2.grow_window(0, self._taken))
            self._taken = 0
        self.push()

    def _frame(self, kind: int, flags: int, stream: int, body: bytes) -> None:
        if kind in (http2.HEADERS, http2.CONTINUATION):
            if kind == http2.HEADERS and flags & http2.END_STREAM:
                self._block[stream] = bytearray()
            if stream in self._block:
                self._block[stream] += body
                if flags & http2.END_HEADERS:
                    self._answered(stream, _status(bytes(self._block.pop(stream))))
        elif kind == http2.DATA:
            self._taken += len(body)
        elif kind == http2.WINDOW_UPDATE and stream == 0:
            self._room += http2.number(body)
        elif kind == http2.SETTINGS and not flags & http2.ACK:
            values = http2.settings_in(body)
            self._most = values.get(http2.MAX_CONCURRENT_STREAMS, self._most)
            self._stream_room = values.get(http2.INITIAL_WINDOW_SIZE, self._stream_room)
            self._write(http2.frame(http2.SETTINGS, http2.ACK, 0, b""))
        elif kind == http2.PING and not flags & http2.ACK:
            self._write(http2.frame(http2.PING, http2.ACK, 0, body))
        elif kind == http2.RST_STREAM:
            self._answered(stream, f"RST_STREAM {int.from_bytes(body, 'big')}")
        elif kind == http2.GOAWAY:
            self._end()

    def _answered(self, stream: int, what: str) -> None:
        call = self.open.pop(stream, None)
        if call is not None:
            self._sender.done(call, what)

    def _end(self) -> None:
        self.closed = True
        for call in [*self.open.values(), *self.waiting]:
            self._sender.done(call, "UNAVAILABLE")
        self.open.clear()
        self.waiting.clear()


class _Sender:
    def __init__(self, stop: Event, address: str, flow: Flow) -> None:
        self._stop = stop
        self._flow = flow
        opening = http2.opening(flow.method, flow.deadline_seconds)
        self._payloads = [http2.prefixed(one) for one in flow.payloads]
        self._connections = [_Connection(address, opening, self) for _ in range(flow.connections)]
        self._selector = selectors.DefaultSelector()
        for connection in self._connections:
            self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._rows: list[tuple[float, float, str]] = []
        self._under_way = 0
        self._deadlines: deque[_Call] = deque()

    def done(self, call: _Call, what: str) -> None:
        if not call.done:
            call.done = True
            self._under_way -= 1
            self._rows.append((call.due, time.monotonic() - call.due, what))

    def run(self, start: Barrier, seconds: float, linger: float) -> Sent:
        rng = random.Random(self._flow.name)
        self._turn(1.0)  # the server's settings come
        start.wait(PATIENCE_SECONDS)
        late: list[float] = []
        begun, cpu = time.monotonic(), cpu_seconds()
        due, number = begun, 0
        while due < begun + seconds and not self._stop.is_set():
            now = time.monotonic()
            for _ in range(64):
                if due > now:
                    break
                late.append(now - due)
                call = _Call(due, self._payloads[number % len(self._payloads)])
                self._under_way += 1
                self._deadlines.append(call)
                self._connections[number % len(self._connections)].call(call)
                number += 1
                due += rng.expovariate(self._flow.per_second)
            self._turn(max(due - time.monotonic(), 0.0))
        cores = (cpu_seconds() - cpu) / (time.monotonic() - begun)
        give_up = time.monotonic() + linger
        while self._under_way and time.monotonic() < give_up:
            self._turn(0.05)
        for call in list(self._deadlines):
            self.done(call, UNANSWERED)
        for connection in self._connections:
            connection.socket.close()
        times = np.array([row[:2] for row in self._rows], float).reshape(-1, 2)
        calls = Calls(times[:, 0], times[:, 1], [row[2] for row in self._rows])
        return Sent({self._flow.name: calls}, cores, float(np.percentile(late, 99)) * 1e3 if late else 0.0)

    def _turn(self, patience: float) -> None:
        for key, _ in self._selector.select(patience):
            connection: _Connection = key.data
            connection.read()
            if connection.closed:
                self._selector.unregister(connection.socket)
        for connection in self._connections:
            if not connection.closed:
                connection.flush()
        self._cancel_late()

    def _cancel_late(self) -> None:
        """Give up calls whose deadline passed; forget those that were answered."""
        deadline = self._flow.deadline_seconds
        now = time.monotonic()
        while self._deadlines:
            first = self._deadlines[0]
            if not first.done:
                if deadline is None or first.due + deadline > now:
                    return
                if first.connection is not None:
                    first.connection.cancel(first)
                self.done(first, "DEADLINE_EXCEEDED")
            self._deadlines.popleft()


def _status(block: bytes) -> str:
    """From trailers: gRPC's code, and whether an error of ours comes with it."""
    at = block.find(_STATUS)
    if at < 0:
        return "NO_STATUS"
    at += len(_STATUS)
    code = int(block[at + 1 : at + 1 + (block[at] & 0x7F)])
    return "OK" if code == 0 else _CODES[code] + (" typed" if _OUR_ERROR in block else "")
