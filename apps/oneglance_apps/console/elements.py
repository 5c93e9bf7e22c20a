"""Parts of a page: boxes, thumbnails, candidates, table rows."""

from nicegui import ui

from oneglance.v1.common_pb2 import Candidate
from oneglance.v1.face_pb2 import Face, Photo
from oneglance_apps.text import distance, probability, score


def draw_box(face: Face, photo: Photo, caption: str, state: str) -> ui.element:
    """A face's box over the photo, with caption and a dot for each landmark."""
    box = face.box
    place = (100 * box.x / photo.width, 100 * box.y / photo.height)
    size = (100 * box.width / photo.width, 100 * box.height / photo.height)
    frame = ui.element("button").classes(f"box {state}").props('type="button"')
    frame.style("left:{:.3f}%;top:{:.3f}%;width:{:.3f}%;height:{:.3f}%".format(*place, *size))
    with frame:
        for point in face.landmarks:
            x, y = 100 * (point.x - box.x) / box.width, 100 * (point.y - box.y) / box.height
            ui.element("i").style(f"left:{x:.2f}%;top:{y:.2f}%")
        ui.label(caption)
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


def draw_candidate(candidate: Candidate, tau: float | None, scale: float) -> None:
    """A subject and what is compared with tau, as a bar (full at ``scale``) with a mark at tau."""
    compared = score(candidate)
    withheld = candidate.HasField("negative")
    under = tau is not None and compared <= tau and not withheld
    with ui.element("div").classes("candidate under" if under else "candidate"):
        with ui.element("p"):
            ui.label(f"{candidate.subject_id}, but nearer to a negative" if withheld else candidate.subject_id)
            ui.label(_measured(candidate)).classes("distance")
        with ui.element("div").classes("bar"):
            ui.element("i").style(f"width:{min(100, max(0, 100 * compared / scale)):.1f}%")
            if tau is not None:
                ui.element("s").style(f"left:{min(100, max(0, 100 * tau / scale)):.1f}%")


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
                    ui.label(text)
            made.append(cell)
    return made


def draw_entry(term: str, text: str) -> None:
    """A term of a description list, and its text."""
    with ui.element("dt"):
        ui.label(term)
    with ui.element("dd"):
        ui.label(text)
