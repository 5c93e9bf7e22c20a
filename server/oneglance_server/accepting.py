"""Calls are taken out of gRPC's hands sixteen at a time.

gRPC's own server for asyncio asks its core for one call of each method, and for the next one only some five turns of
the event loop later. When a batch of answers makes each turn long, calls wait in the core, unseen, while the loop has
time for them. So we ask for more at once, by the functions that gRPC's own loop is made of. They are not public: where
they are missing or have another form, gRPC's loop alone goes on.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import grpc
import structlog
from grpc._cython import cygrpc  # type: ignore[attr-defined]

log = structlog.get_logger()
time_left: ContextVar[float | None] = ContextVar("time_left", default=None)  # of a call that was taken here, seconds
NEEDED = ("_schedule_rpc_coro", "_handle_rpc", "_ServicerContext")
_AT_ONCE = 16
_LEAVES_SECONDS = 0.1  # a caller whose deadline has passed: then gRPC may cancel its call, and it won't see that


class MethodServer:
    """A grpc.aio.Server as the generated ``add_...Servicer_to_server`` see it. ``methods``: what they added."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.methods: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        self._server.add_registered_method_handlers(service, handlers)
        self.methods |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


def accept_more(
    server: grpc.aio.Server,
    methods: dict[str, Any],
    interceptor: grpc.aio.ServerInterceptor,
    expired: Callable[[str], None],
    pause: Callable[[str, Any, float | None], float],
) -> bool:
    """Ask for more calls of these methods at once, until the server stops; whether this gRPC can be asked.

    ``expired`` is told the method of each call whose deadline has passed: it is dropped unread. ``pause``, given the
    method, the context and the time left of a call: how long it has to wait until it is handled, seconds.

    ``server`` has started, with these methods and this interceptor alone. Call it on the server's event loop.
    """
    loop = asyncio.get_running_loop()
    try:
        core = server._server  # type: ignore[attr-defined]
        request: Callable[[bytes], Any] = core._request_registered_call
        running: Callable[[], bool] = core.is_running
        resolver = cygrpc._MethodResolver([], methods)
        schedule, handle, context = (getattr(cygrpc, name) for name in NEEDED)
        if handle.__code__.co_argcount != 6 or schedule.__code__.co_argcount != 4:
            raise AttributeError("another form of gRPC's handling of a call")
    except (AttributeError, TypeError) as error:
        log.warning("calls are taken one at a time: overload costs more", error=str(error))
        return False
    tasks: set[asyncio.Task[Any]] = set()  # the loop itself keeps only weak references

    def start(work: Any) -> None:
        task = loop.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    def serve(method: str, call: Any, left: float | None) -> None:
        time_left.set(left)
        serving = handle(method, resolver, (interceptor,), call, loop, False)
        start(schedule(serving, call, loop, method))

    async def take(method: str) -> None:
        name = method.encode()
        while True:
            try:
                call = await request(name)
            except cygrpc._RequestCallError:
                if not running():  # the server stops
                    return
                continue
            seen = context(call, None, None, loop)
            left = seen.time_remaining()
            seconds = pause(method, seen, left) if left is None or left > 0 else 0.0
            if left is not None and left <= seconds:
                expired(method)
                loop.call_later(left + _LEAVES_SECONDS, _forget, call)
            elif seconds > 0:
                loop.call_later(seconds, serve, method, call, left - seconds if left is not None else None)
            else:
                serve(method, call, left)

    for method in methods:
        for _ in range(_AT_ONCE):
            start(take(method))
    return True


def _forget(call: Any) -> None:
    """Whoever held it last ends it."""
