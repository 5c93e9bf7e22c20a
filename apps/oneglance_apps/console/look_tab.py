"""The tab that identifies the faces of a photo, and enrolls one of them."""

from dataclasses import dataclass

from nicegui import ui

from oneglance.client.errors import OneglanceError
from oneglance.v1.common_pb2 import Candidate, Example
from oneglance.v1.face_pb2 import Face, Photo
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, DECISION_NOT_COMPARED, IdentifyResponse, IdentifyResult
from oneglance_apps.console.elements import draw_box, draw_candidate, draw_entry, draw_thumb
from oneglance_apps.console.page_state import TOO_LARGE, PageState
from oneglance_apps.console.wording import expected_fpir_text, quality_text, source_text
from oneglance_apps.error_words import with_names
from oneglance_apps.limits import NO_LIVENESS
from oneglance_apps.text import (
    breach,
    counted,
    distance,
    doubt,
    doubt_policy_name,
    nearest_given,
    neighbour,
    nobody_under,
    policy_name,
    score,
    short_digest,
)

CANDIDATES = 3


@dataclass(frozen=True)
class FaceResult:
    """A face and its answer.

    face: None when the whole picture is the probe. answer: None when the face was found, but not identified.
    """

    face: Face | None
    answer: IdentifyResult | None

    @property
    def identified(self) -> bool:
        return self.answer is not None and self.answer.decision == DECISION_IDENTIFIED

    @property
    def compared(self) -> bool:
        return self.answer is None or self.answer.decision != DECISION_NOT_COMPARED

    @property
    def nearest(self) -> Candidate | None:
        return nearest_given(self.answer.candidates) if self.answer else None

    @property
    def caption(self) -> str:
        if not self.compared:
            return "not upright"
        who = "face" if self.answer is None else self.answer.subject_id if self.identified else "unknown"
        if self.nearest is None:
            return who
        nearest = "" if self.identified else f"{self.nearest.subject_id} "
        return f"{who} · {nearest}{score(self.nearest):.3f}"


