"""Watch one or several sources in one process: their events go to the same outputs."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import OneglanceError
from oneglance_apps.clock import Clock
from oneglance_apps.frames.source_error import SourceError
from oneglance_apps.frames.sources import Source
from oneglance_apps.limits import NO_LIVENESS
from oneglance_apps.watch.camera_state import CameraChange
from oneglance_apps.watch.metrics import WatchMetrics
from oneglance_apps.watch.outbox import Letter, Listener, Outbox, Output
from oneglance_apps.watch.recorder import Recorder
from oneglance_apps.watch.settings import DeliveryRules, WatchSettings
from oneglance_apps.watch.watcher import Watcher


@dataclass
class Watched:
    """One source, what records its events, and why it failed."""

    watcher: Watcher
    recorder: Recorder
    failure: str = ""


@dataclass
class Session:
    """Runs the sources. ``note``: called with messages for people; ``show``: with each event, beside the outputs.

    leave: whether the end of appearances is an event. heartbeat_seconds: how often each live source sends a heartbeat;
    0: never.
    """

    client: AsyncClient
    settings: WatchSettings
    rules: DeliveryRules
    clock: Clock
    note: Callable[[str], None]
    show: Callable[[Letter], None]
    leave: bool = False
    heartbeat_seconds: float = 0.0
    metrics: WatchMetrics = field(default_factory=WatchMetrics)
    watched: list[Watched] = field(default_factory=list)
    outboxes: list[Outbox] = field(default_factory=list)
    _liveness_noted: bool = False
    _recorders: dict[str, Recorder] = field(default_factory=dict)

    def add_output(self, output: Output) -> None:
        listener = Listener(self.note, self._expired, self.metrics.delivery)
        self.outboxes.append(Outbox(output, self.rules, self.clock, listener))

    def add_source(self, source: Source) -> None:
        recorder = Recorder(self.settings.gallery, source.name, self.rules, self.clock, self._emit)
        observe = self.metrics.observer(source.name)
        watcher = Watcher(
            self.client, source, self.settings, recorder, self.note, self.clock, observe, self._note_no_liveness
        )
        self._recorders[source.name] = recorder
        self.watched.append(Watched(watcher, recorder))

    async def run(self) -> None:
        """Returns when all sources have ended; the failure of one doesn't end the others."""
        self.metrics.follow(one.watcher for one in self.watched)
        beating = asyncio.create_task(self._beat()) if self.heartbeat_seconds else None
        try:
            await asyncio.gather(*map(self._watch, self.watched))
        finally:
            if beating:
                beating.cancel()
                await asyncio.wait((beating,))

    def stop(self) -> None:
        for one in self.watched:
            one.watcher.stop()

    async def close(self, seconds: float) -> None:
        """Deliver what waits, for at most ``seconds``."""
        await asyncio.gather(*(outbox.close(seconds) for outbox in self.outboxes))

    async def _watch(self, one: Watched) -> None:
        try:
            await one.watcher.run()
        except (SourceError, OneglanceError) as error:
            one.failure = str(error)
            self.note(one.failure)
            if not one.watcher.source.live or len(self.watched) == 1:
                return  # a file is no camera; and of one source the exit status tells it
            one.recorder.live = True
            if isinstance(error, SourceError):
                one.recorder.camera(CameraChange("camera_lost", error.reason, str(error), 0.0))
            else:
                one.recorder.server("server_lost", str(error))

    async def _beat(self) -> None:
        while True:
            await self.clock.sleep(self.heartbeat_seconds)
            for one in self.watched:
                watcher = one.watcher
                if one.recorder.live:
                    one.recorder.heartbeat(
                        watcher.latency(),
                        watcher.frames,
                        camera=watcher.camera_up,
                        server=watcher.server_up,
                    )

    def _note_no_liveness(self) -> None:
        """Before the first frame of a camera is sent."""
        if not self._liveness_noted:
            self._liveness_noted = True
            self.note(NO_LIVENESS)

    def _emit(self, letter: Letter) -> None:
        if letter.record.kind == "left" and not self.leave:
            return
        self.metrics.event(letter.record.source, letter.record.kind)
        self.show(letter)
        for outbox in self.outboxes:
            outbox.put(letter)

    def _expired(self, letter: Letter, output: str) -> None:
        self._recorders[letter.record.source].expired(letter, output)


def failures(watched: Sequence[Watched]) -> list[str]:
    """Why sources failed; one whose frames were all refused failed, too."""
    found = []
    for one in watched:
        counts, frames = one.watcher.counts, one.watcher.frames
        if one.failure:
            found.append(one.failure)
        elif counts.refused and not counts.answered and counts.refused == frames.dropped:
            found.append(f"{one.watcher.source.name}: every frame was refused")
    return found
