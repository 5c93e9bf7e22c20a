"""A part of a frame."""

Region = tuple[float, float, float, float]
"""Left, top, width and height, as shares of the frame in [0, 1]."""

WHOLE: Region = (0.0, 0.0, 1.0, 1.0)


def region(text: str) -> Region:
    """``0.25,0,0.5,1``: left, top, width and height. Raises ValueError."""
    left, top, width, height = map(float, text.split(","))
    if not (0 <= left < 1 and 0 <= top < 1 and 0 < width <= 1 - left + 1e-9 and 0 < height <= 1 - top + 1e-9):
        raise ValueError(f"{text}: not within the frame")
    return left, top, width, height
