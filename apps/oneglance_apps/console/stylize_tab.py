"""The tab that repaints a picture: styles to choose from, two to blend, before and after side by side."""

import asyncio
import base64
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath

import grpc
from nicegui import ui

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import FailedPreconditionError, OneglanceError
from oneglance.v1.stylization_pb2 import (
    PICTURE_FORMAT_JPEG,
    PICTURE_FORMAT_PNG,
    PICTURE_FORMAT_WEBP,
    PictureFormat,
    Style,
    StylizedPicture,
)
from oneglance_apps.console.elements import counted, draw_entry
from oneglance_apps.console.page_state import TOO_LARGE
from oneglance_apps.landscape import landscape, png

NONE_LOADED = (
    "This server has no stylizer, so there is nothing to repaint pictures with. Start it with one among its --models."
)
MEDIA_TYPES: dict[PictureFormat.ValueType, tuple[str, str]] = {
    PICTURE_FORMAT_PNG: ("image/png", ".png"),
    PICTURE_FORMAT_JPEG: ("image/jpeg", ".jpg"),
    PICTURE_FORMAT_WEBP: ("image/webp", ".webp"),
}
RETRY_SECONDS = 2.0  # while the server doesn't answer
SIDES = {1024: "1024 pixels", 2048: "2048 pixels", 0: "as it is"}
SAMPLE_HEIGHT = 120
SAMPLE_SIDE = 180
SAMPLES = 32  # styles that get a picture of their own


@dataclass(frozen=True)
class StylizedResult:
    """What is shown after. ``name``: of the file, when it is downloaded."""

    picture: StylizedPicture
    styles: list[Style]
    name: str
    seconds: float

    @property
    def media_type(self) -> str:
        return MEDIA_TYPES[self.picture.format][0]


