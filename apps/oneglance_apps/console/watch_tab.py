"""The tab that shows what ``oneglance watch`` tells of the picked gallery, as it happens."""

from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from oneglance_apps.console.elements import draw_bar, draw_name
from oneglance_apps.console.page_state import PageState
from oneglance_apps.console.watch_events import WatchEvent, WatchEvents
from oneglance_apps.text import distance

READ_SECONDS = 0.5
MOST_SHOWN = 50
QUIET_SECONDS = 90.0  # three heartbeats
_GOOD = ("identified", "present", "camera_back", "server_back")
_BAD = ("camera_lost", "server_lost", "behind", "expired")
COMMAND = "oneglance watch {gallery} 0 --json >> {file}"


class WatchTab:
    """events: None where the console was told no file. ``active``: whether the tab is open; else nothing is read."""

    def __init__(self, state: PageState, events: WatchEvents | None) -> None:
        self._state = state
        self._events = events
        self._drawn: tuple[object, ...] = ()
        self.active = False

    def build(self) -> None:
        say = self._state.say
        with ui.element("section").classes("watch"):
            self.state = ui.label().classes("summary").props("role=status")
            self.next = ui.label().classes("soft")
            self.command = ui.label().classes("command").props("tabindex=0")
            with ui.element("ul").classes("sources") as self.sources:
                pass
            self.rows = ui.element("ol").classes("events")
            self.rows.props["aria-label"] = say("watch.events")
            ui.label(say("look.no_liveness")).classes("soft liveness")
        ui.timer(READ_SECONDS, self.follow)

    def follow(self) -> None:
        """Read what was added, and show it."""
        if not self.active:
            return
        if self._events:
            self._events.read()
        self.show()

    def show(self) -> None:
        gallery = self._state.gallery.id if self._state.gallery else None
        events = [event for event in self._events.events if event["gallery"] == gallery] if self._events else []
        beats = (
            [beat for beat in self._events.heartbeats.values() if beat["gallery"] == gallery] if self._events else []
        )
        quiet = self._quiet()
        long = int(quiet // 60) if quiet and quiet > QUIET_SECONDS else None
        drawn = (gallery, self._state.tau, self._events and self._events.changes, len(events), long)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        self._show_state(gallery, bool(events or beats), quiet)
        self.sources.clear()
        with self.sources:
            for beat in beats:
                self._draw_source(beat)
        self.rows.clear()
        with self.rows:
            for event in events[:MOST_SHOWN]:
                self._draw_event(event)

    def _quiet(self) -> float | None:
        """Seconds since something was written; None while nothing was."""
        if self._events is None or self._events.written is None or not self._events.is_there:
            return None
        return (datetime.now(UTC) - self._events.written).total_seconds()

    def _show_state(self, gallery: str | None, anything: bool, quiet: float | None) -> None:
        say = self._state.say
        following = ""
        if self._events is None:
            state, following = "watch.off", "watch.off_next"
        elif not anything:
            state, following = "watch.nothing", "watch.nothing_next"
        elif quiet is not None and quiet > QUIET_SECONDS:
            state, following = "watch.quiet", "watch.quiet_next"
        else:
            state = "watch.live"
        file = str(self._events.file) if self._events else "events.jsonl"
        self.state.text = say(state, minutes=int((quiet or 0) // 60))
        self.next.text = say(following, file=file) if following else ""
        shown = COMMAND.format(gallery=gallery or "people", file=file)
        if self._events is None:
            shown = f"oneglance console --watch-events {file}\n{shown}"
        self.command.text = shown if following else ""
        self.command.visible = bool(following)

    def _draw_source(self, beat: WatchEvent) -> None:
        say = self._state.say
        there = bool(beat.get("camera")) and bool(beat.get("server"))
        state = "watch.source_good" if there else "watch.source_lost"
        with ui.element("li").classes("good" if there else "bad"):
            draw_name(beat["source"])
            frames, latency = _dict(beat, "frames"), _dict(beat, "latency")
            ui.label(say(state, time=_time(beat), answered=int(frames.get("answered", 0)))).classes("soft")
            if isinstance(latency.get("p50"), float):
                ui.label(say("watch.latency", seconds=f"{latency['p50']:.2f}")).classes("soft")

    def _draw_event(self, event: WatchEvent) -> None:
        say, kind = self._state.say, event["kind"]
        state = "good" if kind in _GOOD else "bad" if kind in _BAD else "plain"
        with ui.element("li").classes(state):
            ui.label(_time(event)).classes("when")
            ui.label(say(f"watch.{kind}") if f"watch.{kind}" in say else kind).classes("kind")
            with ui.element("div").classes("who"):
                nearest = _dict(event, "nearest")
                if event.get("subject_id"):
                    draw_name(str(event["subject_id"]))
                elif event.get("message"):
                    ui.label(str(event["message"])).classes("soft")
                elif nearest:
                    ui.label(say("watch.nearest")).classes("soft")
                    draw_name(str(nearest.get("subject_id", "")))
                if event.get("rival"):
                    ui.label(say("watch.rival", other=str(event["rival"]))).classes("warning")
                if event.get("follows"):
                    ui.label(say("watch.follows", subject=str(event["follows"]))).classes("warning")
            compared = event.get("distance")
            with ui.element("div").classes("how-far"):
                if isinstance(compared, int | float):
                    ui.label(distance(compared)).classes("distance")
                    draw_bar(compared, self._state.scale)
            draw_name(event["source"]).classes("soft source")


def _time(event: WatchEvent) -> str:
    """``14:03:22`` of a camera, ``12.4 s`` into a file."""
    time = event.get("time")
    if isinstance(time, str):
        try:
            return f"{datetime.fromisoformat(time):%H:%M:%S}"
        except ValueError:
            pass
    seconds = event.get("seconds")
    return f"{seconds:.1f} s" if isinstance(seconds, int | float) else ""


def _dict(event: WatchEvent, key: str) -> dict[str, Any]:
    value = event.get(key)
    return value if isinstance(value, dict) else {}
