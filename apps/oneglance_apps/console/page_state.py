"""What the tabs of one page share: the client, the words, the models, and the picked gallery."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from nicegui import ui

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import OneglanceError, UnavailableError
from oneglance.client.requests import FaceChoice, SmallFaces, photo
from oneglance.defaults import MAX_MESSAGE_BYTES
from oneglance.v1.common_pb2 import Example
from oneglance.v1.gallery_pb2 import Gallery
from oneglance.v1.model_pb2 import Model
from oneglance_apps.console.scale import Scale
from oneglance_apps.console.words import Words
from oneglance_apps.text import joined

# A message holds a picture and a few other fields.
MAX_PICTURE_BYTES = MAX_MESSAGE_BYTES - (64 << 10)


class PageState:
    """The state of one page.

    say: the words, in the page's language.
    picked_id: gives the id of the gallery that the user picked, or None.
    models: the server's, by digest. names: ids of all galleries; None until they are known.
    gallery: the picked gallery as of the last ``refresh``; None until it is known.
    page_refusal: the label for errors that concern the whole page.
    """

    def __init__(self, api: AsyncClient, say: Words, picked_id: Callable[[], str | None]) -> None:
        self.api = api
        self.say = say
        self.models: dict[str, Model] = {}
        self.names: list[str] | None = None
        self.gallery: Gallery | None = None
        self.page_refusal: ui.label
        self._picked_id = picked_id

    async def refresh(self) -> bool:
        """Fetch the picked gallery again. Returns whether ``gallery`` is the picked one, and up to date."""
        wanted = self._picked_id()
        if wanted is None:
            return False
        refusal, gallery = "", None
        try:
            gallery = await self.api.get_gallery(wanted)
        except OneglanceError as error:
            refusal = self.error_text(error)
        if wanted != self._picked_id():  # another was picked meanwhile
            return False
        self.page_refusal.text = refusal
        if gallery is not None:
            self.gallery = gallery
        return gallery is not None

    def is_shown(self, gallery: Gallery) -> bool:
        """Whether ``gallery`` is still the shown one; to be asked after each await."""
        return self.gallery is not None and self.gallery.id == gallery.id

    @property
    def encoder(self) -> Model | None:
        """The gallery's encoder; None when it is not loaded."""
        return self.models.get(self.gallery.encoder_digest) if self.gallery else None

    @property
    def takes_photos(self) -> bool:
        """Whether the encoder takes photos, and finds the faces in them."""
        return self.encoder is not None and self.encoder.takes_photos

    @property
    def tau(self) -> float | None:
        return self.gallery.threshold.tau if self.gallery and self.gallery.HasField("threshold") else None

    @property
    def scale(self) -> Scale:
        """Of every distance bar on the page."""
        return Scale(self.tau)

    def example(self, picture: bytes, face: FaceChoice = None, small_faces: SmallFaces = "") -> Example:
        """A picture for the gallery's encoder. ``face`` and ``small_faces`` apply if the encoder takes photos."""
        return photo(picture, face, small_faces) if self.takes_photos else Example(image=picture)

    def error_text(self, error: OneglanceError) -> str:
        """An error for people, who don't see the request: without the paths of its fields, and with what to do next."""
        if isinstance(error, UnavailableError) and not error.reason:
            text = self.say("error.no_answer", server=self.api.target)
        else:
            text = "; ".join(description for _, description in error.field_violations) or error.message
        return joined(text[:1].upper() + text[1:], self.next_step(error), separator="\n")

    def next_step(self, error: OneglanceError) -> str:
        """What one can do about an error; empty where the error itself says it."""
        key = f"next.{error.reason}"
        return self.say(key) if error.reason and key in self.say else ""

    @property
    def too_large(self) -> str:
        return self.say("error.too_large", mebibytes=MAX_PICTURE_BYTES >> 20)

    @contextmanager
    def errors_shown_in(self, label: ui.label, *, reraise: bool = False) -> Iterator[None]:
        """Clear ``label``, and show in it the OneglanceError that the block raises."""
        label.text = ""
        try:
            yield
        except OneglanceError as error:
            label.text = self.error_text(error)
            if reraise:
                raise


def refusal_label() -> ui.label:
    """Where a refusal is told; screen readers speak it at once."""
    return ui.label().classes("refusal").props("role=alert")
