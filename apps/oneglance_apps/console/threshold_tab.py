"""The tab that judges and sets a gallery's threshold."""

import json
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from nicegui import ui

from oneglance.client.errors import NotFoundError, OneglanceError
from oneglance.client.requests import mate, photo, stranger
from oneglance.v1.common_pb2 import THRESHOLD_SOURCE_MODEL, Candidate, Encoding, Example
from oneglance.v1.gallery_pb2 import CalibrationProbe, Gallery
from oneglance_apps.console.charts import det_options, rate_options
from oneglance_apps.console.desk import TOO_LARGE, Desk, say
from oneglance_apps.console.parts import (
    SOURCES,
    calibrated_words,
    counted,
    draw_row,
    expected_words,
    fpir_words,
    percent,
    source_words,
    utc,
)
from oneglance_core.measures import DetPoint, Scores, det_curve

PROBES_AT_ONCE = 256


@dataclass(eq=False)
class Probe:
    """A picture given to Measure, encoded; the picture itself is gone."""

    encoding: Encoding
    person: str
    mated: bool
    nearest: str = ""
    distance: float = math.inf  # to the nearest subject


class ThresholdTab:
    """``on_change`` is awaited when the threshold is another."""

    def __init__(self, desk: Desk, on_change: Callable[[], Awaitable[None]]) -> None:
        self._desk = desk
        self._on_change = on_change
        self.probes: list[Probe] = []
        self.skipped: dict[str, int] = {}
        self.measured_revision = -1
        self.measuring: str | None = None  # the gallery that pictures are on their way for

    def forget(self) -> None:
        """Show nothing of a gallery."""
        self.probes, self.skipped, self.measuring = [], {}, None
        for label in (self.tau_refusal, self.measure_refusal, self.calibrated):
            label.text = ""
        self.tau_value.text = self.tau_words.text = self.measured.text = ""
        self.tau_input.value = None
        self.versions.clear()
        self.charts.clear()

    def build(self) -> None:
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
                        # Without min and max: NiceGUI would change what was typed, and it is to be refused.
                        self.target_fpir = ui.number("target FPIR, %", value=1).props("outlined dense")
                        ui.button("Try", on_click=lambda: self._calibrate(dry_run=True)).props("outline no-caps")
                        ui.button("Calibrate", on_click=lambda: self._calibrate(dry_run=False)).props(
                            "unelevated no-caps"
                        )
                    self.calibrated = ui.label().classes("calibrated")
                    self.measure_refusal = ui.label().classes("refusal")

    async def show(self) -> None:
        """The threshold in force, its versions and what it costs."""
        gallery = self._desk.gallery
        if gallery is None:
            return
        threshold = gallery.threshold
        if self._desk.tau is None:
            self.tau_value.text = "no τ"
            self.tau_words.text = "Nobody can be identified until one is set or calibrated."
        else:
            self.tau_value.text = f"τ {threshold.tau:.4f}"
            expected = expected_words(threshold, gallery.subject_count)
            self.tau_words.text = f"{source_words(threshold)}; expected FPIR: {expected}"
        evidence: tuple[float, float | None] | None = None
        with self._desk.refusals(self.tau_refusal):
            versions = await self._desk.api.list_thresholds(gallery.id)
            if not self._desk.is_shown(gallery):
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
            if threshold.source == THRESHOLD_SOURCE_MODEL and self._desk.encoder:
                manifest = json.loads((await self._desk.api.describe_model(self._desk.encoder.digest)).manifest_json)
                if fitted_by_model := manifest.get("threshold"):
                    evidence = fitted_by_model["fpir"], fitted_by_model["fnir"]
        if self.probes and self.measured_revision != gallery.revision:
            await self._identify_probes(gallery)
        if self._desk.is_shown(gallery):
            self._render_charts(gallery, evidence)

    async def _set_by_hand(self) -> None:
        if self.tau_input.value is None:
            self.tau_refusal.text = "Type a τ first; Clear goes back to the model's."
        else:
            await self._set_tau(self.tau_input.value)

    async def _set_tau(self, tau: float | None) -> None:
        if self._desk.gallery is None:
            return
        with self._desk.refusals(self.tau_refusal):
            await self._desk.api.set_threshold(self._desk.gallery.id, tau)
            await self._threshold_changed()

    async def _threshold_changed(self) -> None:
        await self._desk.refresh()
        await self.show()
        await self._on_change()

    def begin_measure(self, pictures: int) -> None:
        """``pictures`` are on their way."""
        self.measuring = self._desk.gallery.id if self._desk.gallery else None
        self.measured.text = f"{counted(pictures, 'picture')} on the way."

    async def measure_one(self, picture: bytes | None, person: str, *, mated: bool) -> None:
        """Encode one picture of a stranger, or of somebody enrolled."""
        gallery = self._desk.gallery
        if gallery is None or gallery.id != self.measuring:
            return
        digest = gallery.encoder_digest
        reason = TOO_LARGE
        if picture is not None:
            takes_photos = self._desk.encoder is not None and self._desk.encoder.takes_photos
            example = photo(picture, "largest") if takes_photos else Example(image=picture)
            try:
                (encoding,) = await self._desk.api.encode(example, encoder=digest)
            except OneglanceError as error:
                reason = self._desk.words(error)
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
        await self._desk.refresh()
        self.measured_revision = -1
        await self.show()

    async def _forget_probes(self) -> None:
        self.probes, self.skipped, self.calibrated.text = [], {}, ""
        await self.end_measure()

    async def _identify_probes(self, gallery: Gallery) -> None:
        with self._desk.refusals(self.measure_refusal):
            probes = self.probes[:]
            absent = set()
            for person in {probe.person for probe in probes if probe.mated}:
                try:
                    await self._desk.api.get_subject(gallery.id, person)
                except NotFoundError:
                    absent.add(person)
            left_out = {probe for probe in probes if probe.mated and probe.person in absent}
            kept = [probe for probe in probes if probe not in left_out]
            found: list[Candidate | None] = []
            for start in range(0, len(kept), PROBES_AT_ONCE):
                part = kept[start : start + PROBES_AT_ONCE]
                answer = await self._desk.api.identify(
                    gallery.id, *(p.encoding for p in part), max_candidates=1, tau=0.0
                )
                found += (result.candidates[0] if result.candidates else None for result in answer.results)
            if not self._desk.is_shown(gallery):
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
        strangers = [p.distance for p in probes if not p.mated]
        mates = [p.distance if p.nearest == p.person else math.inf for p in probes if p.mated]
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
            points: list[DetPoint] = []
            if strangers and mates:
                scores = Scores(np.array(mates), np.array(strangers))
                points = det_curve(scores)
                tau = self._desk.tau
                now = None if tau is None else (scores.fpir(tau), scores.fnir(tau))
                words = (
                    f"DET curve: enrolled people not identified (FNIR) against strangers let in (FPIR), as τ goes up. "
                    f"The left edge is none of {len(strangers):,}, the lower edge none of {len(mates):,}."
                )
            elif evidence:
                words = "Measured when this τ was calibrated. A curve needs probes: see Measure."
            else:
                words = "Nothing was measured at this τ. A curve needs probes: see Measure."
            if now is not None and self._desk.tau is not None:
                fnir = "FNIR not measured" if now[1] is None else f"FNIR {percent(now[1])}"
                ui.label(f"At τ {self._desk.tau:.4f}: FPIR {percent(now[0])}, {fnir}.").classes("at-tau")
            ui.label(words).classes("soft")
            fnir_now = None if now is None else now[1]
            if points or fnir_now is not None:
                mark = None if now is None or fnir_now is None else (now[0], fnir_now)
                floors = (0.5 / max(len(strangers), 1), 0.5 / max(len(mates), 1)) if points else (1e-4, 1e-4)
                ui.echart(det_options(points, mark, self._desk.tau, floors), renderer="svg").classes("chart det")
            if points:
                ui.echart(rate_options(points, self._desk.tau), renderer="svg").classes("chart rates")

    async def _calibrate(self, *, dry_run: bool) -> None:
        gallery, measured = self._desk.gallery, self.probes[:]
        target_fpir = (self.target_fpir.value or 0) / 100
        if gallery is None:
            return
        if not 0 < target_fpir < 1:
            say(self.measure_refusal, "The target FPIR must be more than 0 and less than 100 %.")
            return
        people = len({p.person or str(i) for i, p in enumerate(measured) if not p.mated})

        async def probes() -> AsyncIterator[CalibrationProbe]:
            for probe in measured:
                yield (mate if probe.mated else stranger)(probe.encoding, probe.person)

        with self._desk.refusals(self.measure_refusal):
            answer = await self._desk.api.calibrate(
                gallery.id,
                probes(),
                target_fpir=target_fpir,
                dry_run=dry_run,
                data=f"{counted(len(measured), 'photo')} given to the console, of {counted(people, 'stranger')}",
            )
            if not self._desk.is_shown(gallery):
                return
            self.calibrated.text = calibrated_words(answer, dry_run=dry_run)
            if not dry_run:
                await self._threshold_changed()
