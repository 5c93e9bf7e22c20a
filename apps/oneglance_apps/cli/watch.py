"""``oneglance watch``: print one event per appearance in front of cameras, or in videos."""

import argparse
import asyncio
import os
import shlex
import signal
import sys
import textwrap
from collections.abc import Callable
from typing import TYPE_CHECKING

from oneglance_apps.cli.commands import Options
from oneglance_apps.cli.watch_options import add_options
from oneglance_apps.connection import connection_of
from oneglance_apps.limits import NO_LIVENESS
from oneglance_apps.watch.settings import AppearanceRules, DeliveryRules, WatchSettings
from oneglance_core.printable import printable
from oneglance_core.progress import Progress

if TYPE_CHECKING:
    from oneglance_apps.watch.outbox import Output
    from oneglance_apps.watch.session import Session

DESCRIPTION = f"""\
Watch cameras or videos: send their frames to a server, identify the faces in
GALLERY, and print one line per appearance (not per frame): who it is, or unknown.

{textwrap.fill(NO_LIVENESS, 78)}

SOURCE is a video file, a folder of pictures (in the order of their names), the
number of a camera (0 is /dev/video0), or a URL (rtsp, http, ...). A file is
watched frame by frame to its end. Of a camera or a stream the newest frame is
taken; when it breaks off it is opened again.

Ctrl-C ends it, with a summary. Exit status 0: done, or Ctrl-C at a camera or
stream; 1: failed, or a file was damaged or incomplete; 2: wrong arguments; 130:
Ctrl-C before the end of a file or folder.
"""
STOP_SECONDS = 3.0  # after Ctrl-C, for the answers to frames already sent
DELIVER_SECONDS = 10.0  # at the end, for events not delivered yet


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "watch",
        help="one event per appearance in videos, cameras, folders",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run, needs="this command needs: pip install 'oneglance[watch]'")
    add_options(command)


def run(o: Options) -> int:
    if o.gone * o.fps < 1:
        print("oneglance watch: --gone is shorter than the time between two frames (--fps)", file=sys.stderr)
        return 2
    if len(set(o.sources)) < len(o.sources):
        print("oneglance watch: the same source twice", file=sys.stderr)
        return 2
    status, stuck = asyncio.run(_watch(o))
    if stuck:  # a line is being written that nobody reads: Python would wait for it, and then abort
        sys.stderr.flush()
        os._exit(status)
    return status


def _outputs(o: Options) -> "list[Output]":
    """Raises ValueError for one that can't be."""
    outputs: list[Output] = []
    if o.post:
        from oneglance_apps.watch.webhook import Webhook

        outputs += map(Webhook, o.post)
    if o.exec:
        from oneglance_apps.watch.command import Command

        outputs += (Command(shlex.split(text)) for text in o.exec)
    if o.mqtt:
        o.needs = "--mqtt needs: pip install 'oneglance[mqtt]'"
        from oneglance_apps.watch.mqtt import Mqtt

        outputs += (Mqtt(url, o.delivery) for url in o.mqtt)
    return outputs


def _settings(o: Options) -> WatchSettings:
    rules = AppearanceRules(
        o.confirm, o.unknown_after, o.gone, follower_faces=o.follower_faces, alone=o.alone, repeat=o.repeat
    )
    return WatchSettings(
        gallery=o.gallery,
        tau=o.tau,
        fps=o.fps,
        latency=o.latency,
        lost_after=o.lost_after,
        max_side=o.max_side,
        region=o.region,
        small_faces=o.small_faces,
        turned=o.turned,
        rules=rules,
    )


async def _watch(o: Options) -> tuple[int, bool]:
    """The exit status, and whether standard output is stuck."""
    from oneglance.client.async_client import AsyncClient
    from oneglance_apps.cli import watch_text
    from oneglance_apps.cli.printer import Printer
    from oneglance_apps.clock import SystemClock
    from oneglance_apps.frames.sources import source_from
    from oneglance_apps.frames.video import NetworkSettings
    from oneglance_apps.watch.outbox import Letter
    from oneglance_apps.watch.record_text import as_text
    from oneglance_apps.watch.session import Session, failures

    progress = Progress()
    interrupted = unread = False

    def note(message: str) -> None:
        progress.say(f"oneglance watch: {message}", error=True)

    def show(letter: Letter) -> None:
        if o.json:
            printer.put(letter.record.model_dump_json())
        elif letter.record.kind != "heartbeat":
            printer.put(printable(as_text(letter.record)))

    def stop_unread() -> None:
        nonlocal unread
        unread = True
        loop.call_soon_threadsafe(session.stop)

    clock = SystemClock()
    rules = DeliveryRules(o.delivery, o.max_age, o.max_age_other, o.answer_timeout)
    network = NetworkSettings(o.connect_timeout, o.read_timeout, o.rtsp_transport)
    loop = asyncio.get_running_loop()
    printer = Printer(progress.say, stop_unread)
    async with AsyncClient(**connection_of(o), timeout_seconds=o.timeout) as client:
        session = Session(client, _settings(o), rules, clock, note, show, leave=o.leave, heartbeat_seconds=o.heartbeat)
        try:
            for output in _outputs(o):
                session.add_output(output)
        except ValueError as error:
            note(str(error))
            return 2, False
        for text in o.sources:
            session.add_source(source_from(text, o.fps, network, clock))
        try:
            stop_serving = _serve_metrics(session, o.metrics)
        except OSError as error:
            note(f"--metrics: {error.strerror}")
            return 2, False
        running = asyncio.create_task(session.run())

        def stop() -> None:
            nonlocal interrupted
            if interrupted:
                running.cancel()
                return
            interrupted = True
            session.stop()
            loop.call_later(STOP_SECONDS, running.cancel)

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # under nohup
            loop.add_signal_handler(number, stop)
        with progress:
            while not (await asyncio.wait([running], timeout=0.2))[0]:
                watcher = session.watched[0].watcher
                if progress.live and not watcher.source.live:
                    progress.show(watcher.counts.seconds, watcher.source.length, watch_text.progress_line(watcher))
        try:
            await running
        except asyncio.CancelledError:
            pass
        finally:
            await session.close(DELIVER_SECONDS)
            await asyncio.to_thread(printer.close, DELIVER_SECONDS)
            stop_serving()
    failed = failures(session.watched)
    for one in session.watched:
        counts, source = one.watcher.counts, one.watcher.source
        name = f"{source.name}: " if len(session.watched) > 1 else ""
        if one.watcher.frames.read or not one.failure:
            note(name + watch_text.source_summary(one.watcher))
            if counts.faces and not counts.identified + counts.unknown:
                note("no face was there for long enough to be announced; for stills: --confirm 1 --unknown-after 0")
    for outbox in session.outboxes:
        note(watch_text.output_summary(outbox))
    if printer.lost:
        note(f"{printer.lost} events were not printed")
    status = 1 if failed or unread or printer.lost else 0
    if interrupted and not all(one.watcher.source.live for one in session.watched):
        status = 130
    return status, not printer.ended


def _serve_metrics(session: "Session", address: tuple[str, int] | None) -> Callable[[], None]:
    """Returns what ends it. Raises OSError."""
    if address is None:
        return lambda: None
    from prometheus_client import start_http_server

    server, thread = start_http_server(address[1], address[0], session.metrics.registry)
    session.note(f"metrics at http://{address[0]}:{server.server_port}/metrics")

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return end
