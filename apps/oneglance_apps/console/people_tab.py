"""The tab that lists the subjects of a gallery, changes and deletes them."""

from collections.abc import AsyncIterator, Awaitable, Callable

from nicegui import ui

from oneglance.v1.subject_pb2 import Subject
from oneglance_apps.console.elements import draw_row
from oneglance_apps.console.page_state import PageState
from oneglance_apps.console.subject_dialog import SubjectDialog
from oneglance_apps.console.wording import utc
from oneglance_apps.text import counted

SUBJECTS_PER_LOAD = 5000
SUBJECTS_PER_PAGE = 25


class PeopleTab:
    """``on_change`` is awaited when a subject was changed or deleted."""

    def __init__(self, state: PageState, on_change: Callable[[], Awaitable[None]]) -> None:
        self._state = state
        self._on_change = on_change
        self.subjects: list[Subject] = []
        self.listing: AsyncIterator[Subject] | None = None
        self.more_subjects = False
        self.subjects_from = 0

    def clear(self) -> None:
        """Show nothing, until a gallery is known."""
        self.subjects, self.listing, self.more_subjects = [], None, False
        self.refusal.text = self.filter.value = ""
        self._render()

    def build(self) -> None:
        with ui.element("section").classes("people"):
            with ui.row().classes("actions"):
                self.filter = ui.input("id starts with", on_change=self._filtered).props("outlined dense clearable")
                self.count = ui.label().classes("soft")
            self.refusal = ui.label().classes("refusal")
            with ui.element("div").classes("scroll"):
                self.rows = ui.element("table")
            with ui.row().classes("actions"):
                self.back = ui.button("Back", on_click=lambda: self._turn(-1)).props("flat no-caps dense")
                self.next = ui.button("Next", on_click=lambda: self._turn(1)).props("flat no-caps dense")
                self.more = ui.button(f"Load {SUBJECTS_PER_LOAD:,} more", on_click=self._load_more)
                self.more.props("flat no-caps dense")

    async def list(self) -> None:
        """Load the first subjects."""
        if self._state.gallery:
            self.subjects, self.subjects_from = [], 0
            self.listing = self._state.api.list_subjects(self._state.gallery.id)
            await self._load_more()

    async def _load_more(self) -> None:
        listing, subjects = self.listing, self.subjects
        assert listing is not None
        until = len(subjects) + SUBJECTS_PER_LOAD
        more = False
        with self._state.errors_shown_in(self.refusal):
            async for subject in listing:
                subjects.append(subject)
                if len(subjects) >= until:
                    more = True
                    break
        if listing is self.listing:
            self.more_subjects = more
            self._render()

    def _filtered(self) -> None:
        self.subjects_from = 0
        self._render()

    def _turn(self, pages: int) -> None:
        self.subjects_from += pages * SUBJECTS_PER_PAGE
        self._render()

    def _render(self) -> None:
        found = [s for s in self.subjects if s.id.startswith(self.filter.value or "")]
        start, end = self.subjects_from, self.subjects_from + SUBJECTS_PER_PAGE
        total = self._state.gallery.subject_count if self._state.gallery else 0
        loaded = "" if not self.more_subjects else f" of the first {len(self.subjects):,}, of {total:,} in all"
        shown = f"{start + 1:,} to {min(end, len(found)):,} of " if len(found) > SUBJECTS_PER_PAGE else ""
        self.count.text = f"{shown}{counted(len(found), 'subject')}{loaded}"
        self.back.visible, self.next.visible, self.more.visible = start > 0, end < len(found), self.more_subjects
        self.rows.clear()
        with self.rows:
            draw_row("th", "id", "labels", "encodings", "negatives", "enrolled", "changed", "")
            for subject in found[start:end]:
                labels = ", ".join(f"{key}={value}" for key, value in sorted(subject.labels.items()))
                times = (utc(subject.create_time), utc(subject.update_time))
                counts = (f"{len(subject.encodings):,}", f"{len(subject.negatives):,}" if subject.negatives else "")
                cells = draw_row("td", subject.id, labels, *counts, *times, "")
                with cells[-1]:
                    ui.button("Change", on_click=lambda _, s=subject: self._change(s)).props("flat no-caps dense")
                    ui.button("Delete", on_click=lambda _, s=subject: self._delete(s)).props(
                        "flat no-caps dense color=negative"
                    )

    async def _delete(self, subject: Subject) -> None:
        gallery = self._state.gallery
        if gallery is None:
            return
        with ui.dialog() as dialog, ui.card().classes("dialog"):
            ui.label(f"Delete {subject.id}?").classes("title")
            ui.label(f"With {counted(len(subject.encodings), 'encoding')}, for good.").classes("soft")
            with ui.row().classes("actions"):
                ui.button("Delete for good", on_click=lambda: dialog.submit(True)).props(
                    "unelevated no-caps color=negative"
                )
                ui.button("Keep", on_click=lambda: dialog.submit(False)).props("flat no-caps")
        confirmed = await dialog
        dialog.delete()
        if confirmed:
            with self._state.errors_shown_in(self.refusal):
                await self._state.api.delete_subject(gallery.id, subject.id)
                await self._changed()

    def _change(self, subject: Subject) -> None:
        if self._state.gallery is not None:
            SubjectDialog(self._state, self._state.gallery.id, subject, self._changed)

    async def _changed(self) -> None:
        """Show the subjects as they are now, the same page of them."""
        at = self.subjects_from
        await self._state.refresh()
        await self.list()
        self.subjects_from = min(at, max(0, len(self.subjects) - 1) // SUBJECTS_PER_PAGE * SUBJECTS_PER_PAGE)
        self._render()
        await self._on_change()
