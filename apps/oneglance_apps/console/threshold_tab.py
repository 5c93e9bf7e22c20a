"""The tab that judges and sets a gallery's threshold, and sets its quality policy."""

import json
from collections.abc import Awaitable, Callable

import numpy as np
from nicegui import ui

from oneglance.client.errors import OneglanceError
from oneglance.v1.common_pb2 import DECIDED_BY_PROBABILITY, THRESHOLD_SOURCE_MODEL
from oneglance.v1.gallery_pb2 import Gallery, ThresholdVersion
from oneglance_apps.console.charts import det_options, rate_options
from oneglance_apps.console.elements import draw_row
from oneglance_apps.console.page_state import TOO_LARGE, PageState
from oneglance_apps.console.probe_set import ProbeSet
from oneglance_apps.console.quality_choice import QualityChoice
from oneglance_apps.console.wording import (
    SOURCES,
    calibration_text,
    expected_fpir_text,
    fpir_text,
    percent,
    source_text,
    utc,
)
from oneglance_apps.text import counted, distance, fusion_name, policy_name
from oneglance_core.defaults import TARGET_FPIR
from oneglance_core.faces.quality import QualityPolicy
from oneglance_core.measures import DetPoint, Scores, det_curve

UNMEASURED_FLOOR = 1e-4  # lowest rate of the DET chart when there are no probes
MeasuredRates = tuple[float, float | None]
"""FPIR and FNIR at the threshold in force; FNIR None: not measured."""


