"""Calls that gRPC holds and that nobody has looked at: it hands over one call for each turn of the event loop."""

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc
from grpc_channelz.v1.channelz import ChannelzServicer
from grpc_channelz.v1.channelz_pb2 import GetServerRequest, GetServersRequest

_LOOK_SECONDS = 0.05
_FEW = 64  # calls may wait, however long they take
_LONG_SECONDS = 0.1
_NO_CONTEXT: Any = None  # it is needed for errors only
_making = threading.Lock()


class Backlog:
    """How many calls wait for the event loop, and how long a new one would. Belongs to one event loop.

    ``observe``: hears how many there are.
    """

    def __init__(self, observe: Callable[[int], None]) -> None:
        self.calls = 0
        self._observe = observe
        self._held = 0  # calls that were seen and have not ended
        self._seen = 0  # since the last look
        self._call_seconds = 0.0

    def seen(self) -> None:
        """The current task carries out a call, to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._held += 1
        self._seen += 1
        self.calls = max(0, self.calls - 1)
        task.add_done_callback(self._ended)

    def _ended(self, _: object) -> None:
        self._held -= 1

    async def watch(self, calls: Callable[[], int]) -> None:
        """Count until cancelled. ``calls``: those the server holds, seen or not; see counting."""
        loop = asyncio.get_running_loop()
        looked = loop.time()
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            now = loop.time()
            self._call_seconds = (now - looked) / max(1, self._seen)
            looked, self._seen = now, 0
            self.calls = max(0, calls() - self._held)
            self._observe(self.calls)

    @property
    def too_long(self) -> bool:
        """A call that comes now would wait for more than others that come at once, and too long."""
        return self.calls > _FEW and self.calls * self._call_seconds > _LONG_SECONDS


def counting(make_server: Callable[[], grpc.aio.Server]) -> tuple[grpc.aio.Server, Callable[[], int]]:
    """A server and what tells how many calls it holds, made with the option grpc.enable_channelz."""
    with _making:
        before = _server_ids()
        server = make_server()
        (number,) = _server_ids() - before
    request = GetServerRequest(server_id=number)

    def calls() -> int:
        data = ChannelzServicer.GetServer(request, _NO_CONTEXT).server.data
        return int(data.calls_started - data.calls_succeeded - data.calls_failed)

    return server, calls


def _server_ids() -> set[int]:
    return {server.ref.server_id for server in ChannelzServicer.GetServers(GetServersRequest(), _NO_CONTEXT).server}
