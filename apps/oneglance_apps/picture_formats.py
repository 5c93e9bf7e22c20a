"""The picture formats that a server writes: their names, suffixes and media types; and the quality of frames."""

from oneglance.client.requests import PictureFormatName
from oneglance.v1.stylization_pb2 import PictureFormat

SUFFIX_OF_FORMAT: dict[PictureFormatName, str] = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}
FORMAT_OF_SUFFIX: dict[str, PictureFormatName] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

FRAME_QUALITY = 95  # of the JPEGs that frames are sent and answered as, 1 to 100


def format_name(format: PictureFormat.ValueType) -> PictureFormatName:
    """``jpeg`` for PICTURE_FORMAT_JPEG. Raises KeyError for a format that is unknown here."""
    return FORMAT_OF_SUFFIX["." + PictureFormat.Name(format).removeprefix("PICTURE_FORMAT_").lower()]


def media_type(format: PictureFormatName) -> str:
    """``image/jpeg`` for ``jpeg``."""
    return f"image/{format}"
