"""One browser's page: look at a photo, browse a gallery, judge and set its threshold.

What names, labels and errors say is only ever set as text, never as HTML.
"""

import json
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from nicegui import Client, ui

from oneglance.client.async_client import MAX_MESSAGE_BYTES, AsyncClient
from oneglance.client.errors import NotFoundError, OneglanceError, UnavailableError
from oneglance.client.requests import mate, photo, stranger
from oneglance.v1.common_pb2 import THRESHOLD_SOURCE_MODEL, Candidate, Encoding, Example
from oneglance.v1.face_pb2 import Face, Photo
from oneglance.v1.gallery_pb2 import CalibrationProbe, Gallery
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, IdentifyResponse, IdentifyResult
from oneglance.v1.model_pb2 import Model
from oneglance.v1.subject_pb2 import Subject
from oneglance_server.console.charts import det_options, det_points, rate_options, rates
from oneglance_server.console.parts import (
    SOURCES,
    calibrated_words,
    counted,
    draw_box,
    draw_candidate,
    draw_entry,
    draw_row,
    draw_thumb,
    expected_words,
    fpir_words,
    parse_labels,
    percent,
    quality_words,
    source_words,
    utc,
)

HERE = Path(__file__).parent
# A call carries a picture and a little more.
MAX_PICTURE_BYTES = MAX_MESSAGE_BYTES - (64 << 10)
TOO_LARGE = f"The picture is larger than {MAX_PICTURE_BYTES >> 20} MiB, more than a call carries."
CANDIDATES = 3
SUBJECTS_AT_ONCE = 5000
SUBJECTS_ON_A_PAGE = 25
PROBES_AT_ONCE = 256
RETRY_SECONDS = 2.0  # while the server doesn't answer
EYE = (
    '<svg viewBox="0 0 32 32" xmlns="http://www.w3.org/2000/svg" fill="none" stroke="#17758a" stroke-width="2">'
    '<path d="M2 17C8 6 24 6 30 17C24 27 8 27 2 17Z"/><circle cx="16" cy="16.5" r="4.6" fill="#17758a" stroke="none"/>'
    "</svg>"
)


@dataclass(frozen=True)
class Seen:
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


@dataclass(eq=False)
class Probe:
    """A picture given to Measure, encoded; the picture itself is gone."""

    encoding: Encoding
    person: str
    mated: bool
    nearest: str = ""
    distance: float = math.inf  # to the nearest subject


