"""The dialog that changes one subject: its id and labels, its encodings, and which other it is merged into."""

from collections.abc import Awaitable, Callable
from functools import partial

from nicegui import ui

from oneglance.client.async_client import AsyncClient
from oneglance.v1.subject_pb2 import Subject
from oneglance_apps.console.elements import draw_row
from oneglance_apps.console.page_state import PageState
from oneglance_apps.console.wording import utc

Change = Callable[[], Awaitable[object]]


class SubjectDialog:
    """``on_change`` is awaited when the subject was changed, or is gone."""

    def __init__(self, state: PageState, gallery_id: str, subject: Subject, on_change: Change) -> None:
        self._state = state
        self._gallery = gallery_id
        self._subject = subject
        self._on_change = on_change
        with ui.dialog() as self.dialog, ui.card().classes("dialog"):
            ui.label(f"Change {subject.id}").classes("title")
            self._refusal = ui.label().classes("refusal")
            self._line("new id", "Rename", lambda value: self._api.rename_subject(gallery_id, subject.id, value))
            with ui.row().classes("actions"):
                key = ui.input("label").props("outlined dense")
                value = ui.input("value").props("outlined dense")
                self._button("Set", lambda: self._label(key.value, value.value))
                self._button("Take away", lambda: self._label(key.value, None))
            self._line("merge into", "Merge", lambda into: self._api.merge_subjects(gallery_id, subject.id, into))
            with ui.element("table"):
                draw_row("th", "encoding", "key", "from", "enrolled", "")
                for one in subject.encodings:
                    cells = draw_row("td", one.id, one.key, one.source, utc(one.create_time), "")
                    with cells[-1]:
                        self._button("Delete encoding", partial(self._delete, one.id), color="negative")
            with ui.row().classes("actions"):
                ui.button("Close", on_click=self.dialog.close).props("flat no-caps")
        self.dialog.on("hide", self.dialog.delete)
        self.dialog.open()

    @property
    def _api(self) -> AsyncClient:
        return self._state.api

    def _line(self, label: str, act: str, change: Callable[[str], Awaitable[object]]) -> None:
        with ui.row().classes("actions"):
            given = ui.input(label).props("outlined dense")
            self._button(act, lambda: change(given.value))

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
