"""The tab that finds the subjects of a gallery, changes and deletes them, and deletes the gallery."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from oneglance.client.requests import subject_filter
from oneglance.v1.common_pb2 import SubjectFilter
from oneglance_apps.console.dialogs import confirm, confirm_typed
from oneglance_apps.console.page_state import PageState, refusal_label
from oneglance_apps.console.subject_dialog import SubjectDialog
from oneglance_apps.console.subject_listing import MOST_LISTED, SubjectListing
from oneglance_apps.console.wording import labels_fault, parse_labels

MOST_ROWS = 500  # in one answer to the browser
SEARCH_SECONDS = 0.25  # without another key, until the server is asked
COLUMNS = ("id", "labels", "encodings", "negatives", "enrolled", "changed")


class PeopleTab:
    """The browser draws the rows that are in view (subjects.js), and fetches them from here.

    ``on_change`` is awaited when a subject was changed or deleted, ``on_gallery_gone`` when the gallery was deleted.
    """

    def __init__(
        self,
        state: PageState,
        on_change: Callable[[], Awaitable[None]],
        on_gallery_gone: Callable[[], Awaitable[None]],
    ) -> None:
        self._state = state
        self._on_change = on_change
        self._on_gallery_gone = on_gallery_gone
        self._listing: SubjectListing | None = None
        self._search = 0  # number of the last search, whose rows are shown

    def clear(self) -> None:
        """Show nothing, until a gallery is known."""
        self._listing = None
        self.refusal.text = self.prefix.value = self.labels.value = ""
        self._show()

    def build(self) -> None:
        say = self._state.say
        search = f"debounce={1000 * SEARCH_SECONDS:.0f}"
        with ui.element("section").classes("people") as self.section:
            with ui.row().classes("actions search"):
                self.prefix = ui.input(say("people.prefix"), on_change=self._searched)
                self.prefix.props(f"outlined dense clearable {search}")
                self.labels = ui.input(
                    say("people.labels"), on_change=self._searched, validation=lambda text: labels_fault(say, text)
                )
                self.labels.props(f"outlined dense clearable hide-bottom-space {search}")
                self.labels.props["placeholder"] = say("field.labels_form")
                self.count = ui.label().classes("soft count").props("role=status")
            self.refusal = refusal_label()
            with ui.element("div").classes("nobody") as self.nobody:
                self.nobody_text = ui.label().classes("title")
                self.nobody_next = ui.label().classes("soft")
            with ui.element("div").classes("subjects") as self.table:
                self.table.props("tabindex=0 role=region").props["aria-label"] = say("people.table")
                with ui.element("table"):
                    with ui.element("thead"), ui.element("tr"):
                        for column in COLUMNS:
                            with ui.element("th").classes(column).props("scope=col"):
                                ui.label(say("field.labels" if column == "labels" else f"people.{column}"))
                        with ui.element("th").classes("act"):
                            ui.label(say("people.act"))
                    ui.element("tbody")
            with ui.row().classes("actions danger") as self.danger:
                ui.button(say("people.delete_gallery"), on_click=self._delete_gallery).props(
                    "flat no-caps dense color=negative"
                )
        ui.on("change_subject", lambda event: self._change(event.args))
        ui.on("delete_subject", lambda event: self._delete(event.args))

    async def _searched(self) -> None:
        if self._state.gallery and self.labels.validate():
            await self.list()

    @property
    def _filter(self) -> SubjectFilter | None:
        labels = parse_labels(self._state.say, self.labels.value or "")
        prefix = self.prefix.value or ""
        return subject_filter(labels, prefix) if labels or prefix else None

    async def list(self, *, keep_place: bool = False) -> None:
        """Search again. ``keep_place``: the browser scrolls to where it was."""
        gallery = self._state.gallery
        if gallery is None or not self.labels.validate():
            return
        self._search = number = self._search + 1
        wanted, total = self._filter, gallery.subject_count
        listing: SubjectListing | None = None
        with self._state.errors_shown_in(self.refusal):
            if wanted is not None:
                total = (await self._state.api.count_subjects(gallery.id, filter=wanted)).subjects
            listing = SubjectListing(self._state.api, gallery.id, wanted, total)
        if number == self._search and self._state.is_shown(gallery):
            self._listing = listing
            self._show(keep_place=keep_place)

    async def rows(self, search: int, start: int, end: int) -> dict[str, object] | None:
        """Rows for the browser; None when they are of an earlier search."""
        listing = self._listing
        if listing is None or search != self._search:
            return None
        rows: list[dict[str, object]] = []
        with self._state.errors_shown_in(self.refusal):
            rows = await listing.rows(max(0, start), min(end, start + MOST_ROWS))
        return {"rows": rows, "length": listing.length} if listing is self._listing else None

    def _show(self, *, keep_place: bool = False) -> None:
        say, listing, gallery = self._state.say, self._listing, self._state.gallery
        total = listing.total if listing else 0
        self.count.text = say("count.subjects", n=total) if listing else ""
        if total > MOST_LISTED:
            self.count.text += " " + say("people.most", most=MOST_LISTED)
        self.table.visible = bool(total)
        self.nobody.visible = listing is not None and not total
        searched = bool(self.prefix.value or self.labels.value)
        self.nobody_text.text = say("people.not_found" if searched else "people.empty")
        self.nobody_next.text = say("people.not_found_next" if searched else "people.empty_next")
        self.danger.visible = gallery is not None
        length = listing.length if listing else 0
        ui.run_javascript(f"oneglance.subjects?.show({self._search}, {length}, {str(keep_place).lower()})")

    async def _delete(self, subject_id: str) -> None:
        say, gallery = self._state.say, self._state.gallery
        if gallery is None:
            return
        confirmed = await confirm(
            say,
            title=say("people.delete_title", subject=subject_id),
            text=say("people.delete_text"),
            act=say("people.delete_act"),
        )
        if confirmed:
            with self._state.errors_shown_in(self.refusal):
                await self._state.api.delete_subject(gallery.id, subject_id)
                await self._changed()

    async def _change(self, subject_id: str) -> None:
        gallery = self._state.gallery
        if gallery is None:
            return
        with self._state.errors_shown_in(self.refusal):
            subject = await self._state.api.get_subject(gallery.id, subject_id)
            SubjectDialog(self._state, gallery.id, subject, self._changed)

    async def _changed(self) -> None:
        """Show the subjects as they are now, at the same place."""
        await self._state.refresh()
        await self.list(keep_place=True)
        await self._on_change()

    async def _delete_gallery(self) -> None:
        say, gallery = self._state.say, self._state.gallery
        if gallery is None:
            return

        async def delete() -> None:
            await self._state.api.delete_gallery(gallery.id)

        gone = await confirm_typed(
            self._state,
            title=say("gallery.delete_title", gallery=gallery.id),
            text=say("gallery.delete_text", subjects=say("count.subjects", n=gallery.subject_count)),
            typed=gallery.id,
            act=say("gallery.delete_act"),
            carry_out=delete,
        )
        if gone:
            await self._on_gallery_gone()
