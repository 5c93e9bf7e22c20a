"""One browser's page: a picker of galleries, and the tabs.

Names, labels and errors are set as text, never as HTML.
"""

import json
from pathlib import Path

from nicegui import Client, ui

from oneglance_apps.console.login import LOGOUT
from oneglance_apps.console.look_tab import LookTab
from oneglance_apps.console.page_state import PageState
from oneglance_apps.console.people_tab import PeopleTab
from oneglance_apps.console.quality_choice import QualityChoice
from oneglance_apps.console.sessions import Session
from oneglance_apps.console.stylize_tab import StylizeTab
from oneglance_apps.console.threshold_tab import ThresholdTab
from oneglance_apps.text import is_encoder
from oneglance_core.picture_files import PICTURE_SUFFIXES

HERE = Path(__file__).parent
RETRY_SECONDS = 2.0  # while the server doesn't answer
EYE = (
    '<svg viewBox="0 0 32 32" xmlns="http://www.w3.org/2000/svg" fill="none" stroke="#17758a" stroke-width="2">'
    '<path d="M2 17C8 6 24 6 30 17C24 27 8 27 2 17Z"/><circle cx="16" cy="16.5" r="4.6" fill="#17758a" stroke="none"/>'
    "</svg>"
)


class Page:
    """One browser's page, which does all with the clients of its ``session``."""

    def __init__(self, session: Session, client: Client) -> None:
        self.client = client
        self.session = session
        self.state = PageState(session.api, lambda: self.picker.value)
        self.look = LookTab(self.state)
        self.people = PeopleTab(self.state, self.look.look_again)
        self.threshold = ThresholdTab(self.state, self.look.look_again)
        self.stylize = StylizeTab(session.painter, client.id, self.state.error_text)

    async def build(self) -> None:
        ui.add_head_html(f"<style>{(HERE / 'page.css').read_text()}</style>")
        script = (HERE / "page.js").read_text() + "".join(
            f"oneglance.{name} = {json.dumps(value)};"
            for name, value in (("page", self.client.id), ("suffixes", PICTURE_SUFFIXES))
        )
        ui.add_body_html(f"<script>{script}</script>")
        with ui.element("header").classes("top"):
            ui.html(f"{EYE}<span>oneglance</span>", sanitize=False).classes("name")
            self.picker = ui.select([], label="gallery", on_change=self._pick).props("dense outlined options-dense")
            self.picker.classes("picker")
            ui.button("New gallery", on_click=self._new_gallery).props("flat no-caps dense").classes("new-gallery")
            if self.session.name:
                ui.label(self.session.name).classes("soft")
                leave = f"fetch('{LOGOUT}', {{method: 'POST'}}).finally(() => location.reload())"
                ui.button("Log out").props("flat no-caps dense").on("click", js_handler=f"() => {leave}")
        self.state.page_refusal = ui.label().classes("refusal trouble")
        with ui.tabs().props("no-caps align=left inline-label narrow-indicator") as tabs:
            for name in ("Look", "People", "Threshold", "Stylize"):
                ui.tab(name)
        tabs.set_value("Look")
        tabs.on_value_change(lambda event: self._open_tab(event.value))
        for name, build in (
            ("Look", self.look.build),
            ("People", self.people.build),
            ("Threshold", self.threshold.build),
            ("Stylize", self.stylize.build),
        ):
            with ui.element("main").bind_visibility_from(tabs, "value", value=name):
                build()
        self.retry = ui.timer(RETRY_SECONDS, lambda: self._load(self.picker.value), immediate=False)
        self._clear()
        await self._load()

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
                self.look.render()

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
        await self.look.look_again()
        await self.people.list()
        await self.threshold.show()

    async def _new_gallery(self) -> None:
        of_photos = {model.name for model in self.state.models.values() if model.takes_photos}
        encoders = {model.name: model.name for model in self.state.models.values() if is_encoder(model)}
        with ui.dialog() as dialog, ui.card().classes("dialog"):
            ui.label("New gallery").classes("title")
            name = ui.input("name").props("autofocus outlined dense")
            encoder = ui.select(encoders, label="encoder", value=next(iter(encoders), None)).props("outlined dense")
            description = ui.input("description").props("outlined dense")
            ui.label("A gallery keeps its encoder for life.").classes("soft")
            quality = QualityChoice()
            quality.build()
            quality.frame.bind_visibility_from(encoder, "value", lambda name: name in of_photos)
            refusal = ui.label().classes("refusal")

            async def create() -> None:
                with self.state.errors_shown_in(refusal):
                    gallery = await self.state.api.create_gallery(
                        name.value.strip(),
                        encoder=encoder.value or "",
                        description=description.value,
                        quality_policy=quality.policy,
                    )
                    dialog.close()
                    await self._load(choose=gallery.id)

            with ui.row().classes("actions"):
                ui.button("Create", on_click=create).props("unelevated no-caps")
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
        dialog.on("hide", dialog.delete)
        dialog.open()

    async def _open_tab(self, tab: str) -> None:
        if tab == "Stylize":  # independent of galleries
            await self.stylize.load()
            return
        before = self.state.gallery
        if not await self.state.refresh():
            return
        if before is None:  # the server did not answer when it was picked
            await self._show_gallery()
        elif tab == "People":
            await self.people.list()
        elif tab == "Threshold":
            await self.threshold.show()
