"""The tab that judges and sets a gallery's threshold, and sets its quality policy."""

import json
from collections.abc import Awaitable, Callable

import numpy as np
from nicegui import ui

from oneglance.client.errors import OneglanceError
from oneglance.v1.common_pb2 import DECIDED_BY_PROBABILITY, THRESHOLD_SOURCE_MODEL
from oneglance.v1.gallery_pb2 import Gallery, ThresholdVersion
from oneglance_apps.console.charts import det_options, rate_options
from oneglance_apps.console.elements import draw_heading, draw_row
from oneglance_apps.console.page_state import PageState, refusal_label
from oneglance_apps.console.probe_set import ProbeSet
from oneglance_apps.console.quality_choice import QualityChoice
from oneglance_apps.console.wording import (
    calibration_text,
    fpir_interval,
    fpir_text,
    percent,
    source_name,
    source_text,
    utc,
)
from oneglance_apps.text import counted, distance, fusion_name, joined, policy_name
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
        self.quality = QualityChoice(state.say, self._set_quality_policy)
        self._probes = ProbeSet()
        self._receiving_for: str | None = None  # the gallery that pictures are being sent for

    def clear(self) -> None:
        """Show nothing, until a gallery is known."""
        self._probes, self._receiving_for = ProbeSet(), None
        for label in (self.tau_refusal, self.quality_refusal, self.measure_refusal, self.calibrated):
            label.text = ""
        self.tau_value.text = self.tau_words.text = self.measured.text = self.move.text = ""
        self.rate.text = self.rate_words.text = ""
        self.tau_input.value = None
        self.versions.clear()
        self.charts.clear()

    def build(self) -> None:
        say = self._state.say
        with ui.element("section").classes("threshold"):
            with ui.element("div").classes("left"):
                with ui.element("div").classes("figures"):
                    with ui.element("div"):
                        self.tau_value = ui.label().classes("figure")
                        self.tau_words = ui.label().classes("soft tau-words")
                    with ui.element("div"):
                        self.rate = ui.label().classes("figure rate")
                        self.rate_words = ui.label().classes("soft tau-words")
                self.move = ui.label().classes("move").props("role=status")
                self.move.bind_visibility_from(self.move, "text", backward=bool)
                with ui.row().classes("actions"):
                    self.tau_input = ui.number(say("tau.field"), step=0.01, format="%.4f").props("outlined dense")
                    ui.button(say("tau.set"), on_click=self._set_by_hand).props("unelevated no-caps")
                    ui.button(say("tau.clear"), on_click=lambda: self._set_tau(None)).props("flat no-caps").tooltip(
                        say("tau.clear_tip")
                    )
                self.tau_refusal = refusal_label()
                with ui.element("div") as self.quality_part:
                    draw_heading(say("quality.title"))
                    self.quality.build()
                    self.quality_refusal = refusal_label()
                draw_heading(say("tau.versions"))
                with ui.element("div").classes("scroll").props("tabindex=0"):
                    self.versions = ui.element("table").classes("versions")
            with ui.element("div").classes("right"):
                self.charts = ui.element("div").classes("charts")
                self._build_measure()

    def _build_measure(self) -> None:
        say = self._state.say
        with ui.element("div").classes("sheet"):
            draw_heading(say("measure.title"))
            ui.label(say("measure.how")).classes("soft")
            with ui.row().classes("actions"):
                for text, mated in (("measure.strangers", "false"), ("measure.mates", "true")):
                    ui.button(say(text)).props("outline no-caps").on(
                        "click", js_handler=f"() => oneglance.chooseProbes({mated})"
                    )
                ui.button(say("measure.forget"), on_click=self._forget_probes).props("flat no-caps")
            self.measured = ui.label().classes("measured").props("role=status")
            with ui.row().classes("actions"):
                # Without min and max: with them NiceGUI silently changes a wrong value, which must be refused.
                self.target_fpir = ui.number(say("calibrate.target"), value=100 * TARGET_FPIR).props("outlined dense")
                ui.button(say("calibrate.try"), on_click=lambda: self._calibrate(dry_run=True)).props("outline no-caps")
                ui.button(say("calibrate.do"), on_click=lambda: self._calibrate(dry_run=False)).props(
                    "unelevated no-caps"
                )
            self.calibrated = ui.label().classes("calibrated").props("role=status")
            self.measure_refusal = refusal_label()

    async def show(self) -> None:
        """Show the threshold in force, its versions, and its error rates."""
        gallery = self._state.gallery
        if gallery is None:
            return
        self.quality_part.visible = self._state.takes_photos
        self.quality.show(policy_name(gallery.quality_policy))
        self._show_tau(gallery)
        calibrated_rates: MeasuredRates | None = None
        with self._state.errors_shown_in(self.tau_refusal):
            move = await self._move_text(gallery)
            versions = [version async for version in self._state.api.list_thresholds(gallery.id)]
            if not self._state.is_shown(gallery):
                return
            self.move.text = move
            self._draw_versions(versions)
            calibrated_rates = await self._rates_of_calibration(gallery, versions)
        if self._probes and self._probes.searched_revision != gallery.revision:
            with self._state.errors_shown_in(self.measure_refusal):
                await self._probes.search(self._state.api, gallery, self._state.say)
        if self._state.is_shown(gallery):
            self._draw_measured(gallery, calibrated_rates)

    def _show_tau(self, gallery: Gallery) -> None:
        """tau, and the FPIR to expect with it at the gallery's present size; both large."""
        say, threshold = self._state.say, gallery.threshold
        if self._state.tau is None:
            self.tau_value.text, self.tau_words.text = say("tau.none"), say("tau.none_next")
            self.rate.text = self.rate_words.text = ""
            return
        self.tau_value.text = f"τ {distance(threshold.tau)}"
        words = [source_text(say, threshold), say("tau.fused", rule=fusion_name(gallery.fusion))]
        if gallery.decided_by == DECIDED_BY_PROBABILITY:
            words.append(say("tau.by_probability"))
        self.tau_words.text = "; ".join(words)
        subjects = say("count.subjects", n=gallery.subject_count)
        if not threshold.HasField("expected_fpir"):
            self.rate.text, self.rate_words.text = "FPIR ?", say("fpir.unknown_next")
            return
        self.rate.text = f"FPIR {percent(threshold.expected_fpir)}"
        interval = fpir_interval(say, threshold) or say("fpir.no_interval")
        self.rate_words.text = say("fpir.meaning", subjects=subjects, interval=interval)

    async def _move_text(self, gallery: Gallery) -> str:
        """What it does in a move to another encoder, and the commands that go on; empty where it has no part in one."""
        if not gallery.HasField("move"):
            return ""
        found = await self._state.api.get_move(gallery.id)
        encoder = self._state.models.get(found.waiting.encoder_digest)
        key = "moves" if gallery.move.answers else "waits"
        if gallery.move.HasField("cut_over_time"):
            key = "moved" if gallery.move.answers else "former"
        return self._state.say(
            f"move.{key}",
            subjects=self._state.say("count.subjects", n=found.left_count),
            gallery=found.gallery.id,
            waiting=found.waiting.id,
            encoder=encoder.name if encoder else found.waiting.encoder_digest[:12],
        )

    def _draw_versions(self, versions: list[ThresholdVersion]) -> None:
        say = self._state.say
        self.versions.clear()
        with self.versions:
            heads = ("version", "tau", "from", "enrolled", "fpir", "fnir", "set")
            draw_row("th", *(say(f"versions.{head}") for head in heads))
            for version in versions:
                tau = distance(version.threshold.tau) if version.HasField("threshold") else say("versions.cleared")
                calibration = version.calibration if version.HasField("calibration") else None
                draw_row(
                    "td",
                    str(version.version),
                    tau,
                    source_name(say, version.threshold.source),
                    str(version.subject_count) if version.HasField("subject_count") else "",
                    fpir_text(say, calibration) if calibration else "",
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
            self.tau_refusal.text = self._state.say("tau.type_first")
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
        self.measured.text = self._state.say("measure.coming", n=pictures)

    async def measure_one(self, picture: bytes | None, person: str, *, mated: bool) -> None:
        """Encode a picture of a stranger, or of the enrolled ``person``. None: a picture that is too large."""
        gallery = self._state.gallery
        if gallery is None or gallery.id != self._receiving_for:
            return
        if picture is None:
            self._probes.leave_out(self._state.too_large)
        else:
            example = self._state.example(picture, "largest")
            try:
                (encoding,) = (await self._state.api.encode(example, encoder=gallery.encoder_digest)).encodings
            except OneglanceError as error:
                self._probes.leave_out(self._state.error_text(error).partition("\n")[0])
            else:
                if gallery.id != self._receiving_for:
                    return
                self._probes.add(encoding, person, mated=mated)
        self.measured.text = self._state.say("measure.encoded", n=len(self._probes))

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
        say = self._state.say
        self.measured.text = joined(
            probes.summary(say) if probes else "", self._probes.left_out_summary(say), separator=" "
        )
        tau = self._state.tau
        self.charts.clear()
        with self.charts:
            draw_heading(say("chart.title"))
            rates_now = calibrated_rates
            points: list[DetPoint] = []
            if strangers and mates:
                scores = Scores(np.array(mates), np.array(strangers))
                points = det_curve(scores)
                rates_now = None if tau is None else (scores.fpir(tau), scores.fnir(tau))
                explanation = say("chart.det", strangers=len(strangers), mates=len(mates))
            else:
                explanation = say("chart.calibrated" if calibrated_rates else "chart.nothing")
            if rates_now is not None and tau is not None:
                fnir = say("chart.no_fnir") if rates_now[1] is None else f"FNIR {percent(rates_now[1])}"
                rates = f"FPIR {percent(rates_now[0])}, {fnir}"
                ui.label(say("chart.at_tau", tau=distance(tau), rates=rates)).classes("at-tau")
            ui.label(explanation).classes("soft")
            mark = None if rates_now is None or rates_now[1] is None else (rates_now[0], rates_now[1])
            if points or mark:
                floors = (0.5 / len(strangers), 0.5 / len(mates)) if points else (UNMEASURED_FLOOR, UNMEASURED_FLOOR)
                ui.echart(det_options(points, mark, tau, floors, say), renderer="svg").classes("chart det")
            if points:
                ui.echart(rate_options(points, tau), renderer="svg").classes("chart rates")

    async def _calibrate(self, *, dry_run: bool) -> None:
        gallery = self._state.gallery
        target_fpir = (self.target_fpir.value or 0) / 100
        if gallery is None:
            return
        if not 0 < target_fpir < 1:
            self.measure_refusal.text = self._state.say("calibrate.bad_target")
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
            self.calibrated.text = calibration_text(self._state.say, answer, dry_run=dry_run)
            if not dry_run:
                await self._threshold_changed()
