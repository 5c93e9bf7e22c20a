"""One browser's page: a picker of galleries, and the tabs.

Names, labels and errors are set as text, never as HTML.
"""

import json
from pathlib import Path

from nicegui import Client, ui

from oneglance_apps.console.dialogs import new_gallery
from oneglance_apps.console.enroll_tab import EnrollTab
from oneglance_apps.console.login import LOGOUT
from oneglance_apps.console.look_tab import LookTab
from oneglance_apps.console.page_state import PageState, refusal_label
from oneglance_apps.console.people_tab import PeopleTab
from oneglance_apps.console.sessions import Session
from oneglance_apps.console.stylize_tab import StylizeTab
from oneglance_apps.console.threshold_tab import ThresholdTab
from oneglance_apps.console.watch_events import WatchEvents
from oneglance_apps.console.watch_tab import WatchTab
from oneglance_apps.console.words import LANGUAGE_COOKIE, LANGUAGES, Words
from oneglance_core.picture_files import PICTURE_SUFFIXES

HERE = Path(__file__).parent
SCRIPTS = ("page.js", "enroll.js", "subjects.js")
RETRY_SECONDS = 2.0  # while the server doesn't answer
EYE = (
    '<svg viewBox="0 0 32 32" xmlns="http://www.w3.org/2000/svg" fill="none" stroke="#17758a" stroke-width="2">'
    '<path d="M2 17C8 6 24 6 30 17C24 27 8 27 2 17Z"/><circle cx="16" cy="16.5" r="4.6" fill="#17758a" stroke="none"/>'
    "</svg>"
)


class Page:
    """One browser's page, which does all with the clients of its ``session``, in the language of ``say``."""

    def __init__(self, session: Session, client: Client, say: Words, events: WatchEvents | None) -> None:
        self.client = client
        self.session = session
        self.state = PageState(session.api, say, lambda: self.picker.value)
        self.look = LookTab(self.state)
        self.enroll = EnrollTab(self.state, client.id)
        self.people = PeopleTab(self.state, self.look.look_again, self._load)
        self.threshold = ThresholdTab(self.state, self.look.look_again)
        self.watch = WatchTab(self.state, events)
        self.stylize = StylizeTab(session.painter, client.id, self.state)

    async def build(self) -> None:
        say = self.state.say
        ui.add_head_html(f"<style>{(HERE / 'page.css').read_text()}</style>")
        script = "".join((HERE / file).read_text() for file in SCRIPTS) + "".join(
            f"oneglance.{name} = {json.dumps(value)};"
            for name, value in (
                ("page", self.client.id),
                ("suffixes", PICTURE_SUFFIXES),
                ("words", say.below("js")),
            )
        )
        ui.add_body_html(f"<script>{script}</script>")
        self._build_top()
        self.state.page_refusal = refusal_label().classes("trouble")
        tabs = {
            "look": self.look.build,
            "enroll": self.enroll.build,
            "people": self.people.build,
            "threshold": self.threshold.build,
            "watch": self.watch.build,
            "stylize": self.stylize.build,
        }
        with ui.tabs().props("no-caps align=left inline-label narrow-indicator mobile-arrows") as self.tabs:
            for name in tabs:
                ui.tab(name, label=say(f"tabs.{name}"))
        self.tabs.set_value("look")
        self.tabs.on_value_change(lambda event: self._open_tab(event.value))
        for name, build in tabs.items():
            with ui.element("div").classes("tab").bind_visibility_from(self.tabs, "value", value=name):
                build()
        self.retry = ui.timer(RETRY_SECONDS, lambda: self._load(self.picker.value), immediate=False)
        self._clear()
        await self._load()

    def _build_top(self) -> None:
        say = self.state.say
        with ui.element("header").classes("top"):
            ui.html(f"{EYE}<h1>oneglance</h1>", sanitize=False).classes("name")
            self.picker = ui.select([], label=say("gallery.label"), on_change=self._pick)
            self.picker.props("dense outlined options-dense").classes("picker")
            ui.button(say("gallery.new"), on_click=lambda: new_gallery(self.state, self._load)).props(
                "flat no-caps dense"
            ).classes("new-gallery")
            languages = ui.select(LANGUAGES, value=say.language if say.language in LANGUAGES else None)
            languages.props("dense borderless options-dense").classes("language").props["aria-label"] = say(
                "page.language"
            )
            languages.on_value_change(lambda event: self._speak(event.value))
            if self.session.name:
                ui.label(self.session.name).classes("soft")
                leave = f"fetch('{LOGOUT}', {{method: 'POST'}}).finally(() => location.reload())"
                ui.button(say("page.log_out")).props("flat no-caps dense").on("click", js_handler=f"() => {leave}")

    def _speak(self, language: str) -> None:
        """The page in another language, from now on."""
        cookie = f"{LANGUAGE_COOKIE}={language}; path=/; max-age=31536000; samesite=strict"
        ui.run_javascript(f"document.cookie = {json.dumps(cookie)}; location.reload()")

    def open_tab(self, tab: str) -> None:
        self.tabs.set_value(tab)

    def look_at_next(self, name: str) -> None:
        """The next photo is looked at to enroll one of its faces as ``name``."""
        self.open_tab("look")
        self.look.name.value = name

    async def _load(self, choose: str | None = None) -> None:
        state = self.state
        state.names = None
        with state.errors_shown_in(state.page_refusal):
            state.models = {model.digest: model for model in await state.api.list_models()}
            state.names = [gallery.id async for gallery in state.api.list_galleries()]
        self.retry.active = state.names is None
        if state.names is not None:
            first = next(iter(state.names), None)
            self.picker.set_options(state.names, value=choose if choose in state.names else first)
            if not state.names:
                self._clear()

    async def _pick(self) -> None:
        # Until the picked gallery is known there is none: no action may apply to the one before.
        self._clear()
        if await self.state.refresh():
            await self._show_gallery()

    def _clear(self) -> None:
        self.state.gallery = None
        self.look.clear()
        self.people.clear()
        self.threshold.clear()

    async def _show_gallery(self) -> None:
        self.watch.show()
        await self.look.look_again()
        await self.people.list()
        await self.threshold.show()

    async def _open_tab(self, tab: str) -> None:
        self.watch.active = tab == "watch"
        if tab == "stylize":  # independent of galleries
            await self.stylize.load()
            return
        before = self.state.gallery
        if not await self.state.refresh():
            return
        if before is None:  # the server did not answer when it was picked
            await self._show_gallery()
        elif tab == "people":
            await self.people.list()
        elif tab == "threshold":
            await self.threshold.show()
