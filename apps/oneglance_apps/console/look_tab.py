"""The tab that looks at a photo: who is in it, and enrolling from it."""

from dataclasses import dataclass

from nicegui import ui

from oneglance.client.errors import OneglanceError
from oneglance.client.requests import photo
from oneglance.v1.common_pb2 import Candidate, Example
from oneglance.v1.face_pb2 import Face, Photo
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, IdentifyResponse, IdentifyResult
from oneglance_apps.console.elements import (
    counted,
    draw_box,
    draw_candidate,
    draw_entry,
    draw_thumb,
    expected_words,
    parse_labels,
    quality_words,
    source_words,
)
from oneglance_apps.console.page_state import TOO_LARGE, PageState, say

CANDIDATES = 3


@dataclass(frozen=True)
class FaceResult:
    """A face of the photo, or a picture that is no photo; ``result`` is None when nobody was looked for."""

    face: Face | None
    result: IdentifyResult | None

    @property
    def identified(self) -> bool:
        return self.result is not None and self.result.decision == DECISION_IDENTIFIED

    @property
    def nearest(self) -> Candidate | None:
        return self.result.candidates[0] if self.result and self.result.candidates else None

    @property
    def caption(self) -> str:
        who = "face" if self.result is None else self.result.subject_id if self.identified else "unknown"
        if self.nearest is None:
            return who
        nearest = "" if self.identified else f"{self.nearest.subject_id} "
        return f"{who} · {nearest}{self.nearest.distance:.3f}"


