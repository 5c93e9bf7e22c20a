"""How long a call waits until anybody looks at it: gRPC hands over only so many of each method at once.

Nothing tells how many it holds. So while calls come, one of our own goes the way of most of them, through a socket of
its own, and is timed.
"""

import asyncio
import contextlib
import math
import secrets
from collections import Counter, deque
from typing import Any

import grpc
import structlog

log = structlog.get_logger()
_EVERY_SECONDS = 0.05
_TOKEN = "oneglance-backlog"
_WAIT_SECONDS, _LONGEST_SECONDS = 0.1, 8.0
_PATIENCE_SHARE, _LEAST_WAIT_SECONDS = 0.25, 0.03  # no caller brings it lower for others by short deadlines
_NEWS = 0.05  # the weight of the newest call in an average
_CROWDED_SECONDS = 0.003
_AT_ONCE = 64  # calls that come at once are no overload, however long this machine takes for them
_BUSY_CALLS = 64
_FEW_CALLS, _LEAST_CALLS = 24, 6
_SLOWEST, _FASTEST = 50.0, 2000.0  # calls a second
_SLOWER, _FASTER = 0.97, 1.01  # after a late call, and one that was not: where they balance, one of four is late
_LATELY_SECONDS = 0.5
_REMEMBERED = 10


def _now() -> float:
    return asyncio.get_running_loop().time()


def is_own_socket(context: Any) -> bool:
    """Whether the call of this ServicerContext came through a Backlog's socket: no other has local credentials."""
    if not context.peer().startswith("unix:"):
        return False
    secured: list[bytes] = context.auth_context().get("transport_security_type", [])
    return secured == [b"local"]


