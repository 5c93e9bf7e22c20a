"""A picture in every style that the server has."""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

from oneglance import Client
from oneglance.client.errors import InvalidArgumentError
from oneglance.v1.stylization_pb2 import Style
from oneglance_apps.demo.calls import Progress
from oneglance_apps.demo.collection import Collection
from oneglance_apps.demo.pictures import Picture, jpeg_uri
from oneglance_apps.landscape import landscape, png

HEIGHT = 400  # of the landscape
MAX_SIDE = 600  # of pictures, on the wire back and on the page
QUALITY = 85
TRIED = 5  # pictures, before it is given up


@dataclass(frozen=True)
class Painting:
    """The picture in one style: as the server sent it, a JPEG, and how long that took."""

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
    """``width`` and ``height``: of the paintings, in pixels."""

    before: Picture
    paintings: tuple[Painting, ...]
    width: int
    height: int
    execution_provider: str


def picture_candidates(collection: Collection) -> list[Picture]:
    """What may be stylized: a landscape of our own where the subjects are drawn, else the largest files first."""
    if collection.drawn:
        return [Picture(png(landscape(HEIGHT)), "an evening by the sea, drawn by a few formulas")]
    pictures = {subject.enrolled_from for subject in collection.subjects}
    pictures |= {probe for _, probe in (*collection.mated(), *collection.non_mated())}
    return sorted(pictures, key=lambda picture: (-picture.size_bytes, picture.caption))[:TRIED]


def stylize_all(client: Client, candidates: Sequence[Picture], progress: Progress) -> Stylization | None:
    """The first of ``candidates`` that the server can read, in every style, one call at a time. None without styles, or
    when it can read none."""
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