class LookTab:
    """The photo that one page looks at, and who is seen in it."""

    def __init__(self, state: PageState) -> None:
        self._state = state
        self.refusal: ui.label
        self.picture: bytes | None = None
        self.seen: list[FaceResult] = []
        self.chosen: int | None = None

    def forget(self) -> None:
        """Show nothing of a gallery."""
        self.seen, self.chosen, self.refusal.text = [], None, ""
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
                        lambda event: say(self.refusal, event.args),
                        js_handler="() => oneglance.takePhoto(emit)",
                    )
                    self.small_faces = ui.switch("small faces, too", on_change=self.look_again).props("dense")
            with ui.element("div").classes("right"):
                self.summary = ui.label().classes("summary")
                self.cards = ui.element("ol").classes("cards")
                with ui.element("div").classes("enroll") as self.enroll_form:
                    self.target = ui.label().classes("title")
                    with ui.row().classes("fields"):
                        self.name = ui.input("name").props("outlined dense")
                        self.labels = ui.input("labels").props('outlined dense placeholder="key=value, key=value"')
                        ui.button("Enroll", on_click=self._enroll).props("unelevated no-caps")
                self.refusal = ui.label().classes("refusal")
                self.basis = ui.element("dl").classes("basis")

    async def look_at(self, picture: bytes | None) -> None:
        """Identify who is in a picture; None is one that was too large to take."""
        self.picture = picture
        await self.look_again()
        if picture is None:
            say(self.refusal, TOO_LARGE)

    async def look_again(self) -> None:
        """The same picture again, as of now."""
        picture, gallery, answer = self.picture, self._state.gallery, None
        self.seen, self.chosen = [], None
        if picture and gallery:
            with self._state.refusals(self.refusal):
                # Without a tau nobody can be identified; the distances are worth seeing all the same.
                answer = await self._state.api.identify(
                    gallery.id,
                    self._example(picture),
                    max_candidates=CANDIDATES,
                    tau=None if self._state.tau is not None else 0.0,
                )
        if picture is not self.picture or (gallery and not self._state.is_shown(gallery)):
            return  # a later photo, or another gallery, came first
        if answer:
            self.seen = [FaceResult(r.face if r.HasField("face") else None, r) for r in answer.results]
        self.render(answer)

    def _example(self, picture: bytes, face: Face | None = None) -> Example:
        if self._state.encoder is None or not self._state.encoder.takes_photos:
            return Example(image=picture)
        which = (face.box.x, face.box.y, face.box.width, face.box.height) if face else None
        return photo(picture, which, "always" if self.small_faces.value else "when-none")

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
                    draw_entry("τ", f"{answer.threshold.tau:.4f}, {source_words(answer.threshold)}")
                    draw_entry("expected FPIR", expected_words(answer.threshold, provenance.gallery_size))
                draw_entry(
                    "encoder",
                    f"{model.name if model else 'not loaded'} {provenance.encoder_digest[:12]}"
                    f" on {provenance.execution_provider}",
                )
                draw_entry(
                    "gallery", f"revision {provenance.gallery_revision}, {counted(provenance.gallery_size, 'subject')}"
                )

    def _summary(self, answer: IdentifyResponse | None) -> str:
        if self._state.gallery is None:
            return "No gallery is there yet. Create one first." if self._state.names == [] else ""
        if answer is None:
            return "" if self.picture else "Who is it?"
        if not answer.results:
            seen = answer.photos[0]
            return (
                f"No face in these {seen.width} × {seen.height} pixels. The smallest searched for is "
                f"{seen.smallest_face:.0f} pixels wide."
            )
        known = sum(seen.identified for seen in self.seen)
        if self.seen[0].face is None:
            words = "Identified." if known else "Unknown."
        else:
            words = f"{counted(len(self.seen), 'face')}: {known} identified, {len(self.seen) - known} unknown."
        if answer.photos.get(0, Photo()).faces_truncated:
            words += " More faces were found than the server answers for."
        if self._state.tau is None:
            words += " There is no τ yet, so nobody can be identified: set one under Threshold."
        return words

    def _render_faces(self, seen_in: Photo | None) -> None:
        self.boxes.clear()
        self.cards.clear()
        distances = [c.distance for s in self.seen if s.result for c in s.result.candidates]
        scale = max(2 * (self._state.tau or 0), 1.05 * max(distances, default=0), 1e-9)
        if seen_in:
            self.boxes.style(f"aspect-ratio: {seen_in.width}/{seen_in.height}")
        for number, seen in enumerate(self.seen):
            state = "known" if seen.identified else "unknown"
            if seen.face and seen_in:
                with self.boxes:
                    draw_box(seen.face, seen_in, seen.caption, state).on("click", lambda _, n=number: self._choose(n))
            with self.cards, ui.element("li").classes(f"card {state}") as card:
                if seen.face and seen_in:
                    card.on("click", lambda _, n=number: self._choose(n))
                    draw_thumb(seen.face, seen_in)
                with ui.element("div").classes("text"):
                    ui.label(seen.caption.partition(" · ")[0]).classes("decision")
                    for candidate in seen.result.candidates if seen.result else ():
                        draw_candidate(candidate, self._state.tau, scale)
                    if seen.nearest is None:
                        ui.label("Nobody is enrolled." if seen.result else "Choose it to enroll it.").classes("soft")
                    if seen.face:
                        ui.label(quality_words(seen.face)).classes("soft")
        self._render_choice()

    def _choose(self, number: int) -> None:
        self.chosen = None if self.chosen == number else number
        self._render_choice()

    def _render_choice(self) -> None:
        for group in (self.boxes, self.cards):
            for number, element in enumerate(group):
                element.classes(**{"add" if number == self.chosen else "remove": "chosen"})
        if self.chosen is not None:
            self.target.text = f"Enroll face {self.chosen + 1} of {len(self.seen)}"
        elif len(self.seen) > 1:
            self.target.text = "Enroll: choose a face"
        else:
            self.target.text = (
                "Enroll this face"
                if self._state.encoder and self._state.encoder.takes_photos
                else "Enroll this picture"
            )

    async def _enroll(self) -> None:
        gallery = self._state.gallery
        if not self.picture or not gallery:
            return
        face = self.seen[self.chosen].face if self.chosen is not None else None
        try:
            with self._state.refusals(self.refusal, reraise=True):
                answer = await self._state.api.enroll(
                    gallery.id,
                    self.name.value.strip(),
                    self._example(self.picture, face),
                    labels=parse_labels(self.labels.value),
                )
        except OneglanceError as error:
            if error.photo is not None and error.photo.faces and self._state.is_shown(gallery):
                if len(self.seen) != len(error.photo.faces):
                    self.seen, self.chosen = [FaceResult(face, None) for face in error.photo.faces], None
                    self._render_faces(error.photo)
                self.boxes.classes("asked")
            return
        ui.notify(f"{answer.subject_id}: {'enrolled' if answer.created else 'one more encoding'}", type="positive")
        self.name.value = self.labels.value = ""
        self.boxes.classes(remove="asked")
        await self._state.refresh()
        await self.look_again()
