"""Stylize a picture in every style of the server."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from oneglance import Client
from oneglance.client.errors import InvalidArgumentError
from oneglance.v1.stylization_pb2 import Style
from oneglance_apps.demo.collection import Collection
from oneglance_apps.demo.pictures import Picture, jpeg_uri
from oneglance_apps.demo.timed_calls import Progress
from oneglance_apps.landscape import landscape, png

HEIGHT = 400  # of the landscape
MAX_SIDE = 600  # of the stylized pictures, pixels
QUALITY = 85
MAX_TRIES = 5  # pictures to try until the server can read one


@dataclass(frozen=True)
class Painting:
    """The picture in one style: the server's JPEG, and how long the call took."""

    style: Style
    jpeg: bytes
    milliseconds: float

    @property
    def title(self) -> str:
        return self.style.title or self.style.name

    def data_uri(self) -> str:
        return jpeg_uri(self.jpeg)


@dataclass(frozen=True)
class Stylization:
    """One picture in every style. ``width``, ``height``: of the paintings, in pixels."""

    before: Picture
    paintings: tuple[Painting, ...]
    width: int
    height: int
    execution_provider: str


def picture_candidates(collection: Collection) -> list[Picture]:
    """Pictures to try: the drawn landscape for drawn subjects; else the user's largest files, the largest first."""
    if collection.drawn:
        return [Picture(png(landscape(HEIGHT)), "an evening by the sea, drawn by a few formulas")]
    pictures = {subject.enrolled_from for subject in collection.subjects}
    pictures |= {probe for _, probe in (*collection.mated(), *collection.non_mated())}
    return sorted(pictures, key=lambda picture: (-picture.size_bytes, picture.caption))[:MAX_TRIES]


def stylize_all(client: Client, candidates: Sequence[Picture], progress: Progress) -> Stylization | None:
    """Stylize the first of ``candidates`` that the server can read, in every style, one call at a time.

    None if the server has no styles, or can read none of them.
    """
    styles = client.list_styles()
    for before in candidates if styles else ():
        paintings: list[Painting] = []
        try:
            for style in styles:
                begun = perf_counter()
                answer = client.stylize(
                    before.read(),
                    style.name,
                    stylizer=style.stylizer_digest,
                    format="jpeg",
                    quality=QUALITY,
                    max_side=MAX_SIDE,
                )
                paintings.append(Painting(style, answer.image, 1000 * (perf_counter() - begun)))
                progress(len(paintings), len(styles))
        except InvalidArgumentError:
            continue
        return Stylization(before, tuple(paintings), answer.width, answer.height, answer.execution_provider)
    return None