class Page:
    """What one browser sees, and the photo it looks at."""

    def __init__(self, api: AsyncClient, client: Client) -> None:
        self.api = api
        self.client = client
        self.refusal: ui.label  # of the Look tab
        self.models: dict[str, Model] = {}
        self.gallery: Gallery | None = None
        self.picture: bytes | None = None
        self.seen: list[Seen] = []
        self.chosen: int | None = None
        self.subjects: list[Subject] = []
        self.listing: AsyncIterator[Subject] | None = None
        self.more_subjects = False
        self.subjects_from = 0
        self.probes: list[Probe] = []
        self.skipped: dict[str, int] = {}
        self.measured_revision = -1
        self.measuring: str | None = None  # the gallery that pictures are on their way for

    async def build(self) -> None:
        ui.add_head_html(f"<style>{(HERE / 'page.css').read_text()}</style>")
        script = (HERE / "page.js").read_text() + f"oneglance.page = {json.dumps(self.client.id)};"
        ui.add_body_html(f"<script>{script}</script>")
        with ui.element("header").classes("top"):
            ui.html(f"{EYE}<span>oneglance</span>", sanitize=False).classes("name")
            self.picker = ui.select([], label="gallery", on_change=self._pick).props("dense outlined options-dense")
            self.picker.classes("picker")
            ui.button("New gallery", on_click=self._new_gallery).props("flat no-caps dense").classes("new-gallery")
        self.trouble = ui.label().classes("refusal trouble")
        with ui.tabs().props("no-caps align=left inline-label narrow-indicator") as tabs:
            look, people, tau = ui.tab("Look"), ui.tab("People"), ui.tab("Threshold")
        tabs.set_value("Look")
        tabs.on_value_change(lambda event: self._open_tab(event.value))
        for tab, build in ((look, self._build_look), (people, self._build_people), (tau, self._build_threshold)):
            with ui.element("main").bind_visibility_from(tabs, "value", value=tab.props["name"]):
                build()
        self.retry = ui.timer(RETRY_SECONDS, lambda: self._load(self.picker.value), immediate=False)
        self._render_nothing()
        await self._load()

    # Galleries

    async def _load(self, choose: str | None = None) -> None:
        loaded = False
        with self._refusals(self.trouble):
            self.models = {model.digest: model for model in await self.api.list_models()}
            names = [gallery.id async for gallery in self.api.list_galleries()]
            loaded = True
        self.retry.active = not loaded
        if loaded:
            self.picker.set_options(names, value=choose if choose in names else next(iter(names), None))
            if not names:
                self._render_look()

    async def _pick(self) -> None:
        # Until the gallery that was picked is known there is none: nothing may be done to the one before.
        self._render_nothing()
        if await self._refresh_gallery():
            await self._show_gallery()

    def _render_nothing(self) -> None:
        self.gallery, self.seen, self.chosen = None, [], None
        self.subjects, self.listing, self.more_subjects = [], None, False
        self.probes, self.skipped, self.measuring = [], {}, None
        for label in (self.refusal, self.people_refusal, self.tau_refusal, self.measure_refusal, self.calibrated):
            label.text = ""
        self.filter.value = ""
        self._render_look()
        self._render_people()
        self.tau_value.text = self.tau_words.text = self.measured.text = ""
        self.tau_input.value = None
        self.versions.clear()
        self.charts.clear()

    async def _show_gallery(self) -> None:
        await self._look_again()
        await self._list_subjects()
        await self._show_threshold()

    async def _refresh_gallery(self) -> bool:
        """Whether ``gallery`` is now, and as of now, the one that is picked."""
        wanted = self.picker.value
        if wanted is None:
            return False
        refusal, gallery = "", None
        try:
            gallery = await self.api.get_gallery(wanted)
        except OneglanceError as error:
            refusal = self._words(error)
        if wanted != self.picker.value:  # another was picked meanwhile
            return False
        self.trouble.text = refusal
        if gallery is not None:
            self.gallery = gallery
        return gallery is not None

    def _is_shown(self, gallery: Gallery) -> bool:
        """Whether it is still the one that is picked, after a wait."""
        return self.gallery is not None and self.gallery.id == gallery.id

    async def _new_gallery(self) -> None:
        encoders = {model.name: model.name for model in self.models.values() if model.kind in ("", "encoder")}
        with ui.dialog() as dialog, ui.card().classes("dialog"):
            ui.label("New gallery").classes("title")
            name = ui.input("name").props("autofocus outlined dense")
            encoder = ui.select(encoders, label="encoder", value=next(iter(encoders), None)).props("outlined dense")
            description = ui.input("description").props("outlined dense")
            ui.label("A gallery keeps its encoder for life.").classes("soft")
            refusal = ui.label().classes("refusal")

            async def create() -> None:
                with self._refusals(refusal):
                    gallery = await self.api.create_gallery(
                        name.value.strip(), encoder=encoder.value or "", description=description.value
                    )
                    dialog.close()
                    await self._load(choose=gallery.id)

            with ui.row().classes("actions"):
                ui.button("Create", on_click=create).props("unelevated no-caps")
                ui.button("Cancel", on_click=dialog.close).props("flat no-caps")
        dialog.on("hide", dialog.delete)
        dialog.open()

    async def _open_tab(self, tab: str) -> None:
        before = self.gallery
        if not await self._refresh_gallery():
            return
        if before is None:  # it could not be had when it was picked
            await self._show_gallery()
        elif tab == "People":
            await self._list_subjects()
        elif tab == "Threshold":
            await self._show_threshold()

    @property
    def encoder(self) -> Model | None:
        """The gallery's, when it is loaded."""
        return self.models.get(self.gallery.encoder_digest) if self.gallery else None

    @property
    def tau(self) -> float | None:
        return self.gallery.threshold.tau if self.gallery and self.gallery.HasField("threshold") else None

    # Look

    def _build_look(self) -> None:
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
                        lambda event: self._say(self.refusal, event.args),
                        js_handler="() => oneglance.takePhoto(emit)",
                    )
                    self.small_faces = ui.switch("small faces, too", on_change=self._look_again).props("dense")
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
        await self._look_again()
        if picture is None:
            self._say(self.refusal, TOO_LARGE)

    async def _look_again(self) -> None:
        picture, gallery, answer = self.picture, self.gallery, None
        self.seen, self.chosen = [], None
        if picture and gallery:
            with self._refusals(self.refusal):
                # Without a tau nobody can be identified; the distances are worth seeing all the same.
                answer = await self.api.identify(
                    gallery.id,
                    self._example(picture),
                    max_candidates=CANDIDATES,
                    tau=None if self.tau is not None else 0.0,
                )
        if picture is not self.picture or (gallery and not self._is_shown(gallery)):
            return  # a later photo, or another gallery, came first
        if answer:
            self.seen = [Seen(r.face if r.HasField("face") else None, r) for r in answer.results]
        self._render_look(answer)

    def _example(self, picture: bytes, face: Face | None = None) -> Example:
        if self.encoder is None or not self.encoder.takes_photos:
            return Example(image=picture)
        which = (face.box.x, face.box.y, face.box.width, face.box.height) if face else None
        return photo(picture, which, "always" if self.small_faces.value else "when-none")

    def _render_look(self, answer: IdentifyResponse | None = None) -> None:
        self.summary.text = self._summary(answer)
        self.enroll_form.visible = bool(self.picture and self.gallery)
        self._render_faces(answer.photos[0] if answer and 0 in answer.photos else None)
        self.basis.clear()
        if answer:
            provenance = answer.provenance
            model = self.models.get(provenance.encoder_digest)
            with self.basis:
                if self.tau is not None:
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
        if self.gallery is None:
            return "" if self.retry.active or self.picker.options else "No gallery is there yet. Create one first."
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
        if self.tau is None:
            words += " There is no τ yet, so nobody can be identified: set one under Threshold."
        return words

    def _render_faces(self, seen_in: Photo | None) -> None:
        self.boxes.clear()
        self.cards.clear()
        distances = [c.distance for s in self.seen if s.result for c in s.result.candidates]
        scale = max(2 * (self.tau or 0), 1.05 * max(distances, default=0), 1e-9)
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
                        draw_candidate(candidate, self.tau, scale)
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
                "Enroll this face" if self.encoder and self.encoder.takes_photos else "Enroll this picture"
            )

    async def _enroll(self) -> None:
        gallery = self.gallery
        if not self.picture or not gallery:
            return
        face = self.seen[self.chosen].face if self.chosen is not None else None
        try:
            with self._refusals(self.refusal, reraise=True):
                answer = await self.api.enroll(
                    gallery.id,
                    self.name.value.strip(),
                    self._example(self.picture, face),
                    labels=parse_labels(self.labels.value),
                )
        except OneglanceError as error:
            if error.photo is not None and error.photo.faces and self._is_shown(gallery):
                if len(self.seen) != len(error.photo.faces):
                    self.seen, self.chosen = [Seen(face, None) for face in error.photo.faces], None
                    self._render_faces(error.photo)
                self.boxes.classes("asked")
            return
        ui.notify(f"{answer.subject_id}: {'enrolled' if answer.created else 'one more encoding'}", type="positive")
        self.name.value = self.labels.value = ""
        self.boxes.classes(remove="asked")
        await self._refresh_gallery()
        await self._look_again()

    # People

    def _build_people(self) -> None:
        with ui.element("section").classes("people"):
            with ui.row().classes("actions"):
                self.filter = ui.input("id starts with", on_change=self._filtered).props("outlined dense clearable")
                self.count = ui.label().classes("soft")
            self.people_refusal = ui.label().classes("refusal")
            with ui.element("div").classes("scroll"):
                self.rows = ui.element("table")
            with ui.row().classes("actions"):
                self.back = ui.button("Back", on_click=lambda: self._turn(-1)).props("flat no-caps dense")
                self.next = ui.button("Next", on_click=lambda: self._turn(1)).props("flat no-caps dense")
                self.more = ui.button(f"Load {SUBJECTS_AT_ONCE:,} more", on_click=self._load_more)
                self.more.props("flat no-caps dense")

    async def _list_subjects(self) -> None:
        if self.gallery:
            self.subjects, self.subjects_from = [], 0
            self.listing = self.api.list_subjects(self.gallery.id)
            await self._load_more()

    async def _load_more(self) -> None:
        listing, subjects = self.listing, self.subjects
        assert listing is not None
        until = len(subjects) + SUBJECTS_AT_ONCE
        more = False
        with self._refusals(self.people_refusal):
            async for subject in listing:
                subjects.append(subject)
                if len(subjects) >= until:
                    more = True
                    break
        if listing is self.listing:
            self.more_subjects = more
            self._render_people()

    def _filtered(self) -> None:
        self.subjects_from = 0
        self._render_people()

    def _turn(self, pages: int) -> None:
        self.subjects_from += pages * SUBJECTS_ON_A_PAGE
        self._render_people()

    def _render_people(self) -> None:
        found = [s for s in self.subjects if s.id.startswith(self.filter.value or "")]
        start, end = self.subjects_from, self.subjects_from + SUBJECTS_ON_A_PAGE
        total = self.gallery.subject_count if self.gallery else 0
        loaded = "" if not self.more_subjects else f" of the first {len(self.subjects):,}, of {total:,} in all"
        shown = f"{start + 1:,} to {min(end, len(found)):,} of " if len(found) > SUBJECTS_ON_A_PAGE else ""
        self.count.text = f"{shown}{counted(len(found), 'subject')}{loaded}"
        self.back.visible, self.next.visible, self.more.visible = start > 0, end < len(found), self.more_subjects
        self.rows.clear()
        with self.rows:
            draw_row("th", "id", "labels", "encodings", "enrolled", "changed", "")
            for subject in found[start:end]:
                labels = ", ".join(f"{key}={value}" for key, value in sorted(subject.labels.items()))
                times = (utc(subject.create_time), utc(subject.update_time))
                cells = draw_row("td", subject.id, labels, f"{len(subject.encodings):,}", *times, "")
                with cells[-1]:
                    ui.button("Delete", on_click=lambda _, s=subject: self._delete(s)).props(
                        "flat no-caps dense color=negative"
                    )

    async def _delete(self, subject: Subject) -> None:
        gallery = self.gallery
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
            with self._refusals(self.people_refusal):
                await self.api.delete_subject(gallery.id, subject.id)
                at = self.subjects_from
                await self._refresh_gallery()
                await self._list_subjects()
                self.subjects_from = min(at, max(0, len(self.subjects) - 1) // SUBJECTS_ON_A_PAGE * SUBJECTS_ON_A_PAGE)
                self._render_people()
                await self._look_again()

    # Threshold

    def _build_threshold(self) -> None:
        with ui.element("section").classes("threshold"):
            with ui.element("div").classes("left"):
                self.tau_value = ui.label().classes("figure")
                self.tau_words = ui.label().classes("soft tau-words")
                with ui.row().classes("actions"):
                    self.tau_input = ui.number("τ, squared L2", min=0, step=0.01, format="%.4f").props("outlined dense")
                    ui.button("Set by hand", on_click=self._set_by_hand).props("unelevated no-caps")
                    ui.button("Clear", on_click=lambda: self._set_tau(None)).props("flat no-caps").tooltip(
                        "Go back to the model's"
                    )
                self.tau_refusal = ui.label().classes("refusal")
                ui.label("Versions").classes("title")
                with ui.element("div").classes("scroll"):
                    self.versions = ui.element("table").classes("versions")
            with ui.element("div").classes("right"):
                self.charts = ui.element("div").classes("charts")
                with ui.element("div").classes("sheet"):
                    ui.label("Measure").classes("title")
                    ui.label(
                        "Folders of PERSON/photo.jpg. Only the encodings are kept, and only until this page ends. "
                        "Photos of enrolled people must be others than those enrolled."
                    ).classes("soft")
                    with ui.row().classes("actions"):
                        for text, mated in (("Strangers", "false"), ("Enrolled people", "true")):
                            ui.button(text).props("outline no-caps").on(
                                "click", js_handler=f"() => oneglance.chooseProbes({mated})"
                            )
                        ui.button("Forget", on_click=self._forget_probes).props("flat no-caps")
                    self.measured = ui.label().classes("measured")
                    with ui.row().classes("actions"):
                        self.target_fpir = ui.number("target FPIR, %", value=1, min=0.001, max=99).props(
                            "outlined dense"
                        )
                        ui.button("Try", on_click=lambda: self._calibrate(dry_run=True)).props("outline no-caps")
                        ui.button("Calibrate", on_click=lambda: self._calibrate(dry_run=False)).props(
                            "unelevated no-caps"
                        )
                    self.calibrated = ui.label().classes("calibrated")
                    self.measure_refusal = ui.label().classes("refusal")

    async def _show_threshold(self) -> None:
        gallery = self.gallery
        if gallery is None:
            return
        threshold = gallery.threshold
        if self.tau is None:
            self.tau_value.text = "no τ"
            self.tau_words.text = "Nobody can be identified until one is set or calibrated."
        else:
            self.tau_value.text = f"τ {threshold.tau:.4f}"
            expected = expected_words(threshold, gallery.subject_count)
            self.tau_words.text = f"{source_words(threshold)}; expected FPIR: {expected}"
        evidence: tuple[float, float | None] | None = None
        with self._refusals(self.tau_refusal):
            versions = await self.api.list_thresholds(gallery.id)
            if not self._is_shown(gallery):
                return
            self.versions.clear()
            with self.versions:
                draw_row("th", "", "τ", "where from", "FPIR measured", "FNIR", "set")
                for version in versions:
                    fitted = version.HasField("calibration")
                    calibration = version.calibration
                    cleared = not version.HasField("threshold")
                    draw_row(
                        "td",
                        str(version.version),
                        "cleared" if cleared else f"{version.threshold.tau:.4f}",
                        SOURCES.get(version.threshold.source, ""),
                        fpir_words(calibration) if fitted else "",
                        percent(calibration.fnir) if fitted and calibration.HasField("fnir") else "",
                        utc(version.set_time),
                    )
                    if fitted and str(version.version) == threshold.id:
                        evidence = calibration.fpir, calibration.fnir if calibration.HasField("fnir") else None
            if threshold.source == THRESHOLD_SOURCE_MODEL and self.encoder:
                manifest = json.loads((await self.api.describe_model(self.encoder.digest)).manifest_json)
                if fitted_by_model := manifest.get("threshold"):
                    evidence = fitted_by_model["fpir"], fitted_by_model["fnir"]
        if self.probes and self.measured_revision != gallery.revision:
            await self._identify_probes(gallery)
        if self._is_shown(gallery):
            self._render_charts(gallery, evidence)

    async def _set_by_hand(self) -> None:
        if self.tau_input.value is None:
            self.tau_refusal.text = "Type a τ first; Clear goes back to the model's."
        else:
            await self._set_tau(self.tau_input.value)

    async def _set_tau(self, tau: float | None) -> None:
        if self.gallery is None:
            return
        with self._refusals(self.tau_refusal):
            await self.api.set_threshold(self.gallery.id, tau)
            await self._threshold_changed()

    async def _threshold_changed(self) -> None:
        await self._refresh_gallery()
        await self._show_threshold()
        await self._look_again()

    def begin_measure(self, pictures: int) -> None:
        """``pictures`` are on their way."""
        self.measuring = self.gallery.id if self.gallery else None
        self.measured.text = f"{counted(pictures, 'picture')} on the way."

    async def measure_one(self, picture: bytes | None, person: str, *, mated: bool) -> None:
        """Encode one picture of a stranger, or of somebody enrolled."""
        gallery = self.gallery
        if gallery is None or gallery.id != self.measuring:
            return
        digest = gallery.encoder_digest
        reason = TOO_LARGE
        if picture is not None:
            takes_photos = self.encoder is not None and self.encoder.takes_photos
            example = photo(picture, "largest") if takes_photos else Example(image=picture)
            try:
                (encoding,) = await self.api.encode(example, encoder=digest)
            except OneglanceError as error:
                reason = self._words(error)
            else:
                if gallery.id != self.measuring:
                    return
                self.probes.append(Probe(encoding, person, mated))
                self.measured_revision = -1
                reason = ""
        if reason:
            self.skipped[reason] = self.skipped.get(reason, 0) + 1
        self.measured.text = f"{counted(len(self.probes), 'picture')} encoded."

    async def end_measure(self) -> None:
        """All pictures have come."""
        await self._refresh_gallery()
        self.measured_revision = -1
        await self._show_threshold()

    async def _forget_probes(self) -> None:
        self.probes, self.skipped, self.calibrated.text = [], {}, ""
        await self.end_measure()

    async def _identify_probes(self, gallery: Gallery) -> None:
        with self._refusals(self.measure_refusal):
            probes = self.probes[:]
            absent = set()
            for person in {probe.person for probe in probes if probe.mated}:
                try:
                    await self.api.get_subject(gallery.id, person)
                except NotFoundError:
                    absent.add(person)
            left_out = {probe for probe in probes if probe.mated and probe.person in absent}
            kept = [probe for probe in probes if probe not in left_out]
            found: list[Candidate | None] = []
            for start in range(0, len(kept), PROBES_AT_ONCE):
                part = kept[start : start + PROBES_AT_ONCE]
                answer = await self.api.identify(gallery.id, *(p.encoding for p in part), max_candidates=1, tau=0.0)
                found += (result.candidates[0] if result.candidates else None for result in answer.results)
            if not self._is_shown(gallery):
                return
            for probe, nearest in zip(kept, found, strict=True):
                probe.nearest, probe.distance = (nearest.subject_id, nearest.distance) if nearest else ("", math.inf)
            if left_out:
                self.skipped[f"nobody of that name is enrolled: {', '.join(sorted(absent))}"] = len(left_out)
            # More may have come meanwhile; they are measured when all are here.
            self.probes = [probe for probe in self.probes if probe not in left_out]
            if len(self.probes) == len(kept):
                self.measured_revision = gallery.revision

    def _render_charts(self, gallery: Gallery, evidence: tuple[float, float | None] | None) -> None:
        probes = self.probes if self.measured_revision == gallery.revision else []
        strangers = sorted(p.distance for p in probes if not p.mated)
        mates = sorted(p.distance if p.nearest == p.person else math.inf for p in probes if p.mated)
        self.measured.text = ""
        if probes:
            people = len({p.person or str(i) for i, p in enumerate(probes) if not p.mated})
            self.measured.text = (
                f"{counted(len(strangers), 'photo')} of {counted(people, 'stranger')}, "
                f"{counted(len(mates), 'photo')} of enrolled people."
            )
        if self.skipped:
            reasons = "; ".join(f"{count} × {reason}" for reason, count in islice(self.skipped.items(), 5))
            self.measured.text += f" Left out: {reasons}"
        self.charts.clear()
        with self.charts:
            ui.label("What τ costs").classes("title")
            now: tuple[float, float | None] | None = evidence
            points: list[tuple[float, float, float]] = []
            if strangers and mates:
                points = det_points(strangers, mates)
                now = None if self.tau is None else rates(self.tau, strangers, mates)
                words = (
                    f"DET curve: enrolled people not identified (FNIR) against strangers let in (FPIR), as τ goes up. "
                    f"The left edge is none of {len(strangers):,}, the lower edge none of {len(mates):,}."
                )
            elif evidence:
                words = "Measured when this τ was calibrated. A curve needs probes: see Measure."
            else:
                words = "Nothing was measured at this τ. A curve needs probes: see Measure."
            if now is not None and self.tau is not None:
                fnir = "FNIR not measured" if now[1] is None else f"FNIR {percent(now[1])}"
                ui.label(f"At τ {self.tau:.4f}: FPIR {percent(now[0])}, {fnir}.").classes("at-tau")
            ui.label(words).classes("soft")
            fnir_now = None if now is None else now[1]
            if points or fnir_now is not None:
                mark = None if now is None or fnir_now is None else (now[0], fnir_now)
                floors = (0.5 / max(len(strangers), 1), 0.5 / max(len(mates), 1)) if points else (1e-4, 1e-4)
                ui.echart(det_options(points, mark, self.tau, floors), renderer="svg").classes("chart det")
            if points:
                ui.echart(rate_options(points, self.tau), renderer="svg").classes("chart rates")

    async def _calibrate(self, *, dry_run: bool) -> None:
        gallery, measured = self.gallery, self.probes[:]
        target_fpir = (self.target_fpir.value or 0) / 100
        if gallery is None:
            return
        if not 0 < target_fpir < 1:
            self._say(self.measure_refusal, "The target FPIR must be more than 0 and less than 100 %.")
            return
        people = len({p.person or str(i) for i, p in enumerate(measured) if not p.mated})

        async def probes() -> AsyncIterator[CalibrationProbe]:
            for probe in measured:
                yield (mate if probe.mated else stranger)(probe.encoding, probe.person)

        with self._refusals(self.measure_refusal):
            answer = await self.api.calibrate(
                gallery.id,
                probes(),
                target_fpir=target_fpir,
                dry_run=dry_run,
                data=f"{counted(len(measured), 'photo')} given to the console, of {counted(people, 'stranger')}",
            )
            if not self._is_shown(gallery):
                return
            self.calibrated.text = calibrated_words(answer, dry_run=dry_run)
            if not dry_run:
                await self._threshold_changed()

    # Words

    def _words(self, error: OneglanceError) -> str:
        if isinstance(error, UnavailableError) and not error.reason:
            return f"The server at {self.api.target} does not answer."
        # Where in the request it was wrong says nothing to a person who sees no request.
        words = "; ".join(text for _, text in error.field_violations) or error.message
        return words[:1].upper() + words[1:]

    @staticmethod
    def _say(where: ui.label, words: str) -> None:
        where.text = words

    @contextmanager
    def _refusals(self, where: ui.label, *, reraise: bool = False) -> Iterator[None]:
        """Show what the server refuses in words."""
        where.text = ""
        try:
            yield
        except OneglanceError as error:
            where.text = self._words(error)
            if reraise:
                raise
