"""What the tabs of one page have in common: the server, and the gallery that is picked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nicegui import ui

from oneglance.client.async_client import MAX_MESSAGE_BYTES, AsyncClient
from oneglance.client.errors import OneglanceError, UnavailableError
from oneglance.v1.gallery_pb2 import Gallery
from oneglance.v1.model_pb2 import Model

# A call carries a picture and a little more.
MAX_PICTURE_BYTES = MAX_MESSAGE_BYTES - (64 << 10)
TOO_LARGE = f"The picture is larger than {MAX_PICTURE_BYTES >> 20} MiB, more than a call carries."


class PageState:
    """``picked``: id of the gallery that is picked now, or None. ``names``: of all galleries; None until they are
    known."""

    def __init__(self, api: AsyncClient, picked: Callable[[], str | None]) -> None:
        self.api = api
        self.models: dict[str, Model] = {}
        self.names: list[str] | None = None
        self.gallery: Gallery | None = None
        self.trouble: ui.label  # for refusals that concern the page as a whole
        self._picked = picked

    async def refresh(self) -> bool:
        """Whether ``gallery`` is now, and as of now, the one that is picked."""
        wanted = self._picked()
        if wanted is None:
            return False
        refusal, gallery = "", None
        try:
            gallery = await self.api.get_gallery(wanted)
        except OneglanceError as error:
            refusal = self.words(error)
        if wanted != self._picked():  # another was picked meanwhile
            return False
        self.trouble.text = refusal
        if gallery is not None:
            self.gallery = gallery
        return gallery is not None

    def is_shown(self, gallery: Gallery) -> bool:
        """Whether it is still the one that is picked, after a wait."""
        return self.gallery is not None and self.gallery.id == gallery.id

    @property
    def encoder(self) -> Model | None:
        """The gallery's, when it is loaded."""
        return self.models.get(self.gallery.encoder_digest) if self.gallery else None

    @property
    def tau(self) -> float | None:
        return self.gallery.threshold.tau if self.gallery and self.gallery.HasField("threshold") else None

    def words(self, error: OneglanceError) -> str:
        if isinstance(error, UnavailableError) and not error.reason:
            return f"The server at {self.api.target} does not answer."
        # Where in the request it was wrong says nothing to a person who sees no request.
        words = "; ".join(text for _, text in error.field_violations) or error.message
        return words[:1].upper() + words[1:]

    @contextmanager
    def refusals(self, where: ui.label, *, reraise: bool = False) -> Iterator[None]:
        """Show what the server refuses in words."""
        where.text = ""
        try:
            yield
        except OneglanceError as error:
            where.text = self.words(error)
            if reraise:
                raise


def say(where: ui.label, words: str) -> None:
    where.text = words
