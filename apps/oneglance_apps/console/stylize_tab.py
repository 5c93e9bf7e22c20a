"""The tab that repaints a picture: styles to choose from, two to blend, before and after side by side."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePath

import grpc
from nicegui import ui

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import FailedPreconditionError, OneglanceError
from oneglance.v1.stylization_pb2 import Style, StylizedPicture
from oneglance_apps.console.elements import draw_entry
from oneglance_apps.console.page_state import TOO_LARGE
from oneglance_apps.console.style_cards import StyleCards
from oneglance_apps.picture_formats import SUFFIX_OF_FORMAT, format_name, media_type
from oneglance_apps.text import counted, joined, short_digest

NONE_LOADED = (
    "This server has no stylizer, so there is nothing to repaint pictures with. Start it with one among its --models."
)
RETRY_SECONDS = 2.0  # while the server doesn't answer
SIDES = {1024: "1024 pixels", 2048: "2048 pixels", 0: "as it is"}


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

    api: client with a timeout long enough for a large picture. error_text: gives the text of an error for people.
    result, number: what is shown after, and its number in the address that the browser fetches it from.
    """

    def __init__(self, api: AsyncClient, page_id: str, error_text: Callable[[OneglanceError], str]) -> None:
        self.result: StylizedResult | None = None
        self.number = 0
        self._api = api
        self._page_id = page_id
        self._error_text = error_text
        self.refusal: ui.label
        self._cards = StyleCards(api, self._paint)
        self._picture: bytes | None = None
        self._name = ""
        self._wanted = 0  # how many times ``_paint`` was called
        self._painting = False

    def build(self) -> None:
        self.none = ui.label(NONE_LOADED).classes("no-stylizer")
        with ui.element("section").classes("stylize") as self.all:
            with ui.element("div").classes("pair"):
                with ui.element("figure").classes("before empty-yet"):
                    ui.element("img").props('alt="the picture as it came"')
                    ui.label("Drop a picture here").classes("title")
                    ui.label("This browser can't show the format; the server may read it.").classes("undrawn-note")
                with ui.element("figure").classes("after") as self.after:
                    self.image = ui.element("img").props('alt="the picture, stylized"')
                    self.hint = ui.label("and see it here in another style").classes("soft")
            with ui.row().classes("actions"):
                ui.button("Choose a picture").props("unelevated no-caps").on(
                    "click", js_handler="() => oneglance.choosePicture()"
                )
                ui.button("Take one").props("outline no-caps").on(
                    "click",
                    lambda event: self.refusal.set_text(event.args),
                    js_handler="() => oneglance.takePhoto(emit, oneglance.paint)",
                )
                self.download = ui.element("a").classes("download")
                with self.download:
                    ui.label("Download")
                self.about = ui.label().classes("soft about")
            self.refusal = ui.label().classes("refusal")
            self._build_settings()
            self._cards.build()
            self.basis = ui.element("dl").classes("origins")
        self.all.visible = self.none.visible = False
        self.retry = ui.timer(RETRY_SECONDS, self.load, active=False, immediate=False)
        self._render()

    def _build_settings(self) -> None:
        with ui.element("div").classes("knobs"):
            with ui.element("div").classes("knob"):
                strength_text = ui.label()
                self.strength = ui.slider(min=0, max=100, step=1, value=100)
                self.strength.on("change", self._paint).props('aria-label="strength"')
                strength_text.bind_text_from(self.strength, "value", lambda share: f"strength {share} %")
            self.keep_colors = ui.switch("keep colours", on_change=self._paint).props("dense")
            self.blend = ui.switch("blend two", on_change=self._blend_switched).props("dense")
            self.side = ui.select(SIDES, value=1024, label="longer side", on_change=self._paint)
            self.side.props("dense outlined options-dense").classes("side")
        with ui.element("div").classes("knob blend") as self.blending:
            self.shares_text = ui.label()
            self.share = ui.slider(min=0, max=100, step=1, value=50).props('aria-label="share of the second style"')
            self.share.on_value_change(self._render_shares).on("change", self._paint)

    async def load(self) -> None:
        """Fetch the styles. Called whenever they may have changed."""
        try:
            styles = await self._api.list_styles()
        except OneglanceError as error:
            unimplemented = error.code is grpc.StatusCode.UNIMPLEMENTED  # a server older than stylization
            self.none.text = NONE_LOADED if unimplemented else self._error_text(error)
            self.all.visible, self.none.visible = False, True
            self.retry.active = not unimplemented
            return
        self.retry.active = False
        self.none.text = NONE_LOADED
        self.all.visible, self.none.visible = bool(styles), not styles
        if styles != self._cards.styles:
            self._cards.set_styles(styles)
            self._render()
            await self._cards.sample(self._picture)

    async def take(self, picture: bytes | None, name: str) -> None:
        """Repaint another picture, from a file called ``name``. None: one that is too large."""
        self._picture, self._name, self.result = picture, name, None
        self.refusal.text = TOO_LARGE if picture is None else ""
        await self._paint()

    async def _blend_switched(self) -> None:
        self._cards.blending = self.blend.value
        if not self.blend.value and len(self._cards.chosen) > 1:
            self._cards.chosen = self._cards.chosen[:1]
            await self._paint()
        self._render()

    @property
    def _weights(self) -> dict[str, float]:
        chosen = self._cards.chosen
        if len(chosen) < 2:
            return {style.name: 1.0 for style in chosen}
        second = self.share.value / 100
        return {chosen[0].name: 1 - second, chosen[1].name: second}

    async def _paint(self) -> None:
        """Repaint with the present choice. One call at a time; requests made meanwhile become one more call."""
        self._wanted += 1
        self._render()
        if self._painting:
            return
        self._painting = True
        try:
            while True:
                wanted = self._wanted
                await self._paint_once()
                if wanted == self._wanted:
                    break
        finally:
            self._painting = False
        self._render()
        if self.result is not None and not self._cards.shows(self._picture):
            await self._cards.sample(self._picture)

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
            )
        except OneglanceError as error:
            if picture is self._picture:
                self.result = None
                self.refusal.text = self._error_text(error)
            if isinstance(error, FailedPreconditionError):  # the server was restarted without a stylizer
                await self.load()
            return
        finally:
            self.after.classes(remove="painting")
        if picture is self._picture:
            suffix = SUFFIX_OF_FORMAT[format_name(answer.format)]
            file_name = f"{PurePath(name).stem or 'picture'}-{'-'.join(style.name for style in chosen)}{suffix}"
            self.result = StylizedResult(answer, chosen, file_name, time.monotonic() - begun)
            self.number += 1

    def _render(self) -> None:
        self._cards.mark_chosen()
        self.blending.visible = len(self._cards.chosen) > 1
        self._render_shares()
        result = self.result
        self.image.visible = self.download.visible = result is not None
        self.hint.visible = self._picture is None
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
        self.about.text = f"{picture.width} × {picture.height}, {len(picture.image) / 1024:,.0f} KiB"
        with self.basis:
            draw_entry("took", f"{result.seconds:.1f} s, {counted(max(1, picture.tiles), 'tile')}")
            names = {style.stylizer_digest: style.stylizer for style in self._cards.styles}
            stylizer = f"{names.get(picture.stylizer_digest, '')} {short_digest(picture.stylizer_digest)}"
            draw_entry("stylizer", f"{stylizer} on {picture.execution_provider}")
            for style in result.styles:
                draw_entry(style.name, joined(style.title, style.source, style.license))

    def _render_shares(self) -> None:
        if len(self._cards.chosen) > 1:
            first, second = self._cards.chosen
            share = self.share.value
            self.shares_text.text = f"{first.name} {100 - share} %, {second.name} {share} %"
