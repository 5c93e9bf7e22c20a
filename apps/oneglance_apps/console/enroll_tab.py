"""The tab that enrolls many photos: the browser sends them (enroll.js), and each gets an outcome of its own."""

import hashlib

from nicegui import ui

from oneglance.client.errors import OneglanceError
from oneglance.client.requests import keyed
from oneglance_apps.console.page_state import PageState
from oneglance_apps.console.wording import doubt_text, labels_fault, parse_labels
from oneglance_apps.text import neighbour

MAX_SOURCE_CHARACTERS = 1000
Outcome = dict[str, object]


class EnrollTab:
    """One page's photos to enroll. None is kept here: each is enrolled while its request lasts."""

    def __init__(self, state: PageState, page_id: str) -> None:
        self._state = state
        self._page_id = page_id

    def build(self) -> None:
        say = self._state.say
        with ui.element("section").classes("many"):
            with ui.element("div").classes("empty drop-many"):
                ui.label(say("many.drop")).classes("title")
                ui.label(say("many.names")).classes("soft")
                with ui.row().classes("actions"):
                    ui.button(say("many.choose")).props("unelevated no-caps").on(
                        "click", js_handler="() => oneglance.enrolling.choose(false)"
                    )
                    ui.button(say("many.folder")).props("outline no-caps").on(
                        "click", js_handler="() => oneglance.enrolling.choose(true)"
                    )
            with ui.row().classes("fields"):
                self.labels = ui.input(say("many.labels"), validation=lambda text: labels_fault(say, text))
                self.labels.props("outlined dense hide-bottom-space").props["placeholder"] = say("field.labels_form")
                self.accept = ui.switch(say("many.accept")).props("dense")
            with ui.element("div").classes("many-bar").props("hidden"):
                ui.button(say("many.enroll")).props("unelevated no-caps").classes("many-start").on(
                    "click", js_handler="() => oneglance.enrolling.start()"
                )
                ui.button(say("many.stop")).props("outline no-caps").classes("many-stop").on(
                    "click", js_handler="() => oneglance.enrolling.stop()"
                )
                ui.button(say("many.clear")).props("flat no-caps").on(
                    "click", js_handler="() => oneglance.enrolling.clear()"
                )
                ui.element("progress").props(f'value=0 max=1 aria-label="{say("many.progress")}"')
                ui.element("span").classes("many-count").props("role=status")
            ui.element("ol").classes("many-list")

    async def enroll_one(self, picture: bytes | None, name: str, file: str, number: str) -> Outcome:
        """Enroll one photo as ``name``, and tell what came of it. None: one that is too large.

        number: of the photo in its page; sent again with the same name and settings, it is enrolled once.
        """
        say, gallery = self._state.say, self._state.gallery
        if gallery is None:
            return _refused(say("look.no_gallery"), say("look.no_gallery_next"))
        if picture is None:
            return _refused(self._state.too_large, say("next.IMAGE_TOO_LARGE"))
        if fault := labels_fault(say, self.labels.value):
            return _refused(fault, say("many.mend_labels"))
        settings = (gallery.id, name, self.labels.value or "", str(self.accept.value))
        digest = hashlib.sha256("\0".join(settings).encode()).hexdigest()[:16]
        try:
            answer = await self._state.api.enroll(
                gallery.id,
                name,
                keyed(self._state.example(picture), source=file[-MAX_SOURCE_CHARACTERS:]),
                labels=parse_labels(say, self.labels.value or ""),
                accept_breaches=self.accept.value,
                request_id=f"console-{self._page_id}-{number}-{digest}",
            )
        except OneglanceError as error:
            several = error.photo is not None and len(error.photo.faces) > 1
            text, _, following = self._state.error_text(error).partition("\n")
            return _refused(text, following or say("many.try_again"), several=several)
        text = say("enroll.created" if answer.created else "enroll.added", subject=answer.subject_id)
        if answer.HasField("nearest_other"):
            text = f"{text} · {say('enroll.nearest', other=neighbour(answer.nearest_other))}"
        return {"state": "enrolled", "text": text, "warnings": [doubt_text(say, one) for one in answer.doubts]}

    async def end(self) -> None:
        """The browser has sent all photos."""
        await self._state.refresh()


def _refused(text: str, following: str, *, several: bool = False) -> Outcome:
    """several: one of its faces is to be chosen, which the Look tab is for."""
    return {"state": "refused", "text": text, "next": following, "several": several}
