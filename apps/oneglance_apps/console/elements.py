"""Parts of a page: boxes, thumbnails, candidates, table rows."""

from collections.abc import Iterable

from nicegui import ui

from oneglance.v1.common_pb2 import Candidate
from oneglance.v1.face_pb2 import Face, Photo
from oneglance_apps.console.scale import TAU_AT, Scale
from oneglance_apps.console.words import Words
from oneglance_apps.text import distance, probability, score


def draw_box(face: Face, photo: Photo, caption: Iterable[str], state: str) -> ui.element:
    """A face's box over the photo, with the parts of its caption and a dot for each landmark."""
    box = face.box
    place = (100 * box.x / photo.width, 100 * box.y / photo.height)
    size = (100 * box.width / photo.width, 100 * box.height / photo.height)
    side = "right" if place[0] + size[0] / 2 > 50 else "left"  # its caption stays over the photo
    frame = ui.element("button").classes(f"box {state} {side}").props('type="button"')
    frame.style("left:{:.3f}%;top:{:.3f}%;width:{:.3f}%;height:{:.3f}%".format(*place, *size))
    with frame:
        for point in face.landmarks:
            x, y = 100 * (point.x - box.x) / box.width, 100 * (point.y - box.y) / box.height
            ui.element("i").style(f"left:{x:.2f}%;top:{y:.2f}%")
        with ui.element("div"):
            for part in caption:
                ui.label(part).props("dir=auto")
    return frame


def draw_thumb(face: Face, photo: Photo) -> None:
    """The face, cut from the photo by CSS; the browser has the photo in the CSS variable --photo."""
    box = face.box
    side = max(box.width, box.height, 1) * 1.3
    left, top = box.x + (box.width - side) / 2, box.y + (box.height - side) / 2
    # CSS: a background position of p % means p % of (image size - element size).
    x, y = (100 * at / (rest or 1) for at, rest in ((left, photo.width - side), (top, photo.height - side)))
    ui.element("div").classes("thumb").style(
        f"background-size:{100 * photo.width / side:.2f}% {100 * photo.height / side:.2f}%;"
        f"background-position:{x:.2f}% {y:.2f}%"
    )


def draw_candidate(candidate: Candidate, scale: Scale, say: Words) -> None:
    """A subject and what is compared with tau, as a bar with a mark at tau."""
    compared = score(candidate)
    withheld = candidate.HasField("negative")
    under = scale.tau is not None and compared <= scale.tau and not withheld
    with ui.element("div").classes("candidate under" if under else "candidate"):
        with ui.element("p"):
            draw_name(candidate.subject_id)
            if withheld:
                ui.label(say("look.withheld")).classes("soft")
            ui.label(_measured(candidate)).classes("distance")
        draw_bar(compared, scale)


def draw_bar(compared: float, scale: Scale) -> None:
    with ui.element("div").classes("bar beyond" if scale.beyond(compared) else "bar").props("aria-hidden=true"):
        ui.element("i").style(f"width:{100 * scale.at(compared):.1f}%")
        if scale.tau is not None:
            ui.element("s").style(f"left:{100 * TAU_AT:.1f}%")


def draw_name(name: str) -> ui.label:
    """A name from the server, which keeps its own direction of writing."""
    return ui.label(name).classes("name-of").props("dir=auto")


def _measured(candidate: Candidate) -> str:
    """What is compared with tau, and the probability where the encoder tells one."""
    compared = distance(score(candidate))
    return f"{compared} · {probability(candidate.probability)}" if candidate.HasField("probability") else compared


def draw_row(tag: str, *cells: str) -> list[ui.element]:
    """A table row with cells ``th`` or ``td``; returns the cells."""
    made = []
    with ui.element("tr"):
        for text in cells:
            with ui.element(tag) as cell:
                if text:
                    ui.label(text).props("dir=auto")
            made.append(cell)
    return made


def draw_entry(term: str, text: str) -> None:
    """A term of a description list, and its text."""
    with ui.element("dt"):
        ui.label(term)
    with ui.element("dd"):
        ui.label(text).props("dir=auto")


def draw_heading(text: str) -> None:
    ui.label(text).classes("title").props("role=heading aria-level=2")
