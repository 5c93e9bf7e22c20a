"""The cards of the styles: which are chosen, and a small sample picture in each style."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from functools import lru_cache

from nicegui import ui

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import OneglanceError
from oneglance.client.requests import StyleLike
from oneglance.v1.stylization_pb2 import Style, StylizedPicture
from oneglance_apps.console.words import Words
from oneglance_apps.landscape import landscape, png

SAMPLE_HEIGHT = 120  # of the drawn landscape, in pixels
SAMPLE_SIDE = 180  # of the samples, in pixels
MAX_SAMPLES = 32  # cards with a sample


class StyleCards:
    """One card per style, and one for the style of a picture if there is ``own``. ``chosen``: one style, or two of one
    stylizer for a blend.

    ``on_choice`` is awaited when another style was chosen.
    """

    def __init__(self, api: AsyncClient, say: Words, on_choice: Callable[[], Awaitable[None]]) -> None:
        self.styles: list[Style] = []
        self.own: bytes | None = None  # the picture of a style without a name
        self.chosen: list[Style] = []
        self.blending = False
        self._api = api
        self._say = say
        self._on_choice = on_choice
        self._cards: list[ui.element] = []
        self._sampling = 0  # number of the last ``sample``; an earlier one stops
        self._sampled: bytes | None = None  # the picture of the samples; None: the landscape

    def build(self) -> None:
        self._box = ui.element("div").classes("styles")

    @property
    def named(self) -> list[Style]:
        """Those of the server."""
        return [style for style in self.styles if style.name]

    def set_styles(self, styles: list[Style], chosen: str = "") -> None:
        """Draw the cards anew, and choose the style called ``chosen``, else the server's first, else the picture's."""
        own = [] if self.own is None else [Style(title=self._say("style.own"))]
        named = [style for style in styles if style.name == chosen]
        self.stop()
        self.styles, self.chosen = [*styles, *own], (named or styles or own)[:1]
        self._cards = []
        several = len({style.stylizer_digest for style in styles}) > 1
        self._box.clear()
        with self._box:
            for style in self.styles:
                with ui.element("button").classes("style").props('type="button"') as card:
                    ui.element("img").props('alt=""')
                    ui.label(style.title or style.name).classes("art").props("dir=auto")
                    ui.label(style.name if style.title else "").classes("soft style-name")
                    if several and style.name:
                        ui.label(self._say("style.stylizer", name=style.stylizer)).classes("soft")
                    ui.label(style.license).classes("license")
                card.on("click", lambda _, s=style: self._choose(s))
                self._cards.append(card)
        self.mark_chosen()

    def set_own(self, picture: bytes) -> None:
        """Draw the cards anew, with one for the style of ``picture``, and choose it."""
        self.own = picture
        self.set_styles(self.named)
        self.chosen = self.styles[-1:]

    def asked(self, style: Style) -> StyleLike:
        """As the client takes it."""
        return style.name or self.own or b""

    def mark_chosen(self) -> None:
        for style, card in zip(self.styles, self._cards, strict=True):
            chosen = style in self.chosen
            card.classes(**{"add" if chosen else "remove": "chosen"}).props(f"aria-pressed={str(chosen).lower()}")

    async def _choose(self, style: Style) -> None:
        same_stylizer = [other for other in self.chosen if other.stylizer_digest == style.stylizer_digest]
        if not self.blending:
            self.chosen = [style]
        elif style in same_stylizer:
            self.chosen = [other for other in same_stylizer if other != style] or [style]
        else:
            self.chosen = [*same_stylizer[-1:], style]
        await self._on_choice()

    def shows(self, picture: bytes | None) -> bool:
        """Whether the samples are of this picture; None: of the landscape."""
        return self._sampled is picture

    async def sample(self, picture: bytes | None) -> None:
        """Give each card a small copy of ``picture`` in its style; None: of a drawn landscape."""
        self._sampling = number = self._sampling + 1
        self._sampled = picture
        source = await asyncio.to_thread(_landscape) if picture is None else picture
        for i, (style, card) in enumerate(zip(self.styles[:MAX_SAMPLES], self._cards, strict=False)):
            try:
                if i == 0:  # shrink it once, so that a large picture is not decoded for every style
                    source = (await self._stylize_small(source, style, strength=0.0)).image
                small = await self._stylize_small(source, style)
            except OneglanceError:
                return  # the other cards stay without a sample
            image = next(iter(card), None)
            if number != self._sampling or image is None:  # the cards are others, or the page is closed
                return
            image.props["src"] = f"data:image/jpeg;base64,{base64.b64encode(small.image).decode()}"
            image.update()

    def stop(self) -> None:
        """Make no more samples."""
        self._sampling += 1

    async def _stylize_small(self, picture: bytes, style: Style, strength: float | None = None) -> StylizedPicture:
        return await self._api.stylize(
            picture,
            self.asked(style),
            stylizer=style.stylizer_digest,
            strength=strength,
            format="jpeg",
            max_side=SAMPLE_SIDE,
        )


@lru_cache(maxsize=1)
def _landscape() -> bytes:
    return png(landscape(SAMPLE_HEIGHT))
