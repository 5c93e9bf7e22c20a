"""The dialog that changes one subject: its id and labels, its encodings, and which other it is merged into."""

from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from oneglance.client.async_client import AsyncClient
from oneglance.v1.subject_pb2 import Subject
from oneglance_apps.console.dialogs import opened_dialog
from oneglance_apps.console.elements import draw_row
from oneglance_apps.console.page_state import PageState, refusal_label
from oneglance_apps.console.wording import utc

Change = Callable[[], Awaitable[object]]


class SubjectDialog:
    """``on_change`` is awaited when the subject was changed, or is gone."""

    def __init__(self, state: PageState, gallery_id: str, subject: Subject, on_change: Change) -> None:
        self._state = state
        self._gallery = gallery_id
        self._subject = subject
        self._on_change = on_change
        say = state.say
        self.dialog, card = opened_dialog(say("subject.title", subject=subject.id))
        with card:
            self._refusal = refusal_label()
            with ui.row().classes("line"):
                new_id = ui.input(say("subject.new_id")).props("outlined dense")
                self._button(
                    say("subject.rename"), lambda: self._api.rename_subject(gallery_id, subject.id, new_id.value)
                )
            for key, value in sorted(subject.labels.items()):
                with ui.row().classes("line label"):
                    ui.label(f"{key}={value}").props("dir=auto")
                    self._button(say("subject.take_away", label=key), partial(self._label, key, None))
            with ui.row().classes("line"):
                key_input = ui.input(say("subject.label")).props("outlined dense")
                value_input = ui.input(say("subject.value")).props("outlined dense")
                self._button(say("subject.set"), lambda: self._label(key_input.value, value_input.value))
            with ui.row().classes("line"):
                into = ui.input(say("subject.into")).props("outlined dense")
                self._button(say("subject.merge"), lambda: self._api.merge_subjects(gallery_id, subject.id, into.value))
            ui.label(say("subject.merge_note")).classes("soft")
            self._build_encodings()
            with ui.row().classes("actions"):
                ui.button(say("dialog.close"), on_click=self.dialog.close).props("flat no-caps")

    def _build_encodings(self) -> None:
        say = self._state.say
        with ui.element("div").classes("scroll").props("tabindex=0"), ui.element("table"):
            heads = ("subject.encoding", "subject.key", "subject.from", "subject.enrolled", "people.act")
            draw_row("th", *(say(head) for head in heads))
            for one in self._subject.encodings:
                cells = draw_row("td", one.id, one.key, one.source, utc(one.create_time), "")
                with cells[-1]:
                    self._button(say("subject.delete_encoding"), partial(self._delete, one.id), color="negative")
        if len(self._subject.encodings) == 1:
            ui.label(say("subject.last_encoding")).classes("soft")

    @property
    def _api(self) -> AsyncClient:
        return self._state.api

    def _button(self, text: str, change: Change, color: str = "primary") -> None:
        async def click() -> None:
            done = False
            with self._state.errors_shown_in(self._refusal):
                await change()
                done = True
            if done:
                self.dialog.close()
                await self._on_change()

        ui.button(text, on_click=click).props(f"flat no-caps dense color={color}")

    async def _label(self, key: str, value: str | None) -> None:
        """None: taken away."""
        set_now = {} if value is None else {key: value}
        gone = [key] if value is None else []
        await self._api.update_labels(self._gallery, self._subject.id, set_now, remove=gone)

    async def _delete(self, encoding_id: str) -> None:
        await self._api.delete_encoding(self._gallery, self._subject.id, encoding_id)
