"""The tab that identifies the faces of a photo, and enrolls one of them."""

from dataclasses import dataclass

from nicegui import ui

from oneglance.client.errors import OneglanceError
from oneglance.v1.common_pb2 import Candidate, Example
from oneglance.v1.face_pb2 import Face, Photo
from oneglance.v1.identification_pb2 import (
    DECISION_IDENTIFIED,
    DECISION_NOT_COMPARED,
    UNKNOWN_REASON_AMBIGUOUS,
    IdentifyResponse,
    IdentifyResult,
)
from oneglance.v1.subject_pb2 import EnrollResponse
from oneglance_apps.console.elements import draw_box, draw_candidate, draw_entry, draw_thumb
from oneglance_apps.console.page_state import PageState, refusal_label
from oneglance_apps.console.wording import (
    breach_text,
    doubt_text,
    expected_fpir_text,
    labels_fault,
    parse_labels,
    percent,
    quality_text,
    source_text,
)
from oneglance_apps.console.words import Words
from oneglance_apps.text import (
    distance,
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

    def decision(self, say: Words) -> str:
        if not self.compared:
            return say("look.not_upright")
        if self.answer is None:
            return say("look.face")
        return self.answer.subject_id if self.identified else say("look.unknown")

    def caption(self, say: Words) -> list[str]:
        """The decision, the nearest subject of somebody unknown, and its distance: parts with a direction each."""
        if not self.compared or self.nearest is None:
            return [self.decision(say)]
        distance = f"{score(self.nearest):.3f}"
        if self.identified:
            return [self.decision(say), " · ", distance]
        return [self.decision(say), " · ", self.nearest.subject_id, " ", distance]


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
        self.outcome.clear()
        self.render()

    def build(self) -> None:
        say = self._state.say
        with ui.element("section").classes("look"):
            with ui.element("div").classes("left"):
                with ui.element("figure").classes("stage").props('data-state="empty"'):
                    ui.element("img").props["alt"] = say("look.photo")
                    self.boxes = ui.element("div").classes("boxes")
                    with ui.element("div").classes("empty"):
                        ui.label(say("look.drop")).classes("title")
                        ui.label(say("look.stays")).classes("soft")
                    ui.label(say("look.undrawn")).classes("undrawn-note")
                with ui.row().classes("actions"):
                    ui.button(say("look.choose")).props("unelevated no-caps").on(
                        "click", js_handler="() => oneglance.choosePhoto()"
                    )
                    ui.button(say("look.camera")).props("outline no-caps").on(
                        "click",
                        lambda event: self.refusal.set_text(event.args),
                        js_handler="() => oneglance.takePhoto(emit)",
                    )
                    self.small_faces = ui.switch(say("look.small_faces"), on_change=self.look_again).props("dense")
                ui.label(say("look.no_liveness")).classes("soft liveness")
            with ui.element("div").classes("right"):
                self.summary = ui.label().classes("summary").props("role=status")
                self.next = ui.label().classes("soft next")
                self.cards = ui.element("ol").classes("cards")
                self._build_enroll()
                self.refusal = refusal_label()
                self.basis = ui.element("dl").classes("basis")

    def _build_enroll(self) -> None:
        say = self._state.say
        with ui.element("div").classes("enroll") as self.enroll_form:
            self.target = ui.label().classes("title")
            with ui.row().classes("fields"):
                self.name = ui.input(say("field.name"), on_change=self._warn).props("outlined dense")
                self.name.props("input-class=any-direction")
                self.labels = ui.input(say("field.labels"), validation=lambda text: labels_fault(say, text))
                self.labels.props("outlined dense hide-bottom-space").props["placeholder"] = say("field.labels_form")
                self.enroll = ui.button(say("look.enroll"), on_click=self._enroll).props("unelevated no-caps")
            self.warning = ui.label().classes("warning").props("role=status")
            self.accept = ui.switch(say("look.accept")).props("dense")
        self.outcome = ui.element("div").classes("outcome").props("role=status")

    async def look_at(self, picture: bytes | None) -> None:
        """Identify the faces of a picture. None: one that is too large."""
        self.picture = picture
        self.outcome.clear()
        await self.look_again()
        if picture is None:
            self.refusal.text = self._state.too_large

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
        say = self._state.say
        self.summary.text, self.next.text = self._summary(answer)
        self.enroll_form.visible = bool(self.picture and self._state.gallery)
        self._render_faces(answer.photos[0] if answer and 0 in answer.photos else None)
        self.basis.clear()
        if answer:
            provenance = answer.provenance
            model = self._state.models.get(provenance.encoder_digest)
            with self.basis:
                if self._state.tau is not None:
                    draw_entry("τ", f"{distance(answer.threshold.tau)}, {source_text(say, answer.threshold)}")
                    expected = expected_fpir_text(say, answer.threshold, provenance.gallery_size)
                    draw_entry(say("basis.fpir"), expected)
                name = model.name if model else say("basis.not_loaded")
                digest = short_digest(provenance.encoder_digest)
                draw_entry(
                    say("basis.encoder"),
                    say("basis.on", model=f"{name} {digest}", device=provenance.execution_provider),
                )
                subjects = say("count.subjects", n=provenance.gallery_size)
                revision = say("basis.revision", number=str(provenance.gallery_revision))
                draw_entry(say("basis.gallery"), f"{revision}, {subjects}")
                if provenance.HasField("mapped"):
                    told = provenance.mapped
                    rates = {"mapped": percent(told.loss.fnir), "true": percent(told.loss.true_fnir)}
                    those = say("count.subjects", n=told.subject_count)
                    draw_entry(say("basis.mapped"), say("basis.mapped_fnir", subjects=those, **rates))
                if self._state.gallery:
                    for name, policy in (
                        ("quality", policy_name(self._state.gallery.quality_policy)),
                        ("doubts", doubt_policy_name(self._state.gallery.doubt_policy)),
                    ):
                        draw_entry(say(f"basis.{name}"), say(f"policy.{policy}"))
                    if self._state.gallery.keep_crops:
                        draw_entry(say("basis.crops"), say("basis.crops_kept"))

    def _summary(self, answer: IdentifyResponse | None) -> tuple[str, str]:
        """What came out, and what to do next."""
        say, gallery = self._state.say, self._state.gallery
        if gallery is None:
            return (say("look.no_gallery"), say("look.no_gallery_next")) if self._state.names == [] else ("", "")
        if answer is None:
            if self.picture:
                return "", ""
            return say("look.who"), say("look.who_next") if gallery.subject_count else say("look.nobody_next")
        if not answer.results:
            photo = answer.photos[0]
            size = {"width": str(photo.width), "height": str(photo.height), "smallest": f"{photo.smallest_face:.0f}"}
            following = "look.no_face_next" if self.small_faces.value else "look.no_face_small_next"
            return say("look.no_face", **size), say(following)
        known = sum(result.identified for result in self.results)
        if self.results[0].face is None:
            text = say("look.picture_known") if known else say("look.picture_unknown")
        else:
            compared = sum(result.compared for result in self.results)
            faces = say("count.faces", n=len(self.results))
            text = say("look.faces", faces=faces, known=known, unknown=compared - known)
            if compared < len(self.results):
                text += " " + say("look.faces_turned", number=len(self.results) - compared)
        notes = []
        if answer.photos.get(0, Photo()).faces_truncated:
            notes.append(say("look.faces_truncated"))
        if 0 in answer.photos:
            notes.append(say("look.smallest", smallest=f"{answer.photos[0].smallest_face:.0f}"))
        if self._state.tau is None:
            notes.append(say("look.no_tau"))
        return text, " ".join(notes)

    def _render_faces(self, photo: Photo | None) -> None:
        say = self._state.say
        self.boxes.clear()
        self.cards.clear()
        if photo:
            self.boxes.style(f"aspect-ratio: {photo.width}/{photo.height}")
        for number, shown in enumerate(self.results):
            state = "known" if shown.identified else "unknown"
            if shown.face and photo:
                with self.boxes:
                    box = draw_box(shown.face, photo, shown.caption(say), state)
                    box.on("click", lambda _, n=number: self._choose(n))
            with self.cards, ui.element("li").classes(f"card {state}") as card:
                if shown.face and photo:
                    card.on("click", lambda _, n=number: self._choose(n))
                    draw_thumb(shown.face, photo)
                with ui.element("div").classes("text"):
                    ui.label(shown.decision(say)).classes("decision").props("dir=auto")
                    self._render_answer(shown)
        self._render_choice()

    def _render_answer(self, shown: FaceResult) -> None:
        say, answer = self._state.say, shown.answer
        if answer and answer.unknown_reason == UNKNOWN_REASON_AMBIGUOUS:
            ui.label(say("look.ambiguous", nearest=answer.nearest_subject_id, other=answer.next_subject_id)).classes(
                "warning"
            )
        for candidate in answer.candidates if answer else ():
            draw_candidate(candidate, self._state.scale, say)
        if shown.identified and answer is not None:
            ui.button(say("look.not_this", subject=answer.subject_id)).props("flat no-caps dense").on(
                "click.stop", lambda _, f=shown.face, w=answer.subject_id: self._not_this_person(f, w)
            )
        if shown.compared and shown.nearest is None:
            ui.label(say("look.nobody") if answer else say("look.choose_face")).classes("soft")
        if shown.face:
            ui.label(quality_text(say, shown.face)).classes("soft")
        for broken in answer.breaches if answer else ():
            ui.label(breach_text(say, broken)).classes("warning")

    def _choose(self, number: int) -> None:
        self.chosen = None if self.chosen == number else number
        self._render_choice()

    def _render_choice(self) -> None:
        say = self._state.say
        for group in (self.boxes, self.cards):
            for number, element in enumerate(group):
                element.classes(**{"add" if number == self.chosen else "remove": "chosen"})
        if self.chosen is not None:
            self.target.text = say("look.enroll_one_of", number=self.chosen + 1, faces=len(self.results))
        elif len(self.results) > 1:
            self.target.text = say("look.enroll_choose")
        else:
            self.target.text = say("look.enroll_face") if self._state.takes_photos else say("look.enroll_picture")
        self._warn()

    def _warn(self) -> None:
        """Before enrolling: a face that is somebody already, under another name than is typed."""
        name = (self.name.value or "").strip()
        number = self.chosen if self.chosen is not None else 0 if len(self.results) == 1 else None
        nearest = self.results[number].nearest if number is not None else None
        self.warning.text = ""
        if not (nearest and name) or name == nearest.subject_id or self._state.tau is None:
            return
        if score(nearest) <= self._state.tau:
            known = {"subject": nearest.subject_id, "name": name, "distance": distance(score(nearest))}
            self.warning.text = self._state.say("look.known_already", **known)

    async def _enroll(self) -> None:
        gallery = self._state.gallery
        if not self.picture or not gallery or not self.labels.validate():
            return
        face = self.results[self.chosen].face if self.chosen is not None else None
        name, labels = self.name.value, self.labels.value
        self.outcome.clear()
        self.enroll.disable()
        try:
            with self._state.errors_shown_in(self.refusal, reraise=True):
                answer = await self._state.api.enroll(
                    gallery.id,
                    name.strip(),
                    self._example(self.picture, face),
                    labels=parse_labels(self._state.say, labels),
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
        for field, sent in ((self.name, name), (self.labels, labels)):
            if field.value == sent:  # else the next one is typed already
                field.value = ""
        self._render_outcome(answer)
        self.boxes.classes(remove="asked")
        await self._state.refresh()
        await self.look_again()

    def _render_outcome(self, answer: EnrollResponse) -> None:
        """What was enrolled, and what is doubtful about it; it stays until the next photo."""
        say = self._state.say
        with self.outcome:
            done = "enroll.created" if answer.created else "enroll.added"
            ui.label(say(done, subject=answer.subject_id)).classes("good")
            if answer.HasField("nearest_other"):
                ui.label(say("enroll.nearest", other=neighbour(answer.nearest_other))).classes("soft")
            for one in answer.doubts:
                ui.label(doubt_text(say, one)).classes("warning")

    async def _not_this_person(self, face: Face | None, subject_id: str) -> None:
        """Keep the face as a negative of the subject that it was taken for."""
        gallery = self._state.gallery
        if not self.picture or not gallery:
            return
        with self._state.errors_shown_in(self.refusal):
            await self._state.api.add_negative(gallery.id, subject_id, self._example(self.picture, face))
            ui.notify(self._state.say("look.kept_negative", subject=subject_id), type="positive")
            await self._state.refresh()
            await self.look_again()
