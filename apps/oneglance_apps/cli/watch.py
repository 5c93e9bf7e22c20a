"""``oneglance watch``: print one event per appearance in front of a camera, or in a video."""

import argparse
import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from oneglance_apps.cli.commands import add_server_option
from oneglance_apps.text import joined
from oneglance_apps.watch.settings import AppearanceRules, WatchSettings
from oneglance_core.progress import Progress
from oneglance_core.ranges import within

if TYPE_CHECKING:
    from oneglance_apps.watch.event_poster import EventPoster
    from oneglance_apps.watch.watcher import WatchCounts

DESCRIPTION = """\
Watch a camera or a video: send its frames to a server, identify the faces in
GALLERY, and print one line per appearance (not per frame): who it is, or unknown.

SOURCE is a video file, a folder of pictures (in the order of their names), the
number of a camera (0 is /dev/video0), or a URL (rtsp, http, ...). A file is
watched frame by frame to its end. Of a camera or a stream the newest frame is
taken; when it breaks off it is opened again.

Ctrl-C ends it, with a summary. Exit status 0: done, or Ctrl-C at a camera or
stream; 1: failed; 2: wrong arguments; 130: Ctrl-C before the end of a file or folder.
"""
STOP_SECONDS = 3.0  # after Ctrl-C, for the answers to frames already sent
POST_SECONDS = 10.0  # at the end, for events not posted yet


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    command = commands.add_parser(
        "watch",
        help="one event per appearance in a video, a camera, a folder",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run, needs="this command needs: pip install 'oneglance[watch]'")
    command.add_argument("gallery", metavar="GALLERY", help="gallery id")
    command.add_argument("source", metavar="SOURCE", help="file, folder, number of a camera, URL")
    add_server_option(command)
    command.add_argument(
        "--timeout",
        type=within(float, above=0),
        default=30.0,
        metavar="SECONDS",
        help="deadline of the first calls [%(default)g]",
    )
    command.add_argument(
        "--tau", type=within(float), help="threshold, squared L2 or a score by margin [the gallery's, else the model's]"
    )
    command.add_argument(
        "--fps",
        type=within(float, above=0),
        default=5.0,
        metavar="N",
        help="frames looked at per second, at most [%(default)g]",
    )
    command.add_argument(
        "--max-side",
        type=within(int, least=1),
        default=WatchSettings.max_side,
        metavar="PIXELS",
        help="larger frames are shrunk to that [%(default)s]",
    )
    command.add_argument(
        "--small-faces",
        choices=["never", "when-none", "when-wide", "always"],
        default=WatchSettings.small_faces,
        help="search for faces below the detector's window, too; slow on every empty frame [%(default)s]",
    )
    command.add_argument(
        "--turned",
        action="store_true",
        help="search frames without an upright face in their other three turns, too; slow on every empty frame",
    )
    command.add_argument(
        "--confirm",
        type=within(int, least=1),
        default=AppearanceRules.confirm,
        metavar="N",
        help="frames that must agree on a name [%(default)s]",
    )
    command.add_argument(
        "--unknown-after",
        type=within(float, least=0),
        default=AppearanceRules.unknown_after,
        metavar="SECONDS",
        help="how long a face must stay unknown to be announced [%(default)g]",
    )
    command.add_argument(
        "--gone",
        type=within(float, above=0),
        default=AppearanceRules.gone,
        metavar="SECONDS",
        help="unseen for so long, an appearance is over [%(default)g]",
    )
    command.add_argument("--leave", action="store_true", help="an event when an appearance is over, too")
    command.add_argument("--json", action="store_true", help="print events as JSON, one per line")
    command.add_argument("--post", metavar="URL", help="also post each event there, as JSON")


def run(o: argparse.Namespace) -> int:
    if o.gone * o.fps < 1:
        print("oneglance watch: --gone is shorter than the time between two frames (--fps)", file=sys.stderr)
        return 2
    return asyncio.run(_watch(o))


async def _watch(o: argparse.Namespace) -> int:
    from oneglance.client.async_client import AsyncClient
    from oneglance.client.errors import OneglanceError
    from oneglance_apps.frames.sources import SourceError, source_from
    from oneglance_apps.watch import events
    from oneglance_apps.watch.event_poster import EventPoster
    from oneglance_apps.watch.events import Event
    from oneglance_apps.watch.watcher import Watcher

    progress = Progress()

    def note(message: str) -> None:
        progress.say(f"oneglance watch: {message}", error=True)

    def emit(event: Event) -> None:
        if event.kind == "left" and not o.leave:
            return
        record = events.as_record(event, o.gallery, source.name)
        progress.say(events.as_json(record) if o.json else events.as_text(event))
        if poster:
            poster.put(record)

    source = source_from(o.source, o.fps)
    try:
        poster = EventPoster(o.post, note) if o.post else None
    except ValueError as error:
        note(str(error))
        return 2
    settings = WatchSettings(
        gallery=o.gallery,
        tau=o.tau,
        max_side=o.max_side,
        small_faces=o.small_faces,
        turned=o.turned,
        rules=AppearanceRules(o.confirm, o.unknown_after, o.gone),
    )
    failure = ""
    interrupted = False
    async with AsyncClient(o.server, timeout_seconds=o.timeout) as client:
        watcher = Watcher(client, source, settings, emit, note)
        watching = asyncio.create_task(watcher.run())

        def stop() -> None:
            nonlocal interrupted
            if interrupted:
                watching.cancel()
                return
            interrupted = True
            watcher.stop()
            loop.call_later(STOP_SECONDS, watching.cancel)

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                continue  # under nohup
            loop.add_signal_handler(number, stop)
        with progress:
            while not (await asyncio.wait([watching], timeout=0.2))[0]:
                if progress.live and not source.live:
                    counts = watcher.counts
                    progress.show(counts.seconds, source.length, _progress(counts, source.length))
        try:
            await watching
        except asyncio.CancelledError:
            pass
        except (SourceError, OneglanceError) as error:
            failure = str(error)
    if poster:
        await asyncio.to_thread(poster.close, POST_SECONDS)
    if failure:
        note(failure)
    counts = watcher.counts
    if not failure and counts.frames and counts.refused == counts.frames:
        failure = "every frame was refused"
    if counts.frames or not failure:
        note(_summary(counts, getattr(source, "damaged", 0), poster))
        if counts.faces and not counts.identified + counts.unknown:
            note("no face was there for long enough to be announced; for stills: --confirm 1 --unknown-after 0")
    if interrupted and not source.live:
        return 130
    return 1 if failure else 0


def _progress(counts: "WatchCounts", length: float | None) -> str:
    whole = f" of {length:.1f}" if length else ""
    return f"{counts.seconds:.1f}{whole} s, {counts.frames} frames, {counts.identified + counts.unknown} events"


def _summary(counts: "WatchCounts", damaged: int, poster: "EventPoster | None") -> str:
    return joined(
        f"{counts.frames} frames, {counts.faces} faces, {counts.identified} identified, {counts.unknown} unknown",
        f"{counts.dropped} frames dropped" if counts.dropped else "",
        f"{counts.lost} frames lost with the server" if counts.lost else "",
        f"{damaged} damaged packets skipped" if damaged else "",
        f"{counts.refused} frames refused, the last: {counts.refusal}" if counts.refused else "",
        f"{poster.delivered} events posted, {poster.given_up} not delivered" if poster else "",
    )
