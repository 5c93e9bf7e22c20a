"""Brings pictures that say by an ICC profile what their colours mean to sRGB, which everything here works in.

A profile that moves no sample by more than ``_ALIKE`` levels is sRGB by whatever name, and the samples stay as they
are. So they do under a profile that can't be used: damaged, larger than ``MAX_PROFILE_BYTES``, or of another kind of
samples than the picture's. That is what browsers do, too: a picture is not refused for what stands beside it.

Profiles come from outside. Little CMS, which reads them, checks their tables, and what it costs is bounded by their
size, but for one kind of table: curves of any number of pieces, of which all are looked at for every colour. Profiles
that have them are passed over, too; cameras and programs write none.
"""

import io
import struct
from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 << 20
_HEADER = struct.Struct(">L8x4s4s16x4s")  # size, class of device, kind of samples, mark
_MARK = b"acsp"
_PIECEWISE = b"mpet"  # multiProcessElementsType
_DEVICES = (b"scnr", b"mntr", b"prtr", b"spac")  # not links between devices, abstract changes or named colours
_KINDS = {"L": b"GRAY", "LA": b"GRAY", "RGB": b"RGB ", "RGBA": b"RGB ", "CMYK": b"CMYK"}
# What other modes are turned into first. Not black and white, nor what is no colour of a device.
_PLAIN = {"P": "RGB", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB"}
_ALIKE = 2  # levels of 255
_LEVELS = np.arange(0, 256, 15, dtype=np.uint8)
_GRID = np.stack(np.meshgrid(_LEVELS, _LEVELS, _LEVELS), axis=-1).reshape(18, -1, 3)
_RAMP = np.arange(256, dtype=np.uint8)[np.newaxis]
_SMALL = 16 << 10  # the common ones are; conversions of these are kept
_INTENT, _FLAGS = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
_SRGB = ImageCms.createProfile("sRGB")

Change = Callable[[Image.Image], Image.Image]


def _without_date(profile: bytes) -> bytes:
    """The same in every process."""
    return profile[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + profile[36:]


SRGB_PROFILE = _without_date(ImageCms.ImageCmsProfile(_SRGB).tobytes())
"""An ICC profile that says sRGB."""


def to_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """A decoded picture of 8 bits a sample, in sRGB; the same one where ``profile`` changes nothing."""
    mode = _plain_mode(picture)
    change = _change(mode, profile)
    if change is None:
        return picture
    return change(picture if picture.mode == mode else picture.convert(mode))


def changes_colors(picture: Image.Image) -> bool:
    """Whether the profile of a picture that needn't be decoded yet is another than sRGB, and can be used."""
    return _change(_plain_mode(picture), picture.info.get("icc_profile")) is not None


def _plain_mode(picture: Image.Image) -> str:
    mode = _PLAIN.get(picture.mode, picture.mode)
    return {"L": "LA", "RGB": "RGBA"}.get(mode, mode) if "transparency" in picture.info else mode


def _change(mode: str, profile: object) -> Change | None:
    if not isinstance(profile, bytes) or mode not in _KINDS:  # a TIFF may have numbers in its place
        return None
    if not _HEADER.size <= len(profile) <= MAX_PROFILE_BYTES:
        return None
    size, device, kind, mark = _HEADER.unpack_from(profile)
    if mark != _MARK or size > len(profile) or device not in _DEVICES or kind != _KINDS[mode] or _PIECEWISE in profile:
        return None
    return (_kept_conversion if len(profile) <= _SMALL else _conversion)(profile, mode)


def _conversion(profile: bytes, mode: str) -> Change | None:
    """What brings pictures of ``mode`` to sRGB; None if there is nothing to do, or the profile is damaged."""
    kind = _KINDS[mode]
    try:
        given = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if kind == b"GRAY":
            return _gray_conversion(given)
        if kind == b"RGB " and _alike(_transform(given, "RGB", "RGB").apply(Image.fromarray(_GRID)), _GRID):
            return None
        return _transform(given, mode, "RGBA" if mode == "RGBA" else "RGB").apply
    except (ImageCms.PyCMSError, OSError):
        return None


_kept_conversion = lru_cache(maxsize=64)(_conversion)


def _transform(given: ImageCms.ImageCmsProfile, mode: str, becomes: str) -> ImageCms.ImageCmsTransform:
    return ImageCms.buildTransform(given, _SRGB, mode, becomes, _INTENT, _FLAGS)


def _gray_conversion(given: ImageCms.ImageCmsProfile) -> Change | None:
    """Gray stays gray: sRGB's red, green and blue of it are one."""
    curve = _transform(given, "L", "RGB").apply(Image.fromarray(_RAMP)).getchannel("G")
    if _alike(curve, _RAMP):
        return None
    table, straight = list(curve.tobytes()), list(range(256))
    return lambda picture: picture.point(table + straight if picture.mode == "LA" else table)


def _alike(given: Image.Image, wanted: npt.NDArray[np.uint8]) -> bool:
    return int(np.abs(np.asarray(given).astype(np.int16) - wanted).max()) <= _ALIKE