class StylizeTab:
    """One page's. ``api`` should wait long enough for a large picture; ``words`` puts a refusal in words.

    The picture and what became of it are kept in memory until the next one, or the page's end.
    """

    def __init__(self, api: AsyncClient, page_id: str, words: Callable[[OneglanceError], str]) -> None:
        self.painted: StylizedResult | None = None
        self.number = 0  # of ``painted``, for its address
        self._api = api
        self._page_id = page_id
        self._words = words
        self.refusal: ui.label
        self._styles: list[Style] = []
        self._chosen: list[Style] = []
        self._picture: bytes | None = None
        self._name = ""
        self._wanted = 0  # how often a painting was asked for
        self._painting = False
        self._sampling = 0
        self._sampled: bytes | None = None  # whose small pictures the styles have; None for our own
        self._cards: list[ui.element] = []

    def build(self) -> None:
        self.none = ui.label(NONE_LOADED).classes("no-stylizer")
        with ui.element("section").classes("stylize") as self.all:
            with ui.element("div").classes("pair"):
                with ui.element("figure").classes("before empty-yet"):
                    ui.element("img").props('alt="the picture as it came"')
                    ui.label("Drop a picture here").classes("title")
                    ui.label("This browser can't show the format; the server may read it.").classes("undrawn-note")
                with ui.element("figure").classes("after") as self.after:
                    self.result = ui.element("img").props('alt="the picture, stylized"')
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
            with ui.element("div").classes("knobs"):
                with ui.element("div").classes("knob"):
                    self.strength_words = ui.label()
                    self.strength = ui.slider(min=0, max=100, step=1, value=100)
                    self.strength.on("change", self._paint).props('aria-label="strength"')
                    self.strength_words.bind_text_from(self.strength, "value", lambda share: f"strength {share} %")
                self.keep_colors = ui.switch("keep colours", on_change=self._paint).props("dense")
                self.blend = ui.switch("blend two", on_change=self._blend_switched).props("dense")
                self.side = ui.select(SIDES, value=1024, label="longer side", on_change=self._paint)
                self.side.props("dense outlined options-dense").classes("side")
            with ui.element("div").classes("knob blend") as self.blending:
                self.share_words = ui.label()
                self.share = ui.slider(min=0, max=100, step=1, value=50).props('aria-label="share of the second style"')
                self.share.on_value_change(self._tell_shares).on("change", self._paint)
            self.choices = ui.element("div").classes("styles")
            self.basis = ui.element("dl").classes("origins")
        self.all.visible = self.none.visible = False
        self.retry = ui.timer(RETRY_SECONDS, self.load, active=False, immediate=False)
        self._render()

    async def load(self) -> None:
        """Ask for the styles; called again whenever they may have changed."""
        try:
            styles = await self._api.list_styles()
        except OneglanceError as error:
            unimplemented = error.code is grpc.StatusCode.UNIMPLEMENTED  # a server older than stylization
            self.none.text = NONE_LOADED if unimplemented else self._words(error)
            self.all.visible, self.none.visible = False, True
            self.retry.active = not unimplemented
            return
        self.retry.active = False
        self.none.text = NONE_LOADED
        self.all.visible, self.none.visible = bool(styles), not styles
        if styles != self._styles:
            self._styles, self._chosen = styles, styles[:1]
            self._draw_cards()
            await self._sample()

    async def take(self, picture: bytes | None, name: str) -> None:
        """Repaint another picture, of a file called ``name``; None is one that was too large to take."""
        self._picture, self._name, self.painted = picture, name, None
        self.refusal.text = TOO_LARGE if picture is None else ""
        await self._paint()

    def _draw_cards(self) -> None:
        self.choices.clear()
        self._cards = []
        several = len({style.stylizer_digest for style in self._styles}) > 1
        with self.choices:
            for style in self._styles:
                with ui.element("button").classes("style").props('type="button"') as card:
                    ui.element("img").props('alt=""')
                    ui.label(style.name).classes("decision")
                    ui.label(style.title).classes("soft")
                    ui.label(style.license).classes("soft license")
                    if several:
                        ui.label(f"stylizer {style.stylizer}").classes("soft")
                card.on("click", lambda _, s=style: self._choose(s))
                self._cards.append(card)
        self._render()

    async def _choose(self, style: Style) -> None:
        same = [other for other in self._chosen if other.stylizer_digest == style.stylizer_digest]
        if not self.blend.value:
            self._chosen = [style]
        elif style in same:
            self._chosen = [other for other in same if other != style] or [style]
        else:  # a blend is of two, and of one stylizer
            self._chosen = [*same[-1:], style]
        await self._paint()

    async def _blend_switched(self) -> None:
        if not self.blend.value and len(self._chosen) > 1:
            self._chosen = self._chosen[:1]
            await self._paint()
        self._render()

    @property
    def _weights(self) -> dict[str, float]:
        if len(self._chosen) < 2:
            return {style.name: 1.0 for style in self._chosen}
        second = self.share.value / 100
        return {self._chosen[0].name: 1 - second, self._chosen[1].name: second}

    async def _paint(self) -> None:
        """Repaint with what is chosen now. One call at a time: of what is asked for meanwhile the last follows it."""
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
        if self.painted is not None and self._sampled is not self._picture:
            await self._sample()

    async def _paint_once(self) -> None:
        picture, name, chosen = self._picture, self._name, self._chosen[:]
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
                self.painted = None
                self.refusal.text = self._words(error)
            if isinstance(error, FailedPreconditionError):  # a server that was started anew, without a stylizer
                await self.load()
            return
        finally:
            self.after.classes(remove="painting")
        if picture is self._picture:
            stem = PurePath(name).stem or "picture"
            suffix = MEDIA_TYPES[answer.format][1]
            file_name = f"{stem}-{'-'.join(style.name for style in chosen)}{suffix}"
            self.painted = StylizedResult(answer, chosen, file_name, time.monotonic() - begun)
            self.number += 1

    async def _sample(self) -> None:
        """Give each style a small picture: what is to be repainted in it, or a landscape of our own."""
        self._sampling = sampling = self._sampling + 1
        self._sampled = self._picture
        sample = await asyncio.to_thread(_own_picture) if self._picture is None else self._picture
        for i, (style, card) in enumerate(zip(self._styles[:SAMPLES], self._cards, strict=False)):
            try:
                if i == 0:  # shrunk once: a large picture is not to be decoded for every style
                    sample = (await self._small(sample, style, strength=0.0)).image
                small = await self._small(sample, style)
            except OneglanceError:
                return  # a card is as good without
            if sampling != self._sampling:
                return
            image = next(iter(card))
            image.props["src"] = f"data:image/jpeg;base64,{base64.b64encode(small.image).decode()}"
            image.update()

    async def _small(self, picture: bytes, style: Style, strength: float | None = None) -> StylizedPicture:
        return await self._api.stylize(
            picture,
            style.name,
            stylizer=style.stylizer_digest,
            strength=strength,
            format="jpeg",
            max_side=SAMPLE_SIDE,
        )

    def _render(self) -> None:
        for style, card in zip(self._styles, self._cards, strict=True):
            card.classes(**{"add" if style in self._chosen else "remove": "chosen"})
        self.blending.visible = len(self._chosen) > 1
        self._tell_shares()
        painted = self.painted
        self.result.visible = self.download.visible = painted is not None
        self.hint.visible = self._picture is None
        self.basis.clear()
        self.about.text = ""
        if painted is None:
            return
        address = f"/pages/{self._page_id}/stylized/{self.number}"
        self.result.props["src"] = self.download.props["href"] = address
        self.download.props["download"] = painted.name
        self.result.update()
        self.download.update()
        picture = painted.picture
        self.about.text = f"{picture.width} × {picture.height}, {len(picture.image) / 1024:,.0f} KiB"
        with self.basis:
            draw_entry("took", f"{painted.seconds:.1f} s, {counted(max(1, picture.tiles), 'tile')}")
            names = {style.stylizer_digest: style.stylizer for style in self._styles}
            name = names.get(picture.stylizer_digest, "")
            draw_entry("stylizer", f"{name} {picture.stylizer_digest[:12]} on {picture.execution_provider}")
            for style in painted.styles:
                origin = "; ".join(filter(None, (style.title, style.source, style.license)))
                draw_entry(style.name, origin)

    def _tell_shares(self) -> None:
        if len(self._chosen) > 1:
            first, second = self._chosen
            share = self.share.value
            self.share_words.text = f"{first.name} {100 - share} %, {second.name} {share} %"


@lru_cache(maxsize=1)
def _own_picture() -> bytes:
    return png(landscape(SAMPLE_HEIGHT))