class Backlog:
    """Belongs to one event loop.

    Its socket has a name, but no file (Linux). Any process of this machine may find it: what else comes from there is
    to be refused, see is_own_socket.
    """

    def __init__(self) -> None:
        self._token = secrets.token_hex()
        self._socket = f"unix-abstract:oneglance-{secrets.token_hex(16)}"
        self._listening = False
        self._calls: Counter[str] = Counter()
        self._method = ""  # that is timed
        self._last = 0.0
        self._sent: float | None = None
        self._log_patience = math.log(_LONGEST_SECONDS)  # of callers, on average: a few patient ones change little
        self._pace = _FASTEST  # calls a second that are done in time
        self._slowed = -math.inf  # when a call was late
        self._answered = 0  # in the present second
        self._second = 0
        self._most = 0  # calls under way at once, in the present second
        self._most_lately = 0  # since it was last looked
        self._rates: deque[int] = deque(maxlen=_REMEMBERED)  # of seconds in which calls waited

    def listen(self, server: grpc.aio.Server) -> None:
        """Before the server starts. Where there are no such sockets, nothing is timed."""
        try:
            server.add_secure_port(self._socket, grpc.local_server_credentials(grpc.LocalConnectionType.UDS))
            self._listening = True
        except RuntimeError as error:
            log.warning("how long calls wait unseen can't be measured: more will wait under overload", error=str(error))

    def seen(self, call: grpc.HandlerCallDetails, ours: bool, under_way: int) -> bool:
        """A call is being looked at while so many are under way; ``ours``: of a method whose calls may be refused.
        Returns whether the call is the one of our own, which wants no more."""
        if self._sent is not None and call.method == self._method and (_TOKEN, self._token) in call.invocation_metadata:
            self._last = _now() - self._sent
            self._sent = None
            return True
        if ours:
            self._calls[call.method] += 1
            self._most_lately = max(self._most_lately, under_way)
        return False

    def will_wait(self, method: str, seconds: float | None) -> None:
        """The caller of a call that was let in will wait so long for it; None: for ever."""
        if method == self._method:
            patience = min(_LONGEST_SECONDS, seconds + self._last) if seconds is not None else _LONGEST_SECONDS
            self._log_patience += _NEWS * (math.log(max(patience, _LEAST_WAIT_SECONDS)) - self._log_patience)

    def answered(self, method: str) -> None:
        """A call was carried out."""
        if method == self._method:
            self._answered += 1
            self._pace = min(_FASTEST, self._pace * _FASTER)

    def late(self, method: str, patience: float) -> None:
        """A call that was let in was not carried out by its deadline, ``patience`` seconds later."""
        if method == self._method and patience > _LEAST_WAIT_SECONDS:
            self._slowed = _now()
            self._pace = max(_SLOWEST, self._pace * _SLOWER)

    async def watch(self) -> None:
        """Time calls until cancelled."""
        if not self._listening:
            return
        async with grpc.aio.insecure_channel(self._socket) as channel:
            try:
                while True:
                    await asyncio.sleep(_EVERY_SECONDS)
                    try:
                        self._choose()
                        if self._method and self._sent is None:
                            if self._most_lately >= _LEAST_CALLS:
                                await self._time(channel)
                            else:  # so few that none waits, and none would be refused
                                self._last = 0.0
                            self._most_lately = 0
                    except Exception as error:  # want of memory, say: it looks again
                        self._forget()
                        log.error("calls that wait could not be timed", exc_info=error)
            finally:
                self._forget()

    def _forget(self) -> None:
        """Nothing waits, as far as is known."""
        self._method, self._last, self._sent = "", 0.0, None

    def _choose(self) -> None:
        """The method that most calls of late were of; a call of ours that still waits is waited for."""
        if self._sent is None:
            method = max(self._calls, key=self._calls.__getitem__, default="")
            self._calls.clear()
            if method != self._method:
                self._method, self._last, self._answered = method, 0.0, 0
                self._rates.clear()
                self._pace = _FASTEST
        second = int(_now())
        if second != self._second:
            if self.crowded() and self._most >= _FEW_CALLS:  # else it tells how many came, not how many can be done
                self._rates.append(self._answered)
            self._second, self._answered, self._most = second, 0, 0

    async def _time(self, channel: grpc.aio.Channel) -> None:
        """Send a call of ours, and give it a while to come."""
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(self._method)
        self._sent = _now()
        sent = asyncio.ensure_future(self._answer(call, self._sent))
        await asyncio.wait([sent], timeout=_EVERY_SECONDS)

    async def _answer(self, call: "grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]", sent: float) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError):  # it has no answer
            await call(b"", metadata=((_TOKEN, self._token),))
        if self._sent == sent:  # it never came
            self._sent, self._last = None, 0.0

    def seconds(self, method: str) -> float:
        """How long the last of our calls waited, or how long the one that still does has."""
        if method != self._method:
            return 0.0
        if self._sent is None:
            return self._last
        return max(self._last, _now() - self._sent)

    def crowded(self) -> bool:
        """Whether calls wait."""
        return self.seconds(self._method) > _CROWDED_SECONDS

    def too_long(self, method: str, under_way: int, left: float | None = None) -> bool:
        """Whether a call of this method is one too many while so many are under way.

        ``left``: until its deadline, seconds; None where it has none, or that isn't known.

        It is when those under way already take until its deadline, by the pace at which calls were done in time; not
        while none waits and none was late. Otherwise none is while calls wait for no more than a tenth of a second, or
        than 64 others, and a quarter of what their callers will wait; 30 ms are never too long. Beyond that as many may
        be under way as keep the machine busy, and fewer the longer others wait: to refuse those takes time, too.
        """
        if method == self._method:
            self._most = max(self._most, under_way)
        seconds = self.seconds(method)
        if method == self._method and left is not None and under_way >= max(_LEAST_CALLS, left * self._pace):
            return seconds > _CROWDED_SECONDS or _now() - self._slowed < _LATELY_SECONDS
        best = max(self._rates, default=0)
        if seconds <= _LEAST_WAIT_SECONDS:
            return False
        long = min(_PATIENCE_SHARE * math.exp(self._log_patience), max(_WAIT_SECONDS, _AT_ONCE / best if best else 0.0))
        long = max(long, _LEAST_WAIT_SECONDS)
        return seconds > long and under_way >= _BUSY_CALLS * (long / seconds) ** 2
