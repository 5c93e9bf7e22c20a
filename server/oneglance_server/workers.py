"""Several processes on one port: this one keeps the galleries, the others decode, encode and answer, each with an event
loop and a lock of Python of its own. The kernel gives each connection to one of them (SO_REUSEPORT)."""

import asyncio
import multiprocessing
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

import structlog

from oneglance.addresses import host_of
from oneglance_server.app import Server
from oneglance_server.errors import StartupError
from oneglance_server.listening import why_not
from oneglance_server.settings import Settings
from oneglance_server.socket_folder import socket_folder

log = structlog.get_logger()

_AGAIN_SECONDS = 1.0  # from the end of a worker to the next one in its place
_SHARE_OF_DRAIN = 0.8  # what the workers have of it; the rest is for closing the store
# What a worker's process does with its settings: it says something once it serves.
Work = Callable[[Settings, Connection], None]
_spawn = multiprocessing.get_context("spawn")


@asynccontextmanager
async def serving(settings: Settings, shares_port: bool, work: Work) -> AsyncIterator[Server]:
    """A server, with its workers where the settings say so; ``address`` is where clients call. ``shares_port``: it is
    such a worker. Raises StartupError."""
    if not settings.workers:
        async with Server(settings, shares_port=shares_port) as server:
            yield server
        return
    with socket_folder() as folder:
        share = f"unix:{folder}/share"
        alone = {"workers": 0, "http": "", "listen": f"unix:{folder}/keeper", "share": settings.share or share}
        async with (
            Server(_changed(settings, **alone)) as server,
            _Workers(settings, server.shared_address, work) as workers,
        ):
            server.address = workers.address
            yield server


def _changed(settings: Settings, **changes: Any) -> Settings:
    """A copy, of the class itself so that it can be sent to another process."""
    return Settings.model_construct(**{**dict(settings), **changes})


class _Workers:
    """Starts those of ``settings``, and another one for each that ends, until it is left."""

    def __init__(self, settings: Settings, shared: str, work: Work) -> None:
        self._settings = settings
        self._work = work
        self._shared = shared
        self._kept: list[socket.socket] = []
        self._processes: dict[int, SpawnProcess] = {}
        self._watches: list[asyncio.Task[None]] = []
        self.address = self._reserved("listen")
        self._http = self._reserved("http") if settings.http else ""

    def _reserved(self, name: str) -> str:
        """An address that this process keeps for its workers, and that nobody else listens on."""
        address: str = getattr(self._settings, name)
        host, port = host_of(address), int(address.rpartition(":")[2])
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as tried:
                tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(place)
                place = tried.getsockname()
            kept = socket.socket(family, kind, protocol)
            self._kept.append(kept)
            kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            kept.bind(place)
        except OSError as error:
            raise StartupError(f"can't listen on {address}: {why_not(address)}") from error
        return f"{address.rpartition(':')[0]}:{place[1]}"

    def _settings_of(self, number: int) -> Settings:
        settings = self._settings
        host, _, port = settings.metrics.rpartition(":")
        given = settings.model_fields_set
        share = {
            name: max(1, getattr(settings, name) // settings.workers)
            for name in ("encoder_workers", "photo_workers")
            if name not in given
        }
        return _changed(
            settings,
            workers=0,
            listen=self.address,
            http=self._http,
            galleries=f"keeper+{self._shared}",
            galleries_token=settings.share_token,
            galleries_ca="",
            galleries_cert="",
            galleries_key="",
            share="",
            share_token="",
            backup_dir="",
            metrics=f"{host}:{int(port) and int(port) + number}" if settings.metrics else "",
            drain_seconds=settings.drain_seconds * _SHARE_OF_DRAIN,
            **share,
        )

    async def __aenter__(self) -> "_Workers":
        try:
            numbers = range(1, self._settings.workers + 1)
            await asyncio.gather(*(self._start(number) for number in numbers))
            self._watches = [asyncio.create_task(self._watch(number)) for number in numbers]
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._end()

    async def _start(self, number: int) -> None:
        """Returns once it serves. Raises StartupError where it doesn't."""
        ready, told = _spawn.Pipe(duplex=False)
        process = _spawn.Process(target=self._work, args=(self._settings_of(number), told), name=f"worker-{number}")
        process.start()  # in the main thread: the worker ends with the thread that starts it
        told.close()
        self._processes[number] = process
        with ready:
            await _readable(ready.fileno())
            try:
                ready.recv()
            except EOFError:
                raise StartupError(f"worker {number} did not start; the log above says why") from None
        log.info("worker serves", worker=number, pid=process.pid)

    async def _watch(self, number: int) -> None:
        while True:
            process = self._processes[number]
            await _readable(process.sentinel)
            process.join()
            log.error("a worker ended; another one takes its place", worker=number, status=process.exitcode)
            while True:
                await asyncio.sleep(_AGAIN_SECONDS)
                try:
                    await self._start(number)
                    break
                except StartupError as error:
                    log.error("a worker can't be started", worker=number, error=str(error))

    async def _end(self) -> None:
        for watch in self._watches:
            watch.cancel()
        if self._watches:
            await asyncio.wait(self._watches)
        left = [process for process in self._processes.values() if process.is_alive()]
        for process in left:
            process.terminate()
        for process in left:
            await _readable(process.sentinel)
            process.join()
        for kept in self._kept:
            kept.close()


async def _readable(descriptor: int) -> None:
    """Returns once there is something to read, or the other end is closed."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(descriptor)