class ThresholdTab:
    """``on_change`` is awaited when the threshold has changed."""

    def __init__(self, state: PageState, on_change: Callable[[], Awaitable[None]]) -> None:
        self._state = state
        self._on_change = on_change
        self.quality = QualityChoice(self._set_quality_policy)
        self._probes = ProbeSet()
        self._receiving_for: str | None = None  # the gallery that pictures are being sent for

    def clear(self) -> None:
        """Show nothing, until a gallery is known."""
        self._probes, self._receiving_for = ProbeSet(), None
        for label in (self.tau_refusal, self.quality_refusal, self.measure_refusal, self.calibrated):
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
                    self.tau_input = ui.number("τ, squared L2", step=0.01, format="%.4f").props("outlined dense")
                    ui.button("Set by hand", on_click=self._set_by_hand).props("unelevated no-caps")
                    ui.button("Clear", on_click=lambda: self._set_tau(None)).props("flat no-caps").tooltip(
                        "Go back to the model's"
                    )
                self.tau_refusal = ui.label().classes("refusal")
                with ui.element("div") as self.quality_part:
                    ui.label("Faces that may be enrolled").classes("title")
                    self.quality.build()
                    self.quality_refusal = ui.label().classes("refusal")
                ui.label("Versions").classes("title")
                with ui.element("div").classes("scroll"):
                    self.versions = ui.element("table").classes("versions")
            with ui.element("div").classes("right"):
                self.charts = ui.element("div").classes("charts")
                self._build_measure()

    def _build_measure(self) -> None:
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
                # Without min and max: with them NiceGUI silently changes a wrong value, which must be refused.
                self.target_fpir = ui.number("target FPIR, %", value=100 * TARGET_FPIR).props("outlined dense")
                ui.button("Try", on_click=lambda: self._calibrate(dry_run=True)).props("outline no-caps")
                ui.button("Calibrate", on_click=lambda: self._calibrate(dry_run=False)).props("unelevated no-caps")
            self.calibrated = ui.label().classes("calibrated")
            self.measure_refusal = ui.label().classes("refusal")

    async def show(self) -> None:
        """Show the threshold in force, its versions, and its error rates."""
        gallery = self._state.gallery
        if gallery is None:
            return
        threshold = gallery.threshold
        self.quality_part.visible = self._state.takes_photos
        self.quality.show(policy_name(gallery.quality_policy))
        if self._state.tau is None:
            self.tau_value.text = "no τ"
            self.tau_words.text = "Nobody can be identified until one is set or calibrated."
        else:
            self.tau_value.text = f"τ {distance(threshold.tau)}"
            expected = expected_fpir_text(threshold, gallery.subject_count)
            rule = fusion_name(gallery.fusion)
            decided = "; 1 - probability decides" if gallery.decided_by == DECIDED_BY_PROBABILITY else ""
            self.tau_words.text = (
                f"{source_text(threshold)}; expected FPIR: {expected}; examples fused by {rule}{decided}"
            )
        calibrated_rates: MeasuredRates | None = None
        with self._state.errors_shown_in(self.tau_refusal):
            versions = await self._state.api.list_thresholds(gallery.id)
            if not self._state.is_shown(gallery):
                return
            self._draw_versions(versions)
            calibrated_rates = await self._rates_of_calibration(gallery, versions)
        if self._probes and self._probes.searched_revision != gallery.revision:
            with self._state.errors_shown_in(self.measure_refusal):
                await self._probes.search(self._state.api, gallery)
        if self._state.is_shown(gallery):
            self._draw_measured(gallery, calibrated_rates)

    def _draw_versions(self, versions: list[ThresholdVersion]) -> None:
        self.versions.clear()
        with self.versions:
            draw_row("th", "", "τ", "where from", "enrolled", "FPIR measured", "FNIR", "set")
            for version in versions:
                calibration = version.calibration if version.HasField("calibration") else None
                draw_row(
                    "td",
                    str(version.version),
                    distance(version.threshold.tau) if version.HasField("threshold") else "cleared",
                    SOURCES.get(version.threshold.source, ""),
                    str(version.subject_count) if version.HasField("subject_count") else "",
                    fpir_text(calibration) if calibration else "",
                    percent(calibration.fnir) if calibration and calibration.HasField("fnir") else "",
                    utc(version.set_time),
                )

    async def _rates_of_calibration(self, gallery: Gallery, versions: list[ThresholdVersion]) -> MeasuredRates | None:
        """The rates measured when the threshold in force was calibrated, on the gallery or with the model."""
        threshold = gallery.threshold
        for version in versions:
            if version.HasField("calibration") and str(version.version) == threshold.id:
                calibration = version.calibration
                return calibration.fpir, calibration.fnir if calibration.HasField("fnir") else None
        if threshold.source == THRESHOLD_SOURCE_MODEL and self._state.encoder:
            manifest = json.loads((await self._state.api.describe_model(self._state.encoder.digest)).manifest_json)
            if (fitted := manifest.get("threshold")) and fitted["tau"] == threshold.tau:
                return fitted["fpir"], fitted["fnir"]
        return None

    async def _set_by_hand(self) -> None:
        if self.tau_input.value is None:
            self.tau_refusal.text = "Type a τ first; Clear goes back to the model's."
        else:
            await self._set_tau(self.tau_input.value)

    async def _set_tau(self, tau: float | None) -> None:
        if self._state.gallery is None:
            return
        with self._state.errors_shown_in(self.tau_refusal):
            await self._state.api.set_threshold(self._state.gallery.id, tau)
            await self._threshold_changed()

    async def _set_quality_policy(self, policy: QualityPolicy) -> None:
        gallery = self._state.gallery
        if gallery is None:
            return
        with self._state.errors_shown_in(self.quality_refusal):
            await self._state.api.set_quality_policy(gallery.id, policy)
        await self._threshold_changed()

    async def _threshold_changed(self) -> None:
        await self._state.refresh()
        await self.show()
        await self._on_change()

    def begin_measure(self, pictures: int) -> None:
        """The browser begins to send so many pictures, for ``measure_one``."""
        self._receiving_for = self._state.gallery.id if self._state.gallery else None
        self.measured.text = f"{counted(pictures, 'picture')} on the way."

    async def measure_one(self, picture: bytes | None, person: str, *, mated: bool) -> None:
        """Encode a picture of a stranger, or of the enrolled ``person``. None: a picture that is too large."""
        gallery = self._state.gallery
        if gallery is None or gallery.id != self._receiving_for:
            return
        if picture is None:
            self._probes.leave_out(TOO_LARGE)
        else:
            example = self._state.example(picture, "largest")
            try:
                (encoding,) = (await self._state.api.encode(example, encoder=gallery.encoder_digest)).encodings
            except OneglanceError as error:
                self._probes.leave_out(self._state.error_text(error))
            else:
                if gallery.id != self._receiving_for:
                    return
                self._probes.add(encoding, person, mated=mated)
        self.measured.text = f"{counted(len(self._probes), 'picture')} encoded."

    async def end_measure(self) -> None:
        """The browser has sent all pictures."""
        await self._state.refresh()
        self._probes.searched_revision = None
        await self.show()

    async def _forget_probes(self) -> None:
        self._probes = ProbeSet()
        self.calibrated.text = ""
        await self.end_measure()

    def _draw_measured(self, gallery: Gallery, calibrated_rates: MeasuredRates | None) -> None:
        """Rates at the threshold in force, and curves: of the probes; without them the rates of the calibration."""
        probes = self._probes if self._probes.searched_revision == gallery.revision else ProbeSet()
        strangers, mates = probes.stranger_scores(), probes.mate_scores()
        self.measured.text = (probes.summary() if probes else "") + self._probes.left_out_summary()
        tau = self._state.tau
        self.charts.clear()
        with self.charts:
            ui.label("What τ costs").classes("title")
            rates_now = calibrated_rates
            points: list[DetPoint] = []
            if strangers and mates:
                scores = Scores(np.array(mates), np.array(strangers))
                points = det_curve(scores)
                rates_now = None if tau is None else (scores.fpir(tau), scores.fnir(tau))
                explanation = (
                    f"DET curve: enrolled people not identified (FNIR) against strangers let in (FPIR), as τ goes up. "
                    f"The left edge is none of {len(strangers):,}, the lower edge none of {len(mates):,}."
                )
            elif calibrated_rates:
                explanation = "Measured when this τ was calibrated. A curve needs probes: see Measure."
            else:
                explanation = "Nothing was measured at this τ. A curve needs probes: see Measure."
            if rates_now is not None and tau is not None:
                fnir = "FNIR not measured" if rates_now[1] is None else f"FNIR {percent(rates_now[1])}"
                ui.label(f"At τ {distance(tau)}: FPIR {percent(rates_now[0])}, {fnir}.").classes("at-tau")
            ui.label(explanation).classes("soft")
            mark = None if rates_now is None or rates_now[1] is None else (rates_now[0], rates_now[1])
            if points or mark:
                floors = (0.5 / len(strangers), 0.5 / len(mates)) if points else (UNMEASURED_FLOOR, UNMEASURED_FLOOR)
                ui.echart(det_options(points, mark, tau, floors), renderer="svg").classes("chart det")
            if points:
                ui.echart(rate_options(points, tau), renderer="svg").classes("chart rates")

    async def _calibrate(self, *, dry_run: bool) -> None:
        gallery = self._state.gallery
        target_fpir = (self.target_fpir.value or 0) / 100
        if gallery is None:
            return
        if not 0 < target_fpir < 1:
            self.measure_refusal.text = "The target FPIR must be more than 0 and less than 100 %."
            return
        photos, strangers = counted(len(self._probes), "photo"), counted(self._probes.stranger_count(), "stranger")
        with self._state.errors_shown_in(self.measure_refusal):
            answer = await self._state.api.calibrate(
                gallery.id,
                self._probes.for_calibration(),
                target_fpir=target_fpir,
                dry_run=dry_run,
                data=f"{photos} given to the console, of {strangers}",
            )
            if not self._state.is_shown(gallery):
                return
            self.calibrated.text = calibration_text(answer, dry_run=dry_run)
            if not dry_run:
                await self._threshold_changed()