class LookTab:
    """One page's photo, the results of its faces, and the chosen face (its number; None: none)."""

    def __init__(self, state: PageState) -> None:
        self._state = state
        self.refusal: ui.label
        self.picture: bytes | None = None
        self.results: list[FaceResult] = []
        self.chosen: int | None = None

    def clear(self) -> None:
        """Show nothing, until a gallery is known. The photo is kept."""
        self.results, self.chosen, self.refusal.text = [], None, ""
        self.render()

    def build(self) -> None:
        with ui.element("section").classes("look"):
            with ui.element("div").classes("left"):
                with ui.element("figure").classes("stage").props('data-state="empty"'):
                    ui.element("img").props('alt="the photo that is looked at"')
                    self.boxes = ui.element("div").classes("boxes")
                    with ui.element("div").classes("empty"):
                        ui.label("Drop a photo here").classes("title")
                        ui.label("It stays in this browser and in memory; nothing is written to disk.").classes("soft")
                    ui.label("This browser can't show the format; the server may read it.").classes("undrawn-note")
                with ui.row().classes("actions"):
                    ui.button("Choose a photo").props("unelevated no-caps").on(
                        "click", js_handler="() => oneglance.choosePhoto()"
                    )
                    ui.button("Use the camera").props("outline no-caps").on(
                        "click",
                        lambda event: self.refusal.set_text(event.args),
                        js_handler="() => oneglance.takePhoto(emit)",
                    )
                    self.small_faces = ui.switch("small faces, too", on_change=self.look_again).props("dense")
                ui.label(NO_LIVENESS).classes("soft")
            with ui.element("div").classes("right"):
                self.summary = ui.label().classes("summary")
                self.cards = ui.element("ol").classes("cards")
                with ui.element("div").classes("enroll") as self.enroll_form:
                    self.target = ui.label().classes("title")
                    with ui.row().classes("fields"):
                        self.name = ui.input("name").props("outlined dense")
                        self.labels = ui.input("labels").props('outlined dense placeholder="key=value, key=value"')
                        self.enroll = ui.button("Enroll", on_click=self._enroll).props("unelevated no-caps")
                    self.accept = ui.switch("even if the quality is too low").props("dense")
                self.refusal = ui.label().classes("refusal")
                self.basis = ui.element("dl").classes("basis")

    async def look_at(self, picture: bytes | None) -> None:
        """Identify the faces of a picture. None: one that is too large."""
        self.picture = picture
        await self.look_again()
        if picture is None:
            self.refusal.text = TOO_LARGE

    async def look_again(self) -> None:
        """Identify the same picture again, with the present gallery and settings."""
        picture, gallery, answer = self.picture, self._state.gallery, None
        self.results, self.chosen = [], None
        if picture and gallery:
            with self._state.errors_shown_in(self.refusal):
                # Without a tau nobody can be identified, but the distances are shown.
                answer = await self._state.api.identify(
                    gallery.id,
                    self._example(picture),
                    max_candidates=CANDIDATES,
                    tau=None if self._state.tau is not None else nobody_under(gallery.fusion),
                )
        if picture is not self.picture or (gallery and not self._state.is_shown(gallery)):
            return  # another photo or gallery was chosen meanwhile
        if answer:
            self.results = [FaceResult(r.face if r.HasField("face") else None, r) for r in answer.results]
        self.render(answer)

    def _example(self, picture: bytes, face: Face | None = None) -> Example:
        box = (face.box.x, face.box.y, face.box.width, face.box.height) if face else None
        return self._state.example(picture, box, "always" if self.small_faces.value else "")

    def render(self, answer: IdentifyResponse | None = None) -> None:
        self.summary.text = self._summary(answer)
        self.enroll_form.visible = bool(self.picture and self._state.gallery)
        self._render_faces(answer.photos[0] if answer and 0 in answer.photos else None)
        self.basis.clear()
        if answer:
            provenance = answer.provenance
            model = self._state.models.get(provenance.encoder_digest)
            with self.basis:
                if self._state.tau is not None:
                    draw_entry("τ", f"{distance(answer.threshold.tau)}, {source_text(answer.threshold)}")
                    draw_entry("expected FPIR", expected_fpir_text(answer.threshold, provenance.gallery_size))
                draw_entry(
                    "encoder",
                    f"{model.name if model else 'not loaded'} {short_digest(provenance.encoder_digest)}"
                    f" on {provenance.execution_provider}",
                )
                draw_entry(
                    "gallery", f"revision {provenance.gallery_revision}, {counted(provenance.gallery_size, 'subject')}"
                )
                if self._state.gallery:
                    draw_entry("quality policy", policy_name(self._state.gallery.quality_policy))
                    draw_entry("doubt policy", doubt_policy_name(self._state.gallery.doubt_policy))

    def _summary(self, answer: IdentifyResponse | None) -> str:
        if self._state.gallery is None:
            return "No gallery is there yet. Create one first." if self._state.names == [] else ""
        if answer is None:
            return "" if self.picture else "Who is it?"
        if not answer.results:
            photo = answer.photos[0]
            return (
                f"No face in these {photo.width} × {photo.height} pixels. The smallest face searched for is "
                f"{photo.smallest_face:.0f} pixels wide."
            )
        known = sum(result.identified for result in self.results)
        if self.results[0].face is None:
            text = "Identified." if known else "Unknown."
        else:
            compared = sum(result.compared for result in self.results)
            text = f"{counted(len(self.results), 'face')}: {known} identified, {compared - known} unknown."
            if compared < len(self.results):
                text += f" {len(self.results) - compared} not upright, and not compared."
        if answer.photos.get(0, Photo()).faces_truncated:
            text += " More faces were found than the server answers for."
        if 0 in answer.photos:
            text += f" Faces below {answer.photos[0].smallest_face:.0f} pixels were not looked for."
        if self._state.tau is None:
            text += " There is no τ yet, so nobody can be identified: set one under Threshold."
        return text

    def _render_faces(self, photo: Photo | None) -> None:
        self.boxes.clear()
        self.cards.clear()
        scores = [score(c) for shown in self.results if shown.answer for c in shown.answer.candidates]
        scale = max(2 * (self._state.tau or 0), 1.05 * max(scores, default=0), 1e-9)
        if photo:
            self.boxes.style(f"aspect-ratio: {photo.width}/{photo.height}")
        for number, shown in enumerate(self.results):
            state = "known" if shown.identified else "unknown"
            if shown.face and photo:
                with self.boxes:
                    box = draw_box(shown.face, photo, shown.caption, state)
                    box.on("click", lambda _, n=number: self._choose(n))
            with self.cards, ui.element("li").classes(f"card {state}") as card:
                if shown.face and photo:
                    card.on("click", lambda _, n=number: self._choose(n))
                    draw_thumb(shown.face, photo)
                with ui.element("div").classes("text"):
                    ui.label(shown.caption.partition(" · ")[0]).classes("decision")
                    for candidate in shown.answer.candidates if shown.answer else ():
                        draw_candidate(candidate, self._state.tau, scale)
                    if shown.identified and shown.answer is not None:
                        who = shown.answer.subject_id
                        ui.button(f"Not {who}").props("flat no-caps dense").on(
                            "click.stop", lambda _, f=shown.face, w=who: self._not_this_person(f, w)
                        )
                    if shown.compared and shown.nearest is None:
                        ui.label("Nobody is enrolled." if shown.answer else "Choose it to enroll it.").classes("soft")
                    if shown.face:
                        ui.label(quality_text(shown.face)).classes("soft")
                    for broken in shown.answer.breaches if shown.answer else ():
                        ui.label(f"Doubtful: {breach(broken)}").classes("soft")
        self._render_choice()

    def _choose(self, number: int) -> None:
        self.chosen = None if self.chosen == number else number
        self._render_choice()

    def _render_choice(self) -> None:
        for group in (self.boxes, self.cards):
            for number, element in enumerate(group):
                element.classes(**{"add" if number == self.chosen else "remove": "chosen"})
        if self.chosen is not None:
            self.target.text = f"Enroll face {self.chosen + 1} of {len(self.results)}"
        elif len(self.results) > 1:
            self.target.text = "Enroll: choose a face"
        else:
            self.target.text = "Enroll this face" if self._state.takes_photos else "Enroll this picture"

    async def _enroll(self) -> None:
        gallery = self._state.gallery
        if not self.picture or not gallery:
            return
        face = self.results[self.chosen].face if self.chosen is not None else None
        name, labels = self.name.value, self.labels.value
        self.enroll.disable()
        try:
            with self._state.errors_shown_in(self.refusal, reraise=True):
                answer = await self._state.api.enroll(
                    gallery.id,
                    name.strip(),
                    self._example(self.picture, face),
                    labels=_labels(labels),
                    accept_breaches=self.accept.value,
                )
        except OneglanceError as error:
            if error.photo is not None and error.photo.faces and self._state.is_shown(gallery):
                if len(self.results) != len(error.photo.faces):
                    self.results, self.chosen = [FaceResult(face, None) for face in error.photo.faces], None
                    self._render_faces(error.photo)
                self.boxes.classes("asked")
            return
        finally:
            self.enroll.enable()
        ui.notify(f"{answer.subject_id}: {'enrolled' if answer.created else 'one more encoding'}", type="positive")
        if answer.HasField("nearest_other"):
            ui.notify(f"Nearest other subject: {neighbour(answer.nearest_other)}")
        for one in answer.doubts:
            ui.notify(f"Doubtful: {with_names(doubt(one), ['it'])}", type="warning", close_button="OK", timeout=0)
        if self.name.value == name:  # else the next one is being typed
            self.name.value = self.labels.value = ""
        self.boxes.classes(remove="asked")
        await self._state.refresh()
        await self.look_again()

    async def _not_this_person(self, face: Face | None, subject_id: str) -> None:
        """Keep the face as a negative of the subject that it was taken for."""
        gallery = self._state.gallery
        if not self.picture or not gallery:
            return
        with self._state.errors_shown_in(self.refusal):
            await self._state.api.add_negative(gallery.id, subject_id, self._example(self.picture, face))
            ui.notify(f"Kept as a negative of {subject_id}", type="positive")
            await self._state.refresh()
            await self.look_again()


def _labels(text: str) -> dict[str, str]:
    """The labels in ``key=value, key=value``."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {key.strip(): value.strip() for key, _, value in pairs}
