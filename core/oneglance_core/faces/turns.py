"""Where points and boxes of a photo are once it is turned by quarters."""

from collections.abc import Iterable

Point = tuple[float, float]
Box = tuple[float, float, float, float]


def turn_points(points: Iterable[Point], width: float, height: float, degrees: int) -> tuple[Point, ...]:
    """(x, y) of a photo of ``width`` x ``height`` pixels, in the photo turned clockwise by 0, 90, 180 or 270 degrees.

    A pixel's centre has whole coordinates. A photo that was turned, turned by 360 - degrees, is the photo again.
    """
    right, bottom = width - 1, height - 1
    if degrees == 90:
        return tuple((bottom - y, x) for x, y in points)
    if degrees == 180:
        return tuple((right - x, bottom - y) for x, y in points)
    if degrees == 270:
        return tuple((y, right - x) for x, y in points)
    return tuple(points)


def turn_box(box: Box, width: float, height: float, degrees: int) -> Box:
    """The same of a box (x, y, width, height)."""
    x, y, across, down = box
    corners = turn_points([(x, y), (x + across - 1, y + down - 1)], width, height, degrees)
    (x0, y0), (x1, y1) = corners
    return min(x0, x1), min(y0, y1), abs(x1 - x0) + 1, abs(y1 - y0) + 1
