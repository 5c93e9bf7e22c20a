"""The styles that a stylizer is trained on: pictures, with what the manifest tells of them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oneglance_core.manifests import Style
from oneglance_core.toml_files import read_toml
from oneglance_exporter.errors import DataError, SettingsError
from oneglance_exporter.perceptual.pictures import Rgb, read_picture, with_shorter_side

_Found = tuple[Style, Path, dict[str, float]]  # what is told of it, its picture, its own _WEIGHTS
_WEIGHTS = {"beta": "above 0", "level": "from 0"}  # settings that a style may have for itself
_LONGEST_STYLE = 16  # its longer side by its shorter: J of a thin strip, enlarged, would take all memory
_TOML = """\
[[style]]
picture = "wave.jpg"                       # beside this file
name = "wave"
title = "Katsushika Hokusai: The Great Wave off Kanagawa, 1831"
source = "where the picture is from"
license = "public domain"
beta = 0.002                               # instead of --beta, for this one
level = 100                                # instead of --level, for this one
"""


@dataclass(frozen=True, slots=True)
class StylePicture:
    """A style: what the manifest tells of it, its picture, uint8 [H, W, 3] rgb, its own beta and level, if any."""

    style: Style
    picture: Rgb
    beta: float | None = None
    level: float | None = None


def read_styles(paths: Sequence[str], size: int) -> list[StylePicture]:
    """The styles of pictures, named by their files, and of ``.toml`` lists; shorter side brought to ``size`` pixels.

    Raises DataError for a file that isn't there or can't be read, SettingsError for a name that is used twice.
    """
    found = [
        style for path in map(Path, paths) for style in (_listed(path) if path.suffix == ".toml" else [_named(path)])
    ]
    names = [style.name for style, _, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"two styles are named {name!r}; name them in a .toml:\n\n{_TOML}")
    return [StylePicture(style, _style_picture(path, size), **weights) for style, path, weights in found]


def _style_picture(path: Path, size: int) -> Rgb:
    picture = read_picture(path)
    height, width = picture.shape[:2]
    if max(height, width) > _LONGEST_STYLE * min(height, width):
        raise DataError(f"{path}: {width} x {height} is too thin for a style, {_LONGEST_STYLE} to 1 at most")
    return with_shorter_side(picture, size)


def _entry(entry: dict[str, Any], folder: Path) -> _Found:
    picture = folder / entry.pop("picture")
    weights = {name: entry.pop(name) for name in _WEIGHTS if name in entry}
    for name, value in weights.items():
        number = isinstance(value, float | int) and not isinstance(value, bool)
        if not number or not (0 < value < 1e30 or (name == "level" and value == 0)):
            raise ValueError(f"{name} must be a number {_WEIGHTS[name]} and below 1e30")
    return Style(**entry), picture, weights


def _named(path: Path) -> _Found:
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")[:63]
    if not name:
        raise SettingsError(f"{path}: its name makes no name of a style; name it in a .toml:\n\n{_TOML}")
    title = path.stem.encode(errors="replace").decode()  # a file's name may hold what no text does
    return Style(name=name, title=title), path, {}


def _listed(path: Path) -> list[_Found]:
    try:
        entries = read_toml(path)["style"]
        return [_entry(dict(entry), path.parent) for entry in entries]
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError(f"{path}: not a list of styles ({error}); expected\n\n{_TOML}") from error
