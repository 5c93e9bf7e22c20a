"""The tab that repaints a picture: styles to choose from, two to blend, before and after side by side."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import PurePath

import grpc
from nicegui import ui

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import FailedPreconditionError, OneglanceError
from oneglance.client.requests import StyleLike
from oneglance.v1.stylization_pb2 import Style, StylizedPicture
from oneglance_apps.console.elements import draw_entry
from oneglance_apps.console.kept_styles import forget_style, keep_style
from oneglance_apps.console.page_state import PageState, refusal_label
from oneglance_apps.console.style_cards import StyleCards
from oneglance_apps.picture_formats import SUFFIX_OF_FORMAT, format_name, media_type
from oneglance_apps.text import joined, short_digest

RETRY_SECONDS = 2.0  # while the server doesn't answer
SIDES = (1024, 2048)
STROKE_SIZES = (0.5, 1, 2, 3, 4)


@dataclass(frozen=True)
class StylizedResult:
    """The picture that is shown after. ``name``: its file name for the download. ``seconds``: what the call took."""

    picture: StylizedPicture
    styles: list[Style]
    name: str
    seconds: float

    @property
    def media_type(self) -> str:
        return media_type(format_name(self.picture.format))


class StylizeTab:
    """One page's stylization. The picture and its result are kept in memory until the next one, or the page's end.

    api: client with a timeout long enough for a large picture. state: of the page, for its words.
    result, number: what is shown after, and its number in the address that the browser fetches it from.
    """

    def __init__(self, api: AsyncClient, page_id: str, state: PageState) -> None:
        self.result: StylizedResult | None = None
        self.number = 0
        self._api = api
        self._page_id = page_id
        self._state = state
        self._say = state.say
        self.refusal: ui.label
        self._cards = StyleCards(api, state.say, self._paint)
        self._picture: bytes | None = None
        self._name = ""
        self._painting: asyncio.Task[None] | None = None  # the call in flight

    def build(self) -> None:
        say = self._say
        self.none = ui.label(self._say("style.none")).classes("no-stylizer")
        with ui.element("section").classes("stylize") as self.all:
            with ui.element("div").classes("pair"):
                with ui.element("figure").classes("before empty-yet"):
                    ui.element("img").props["alt"] = say("style.before")
                    ui.label(say("style.drop")).classes("title")
                    ui.label(say("look.undrawn")).classes("undrawn-note")
                with ui.element("figure").classes("after") as self.after:
                    self.image = ui.element("img")
                    self.image.props["alt"] = say("style.after")
                    self.hint = ui.label(say("style.hint")).classes("soft")
            with ui.row().classes("actions"):
                ui.button(say("style.choose")).props("unelevated no-caps").on(
                    "click", js_handler="() => oneglance.choosePicture()"
                )
                ui.button(say("style.camera")).props("outline no-caps").on(
                    "click",
                    lambda event: self.refusal.set_text(event.args),
                    js_handler="() => oneglance.takePhoto(emit, oneglance.paint)",
                )
                self.as_style = ui.button(say("style.as_style"), on_click=self._use_as_style).props("flat no-caps")
                self.keep = ui.button(say("style.keep"), on_click=self._keep_style).props("flat no-caps")
                self.forget = ui.button(say("style.forget"), on_click=self._forget_style).props("flat no-caps")
                self.download = ui.element("a").classes("download")
                with self.download:
                    ui.label(say("style.download"))
                self.about = ui.label().classes("soft about")
            self.refusal = refusal_label()
            self._build_settings()
            self._cards.build()
            self.basis = ui.element("dl").classes("origins")
        self.all.visible = self.none.visible = False
        self.retry = ui.timer(RETRY_SECONDS, self.load, active=False, immediate=False)
        self._render()

    def _build_settings(self) -> None:
        say = self._say
        sides = {side: say("style.pixels", side=str(side)) for side in SIDES} | {0: say("style.whole")}
        with ui.element("div").classes("knobs"):
            with ui.element("div").classes("knob"):
                strength_text = ui.label()
                self.strength = ui.slider(min=0, max=100, step=1, value=100)
                self.strength.on("change", self._paint).props["aria-label"] = say("style.strength_label")
                strength_text.bind_text_from(self.strength, "value", lambda share: say("style.strength", share=share))
            self.keep_colors = ui.switch(say("style.keep_colors"), on_change=self._paint).props("dense")
            self.keep_faces = ui.switch(say("style.keep_faces"), on_change=self._paint).props("dense")
            self.blend = ui.switch(say("style.blend"), on_change=self._blend_switched).props("dense")
            self.side = ui.select(sides, value=1024, label=say("style.side"), on_change=self._paint)
            self.side.props("dense outlined options-dense").classes("side")
            strokes = {size: say("style.times", times=f"{size:g}") for size in STROKE_SIZES}
            self.strokes = ui.select(strokes, value=1, label=say("style.strokes"), on_change=self._paint)
            self.strokes.props("dense outlined options-dense").classes("strokes")
        with ui.element("div").classes("knob blend") as self.blending:
            self.shares_text = ui.label()
            self.share = ui.slider(min=0, max=100, step=1, value=50)
            self.share.props["aria-label"] = say("style.share_label")
            self.share.on_value_change(self._render_shares).on("change", self._paint)

    async def load(self, chosen: str = "") -> None:
        """Fetch the styles, and repaint in the one called ``chosen``. Called whenever they may have changed."""
        try:
            styles = await self._api.list_styles()
        except OneglanceError as error:
            unimplemented = error.code is grpc.StatusCode.UNIMPLEMENTED  # a server older than stylization
            self.none.text = self._say("style.none") if unimplemented else self._state.error_text(error)
            self.all.visible, self.none.visible = False, True
            self.retry.active = not unimplemented
            return
        self.retry.active = False
        self.none.text = self._say("style.none")
        self.all.visible, self.none.visible = bool(styles), not styles
        self.keep_faces.visible = {"detector", "landmarks"} <= {model.kind for model in self._state.models.values()}
        if styles != self._cards.named:
            self._cards.set_styles(styles, chosen)
            self._render()
            if chosen:
                await self._paint()
            await self._cards.sample(self._picture)

    async def take(self, picture: bytes | None, name: str) -> None:
        """Repaint another picture, from a file called ``name``. None: one that is too large."""
        self._picture, self._name, self.result = picture, name, None
        self.refusal.text = self._state.too_large if picture is None else ""
        await self._paint()

    async def _use_as_style(self) -> None:
        """The picture's own style is one to choose from now on."""
        if self._picture is not None:
            self.blend.value = False
            self._cards.set_own(self._picture)
            await self._paint()
            await self._cards.sample(self._picture)

    def _keep_style(self) -> None:
        async def kept(name: str) -> None:
            self._cards.own = None
            await self.load(name)

        if self._cards.own is not None:
            keep_style(self._state, self._cards.own, kept)

    async def _forget_style(self) -> None:
        with self._state.errors_shown_in(self.refusal):
            if await forget_style(self._state, self._cards.chosen[0]):
                await self.load()
                await self._paint()

    async def _blend_switched(self) -> None:
        self._cards.blending = self.blend.value
        if not self.blend.value and len(self._cards.chosen) > 1:
            self._cards.chosen = self._cards.chosen[:1]
            await self._paint()
        self._render()

    @property
    def _weights(self) -> dict[StyleLike, float]:
        chosen = [self._cards.asked(style) for style in self._cards.chosen]
        if len(chosen) < 2:
            return dict.fromkeys(chosen, 1.0)
        second = self.share.value / 100
        return {chosen[0]: 1 - second, chosen[1]: second}

    async def _paint(self) -> None:
        """Repaint with the present choice; the call for an earlier one is cancelled."""
        self.cancel()
        self._render()
        painting = self._painting = asyncio.create_task(self._paint_once())
        await asyncio.wait([painting])
        if painting is not self._painting or painting.cancelled():
            return
        self._painting = None
        painting.result()
        self._render()
        if self.result is not None and not self._cards.shows(self._picture):
            await self._cards.sample(self._picture)

    def cancel(self) -> None:
        """Cancel the call in flight: nobody wants its picture any more."""
        if self._painting is not None:
            self._painting.cancel()
            self._painting = None
            self.after.classes(remove="painting")

    def leave(self) -> None:
        """Nobody looks any more: cancel what is under way."""
        self.cancel()
        self._cards.stop()

    async def _paint_once(self) -> None:
        picture, name, chosen = self._picture, self._name, self._cards.chosen[:]
        if picture is None or not chosen:
            return
        self.after.classes("painting")
        self.refusal.text = ""
        begun = time.monotonic()
        try:
            answer = await self._api.stylize(
                picture,
                self._weights,
                stylizer=chosen[0].stylizer_digest,
                strength=self.strength.value / 100,
                keep_colors=self.keep_colors.value,
                max_side=self.side.value or 0,
                stroke_size=self.strokes.value,
                keep_faces=float(self.keep_faces.visible and self.keep_faces.value),
            )
        except OneglanceError as error:
            if picture is self._picture:
                self.result = None
                self.refusal.text = self._state.error_text(error)
            if isinstance(error, FailedPreconditionError):  # the server was restarted without a stylizer
                await self.load()
            return
        finally:
            if asyncio.current_task() is self._painting:
                self.after.classes(remove="painting")
        if picture is self._picture:
            suffix = SUFFIX_OF_FORMAT[format_name(answer.format)]
            styles = "-".join(style.name or "styled" for style in chosen)
            file_name = f"{PurePath(name).stem or 'picture'}-{styles}{suffix}"
            self.result = StylizedResult(answer, chosen, file_name, time.monotonic() - begun)
            self.number += 1

    def _render(self) -> None:
        self._cards.mark_chosen()
        self.blending.visible = len(self._cards.chosen) > 1
        self._render_shares()
        result = self.result
        self.image.visible = self.download.visible = result is not None
        self.hint.visible = self._picture is None
        reads_styles = any(model.kind == "style-reader" for model in self._state.models.values())
        self.as_style.visible = reads_styles and self._picture is not None
        only = self._cards.chosen[0] if len(self._cards.chosen) == 1 else Style(name="several")
        self.keep.visible, self.forget.visible = not only.name, only.kept
        self.basis.clear()
        self.about.text = ""
        if result is None:
            return
        address = f"/pages/{self._page_id}/stylized/{self.number}"
        self.image.props["src"] = self.download.props["href"] = address
        self.download.props["download"] = result.name
        self.image.update()
        self.download.update()
        picture = result.picture
        self.about.text = (
            f"{picture.width} × {picture.height}, {self._say.number(round(len(picture.image) / 1024))} KiB"
        )
        with self.basis:
            tiles = self._say("count.tiles", n=max(1, picture.tiles))
            draw_entry(self._say("style.took"), f"{result.seconds:.1f} s, {tiles}")
            names = {style.stylizer_digest: style.stylizer for style in self._cards.styles}
            stylizer = f"{names.get(picture.stylizer_digest, '')} {short_digest(picture.stylizer_digest)}"
            on = self._say("basis.on", model=stylizer, device=picture.execution_provider)
            draw_entry(self._say("style.by"), on)
            for style in result.styles:
                draw_entry(
                    style.name or self._say("style.by_picture"), joined(style.title, style.source, style.license)
                )

    def _render_shares(self) -> None:
        if len(self._cards.chosen) > 1:
            first, second = self._cards.chosen
            share = self.share.value
            self.shares_text.text = f"{first.name} {100 - share} %, {second.name} {share} %"
