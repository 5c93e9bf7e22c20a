"""A server as a process of its own: it serves until a signal asks it to end, and then it ends in time."""

import asyncio
import contextlib
import ctypes
import gc
import multiprocessing
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import NoReturn

import structlog

from oneglance_server.errors import StartupError
from oneglance_server.log_sink import LogSink
from oneglance_server.logs import LOG_SECONDS, configure_logs, log_everything
from oneglance_server.service_manager import READY, STOPPING, tell_service_manager
from oneglance_server.settings import Settings
from oneglance_server.workers import serving

log = structlog.get_logger()
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# After so long another thread may have Python's lock. The event loop takes it anew several times for each call: with
# Python's own 5 ms, messages that are parsed in threads would delay every call behind them by as many times that.
_SWITCH_SECONDS = 0.0005
_PR_SET_PDEATHSIG = 1  # of prctl.h
_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of malloc.h; once it is set, glibc no longer raises it by itself
_LARGE_BYTES = 12 << 20
_COLLECTED_AFTER = 2000, 20, 20  # objects, and rounds of the younger generations; by default 700, 10, 10
_LEAST_SECONDS = 1.0  # to close the store, however short the drain


def run_until_signalled(
    settings: Settings, sink: LogSink, on_serving: Callable[[str], None], *, shares_port: bool = False
) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain and return. Raises StartupError, and what ``on_serving`` does.

    It ends the process, when that has not returned ``drain_seconds`` after the signal (status 0 if the store is closed,
    else 1), at a second signal (128 + its number), and at one that comes before it serves (0): a data directory is
    safe at any moment.

    ``on_serving`` is told the address once everything is loaded, in a thread of its own. ``shares_port``: other
    processes listen on it, too, and the one that started all passes on what it was told, so that a second signal says
    nothing new. Only in the main thread.
    """
    sys.setswitchinterval(_SWITCH_SECONDS)
    give_memory_back()
    raise_open_files()
    ending = _Ending(settings.drain_seconds, sink, told_twice=shares_port)
    asyncio.run(_serve(settings, ending, on_serving, shares_port))
    gc.freeze()  # else Python looks through all there is before it ends, of 10,000 galleries for seconds


def _work(settings: Settings, told: Connection) -> None:
    """What a worker's process does: it ends with the one that started it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    started_by = multiprocessing.parent_process()
    if started_by is None or os.getppid() != started_by.pid:  # it ended before it could be watched
        return
    sink = configure_logs(settings.log_format, settings.log_level)
    log_everything(sink, settings.log_format)
    try:
        run_until_signalled(settings, sink, lambda _: told.send(True), shares_port=True)
    except StartupError as error:
        log.error("a worker did not start", error=str(error))
        sys.exit(1)


def give_memory_back() -> None:
    """From now on what is large goes back to the system as soon as it is freed. Else malloc keeps the pixels of a large
    picture (Pillow has them in pieces of 16 MB), once for each thread that decoded one."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)


def leave_what_is_loaded_alone() -> None:
    """Python's collector of cycles no longer looks at what there is now: everybody waits while it does, for 0.1 s and
    more where galleries are large, and nearly all of it stays as long as the process. At the rest it looks less often:
    the objects of one large request would have it look a hundred times."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)


def raise_open_files() -> None:
    """As many files may be open as the system allows this process: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # it may refuse one that is unlimited
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _serve(settings: Settings, ending: "_Ending", on_serving: Callable[[str], None], shares_port: bool) -> None:
    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    async with serving(settings, shares_port, _work) as server:
        leave_what_is_loaded_alone()
        ending.begin_with(lambda: loop.call_soon_threadsafe(signalled.set), lambda: server.store_closed)
        told = asyncio.ensure_future(asyncio.to_thread(on_serving, server.address))
        asked = asyncio.create_task(signalled.wait())
        await asyncio.wait({told, asked}, return_when=asyncio.FIRST_COMPLETED)
        if told.done():
            told.result()
            tell_service_manager(READY)
        await asked
        tell_service_manager(STOPPING)
        log.info("draining", seconds=settings.drain_seconds)
    log.info("stopped")


class _Ending:
    """Acts on signals in a thread of its own: it does so, too, while the event loop or a native call is busy.
    ``told_twice``: further signals repeat the first."""

    def __init__(self, drain_seconds: float, sink: LogSink, *, told_twice: bool = False) -> None:
        self._told_twice = told_twice
        self._seconds = max(drain_seconds, _LEAST_SECONDS)
        self._sink = sink
        self._drain: Callable[[], object] | None = None
        self._store_closed: Callable[[], bool] = lambda: True
        self._numbers, wakeup = socket.socketpair()
        self._wakeup = wakeup  # kept open
        wakeup.setblocking(False)
        # The C handler of a signal that Python handles writes its number there, whichever thread it comes to.
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # ignored under nohup
                signal.signal(number, lambda *_: None)
        threading.Thread(target=self._wait, name="oneglance-signals", daemon=True).start()

    def begin_with(self, drain: Callable[[], object], store_closed: Callable[[], bool]) -> None:
        """From now on the first signal calls ``drain``, in another thread; before, it ends the process.

        ``store_closed``: whether nothing is left to be written.
        """
        self._drain, self._store_closed = drain, store_closed

    def _wait(self) -> None:
        self._next(None)
        if self._drain is None:
            log.info("stopped before it served")
            self._leave(0)
        self._drain()
        until = time.monotonic() + self._seconds
        again = self._next(self._seconds)
        while again is not None and self._told_twice:
            log.info("signalled again: ending already", signal=signal.Signals(again).name)
            again = self._next(max(0.0, until - time.monotonic()))
        if again is not None:
            log.warning("signalled again: ended at once", signal=signal.Signals(again).name)
            self._leave(128 + again)
        closed = self._store_closed()
        log.warning("not everything ended in time", store_closed=closed)
        self._leave(0 if closed else 1)

    def _next(self, seconds: float | None) -> int | None:
        """The next signal's number; None when none comes for ``seconds``."""
        while select.select([self._numbers], [], [], seconds)[0]:
            number = self._numbers.recv(1)[0]
            if number in SIGNALS:
                return number
        return None

    def _leave(self, status: int) -> NoReturn:
        self._sink.wait_until_written(LOG_SECONDS)
        os._exit(status)
