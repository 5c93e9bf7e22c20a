"""Styles of pictures that are kept under names, in one file of the data directory: vectors, never pictures."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import structlog
from pydantic import Field, ValidationError

from oneglance_core.frozen import Frozen
from oneglance_core.manifests import Style, StyleSpace
from oneglance_server.errors import InvalidRequest, StartupError, StyleExists, StyleNotFound, StylesBusy
from oneglance_server.shared_files import Files

FILE = "styles.json"
MAX_KEPT = 1000
_MAX_BYTES = 64 << 20
_Key = tuple[StyleSpace, str]  # and the name
log = structlog.get_logger()


class KeptStyle(Style):
    """A style in a space. ``created``: seconds since 1970."""

    space: StyleSpace
    vector: tuple[float, ...]
    created: float


class _Content(Frozen):
    styles: tuple[KeptStyle, ...] = Field(max_length=MAX_KEPT)


class _Kept(NamedTuple):
    styles: Mapping[_Key, KeptStyle]
    vectors: Mapping[_Key, npt.NDArray[np.float64]]


class KeptStyles:
    """Those of a data directory, here or at the server that keeps the galleries. Several processes may share them. Safe
    from any thread. Raises StartupError; while the one that keeps them isn't heard of, there are those known before."""

    def __init__(self, files: Files) -> None:
        try:
            self._file = files.file(FILE, _read, missing=_Kept({}, {}), max_bytes=_MAX_BYTES)
            self._told = ""
        except OSError as error:
            raise StartupError(f"{FILE}: is no file of styles, or can't be read ({error})") from error

    def of(self, space: StyleSpace) -> list[KeptStyle]:
        """By name."""
        found = [style for style in self._now().styles.values() if style.space == space]
        return sorted(found, key=lambda style: style.name)

    def vectors(self, space: StyleSpace) -> dict[str, npt.NDArray[np.float64]]:
        """By name, float64 [S] each."""
        return {name: vector for (own, name), vector in self._now().vectors.items() if own == space}

    def _now(self) -> _Kept:
        trouble = ""
        try:
            self._file.look()
        except (OSError, StartupError) as error:  # what was there before goes on
            trouble = str(error)
        if trouble != self._told:
            self._told = trouble
            if trouble:
                log.error("the file of styles can't be read", error=trouble)
        return self._file.value

    def add(self, style: Style, space: StyleSpace, vector: npt.NDArray[np.float32]) -> KeptStyle:
        """On the disk when this returns. Raises StyleExists, InvalidRequest, StylesBusy."""
        kept = KeptStyle(**style.model_dump(), space=space, vector=tuple(vector.tolist()), created=time.time())

        def put(styles: dict[_Key, KeptStyle]) -> None:
            if (space, style.name) in styles:
                raise StyleExists(f"there is a style {style.name!r} already", metadata={"style": style.name})
            if len(styles) >= MAX_KEPT:
                raise InvalidRequest(f"there are {MAX_KEPT} styles: delete some", reason="TOO_MANY")
            styles[space, style.name] = kept

        self._change(put)
        return kept

    def remove(self, space: StyleSpace, name: str) -> None:
        """Gone from the disk when this returns. Raises StyleNotFound, StylesBusy."""

        def take(styles: dict[_Key, KeptStyle]) -> None:
            if (space, name) not in styles:
                raise StyleNotFound(f"no style {name!r} is kept", metadata={"style": name})
            del styles[space, name]

        self._change(take)

    def _change(self, change: Callable[[dict[_Key, KeptStyle]], None]) -> None:
        """What it makes of the styles is written, unless it raises."""

        def text(kept: _Kept) -> str:
            styles = dict(kept.styles)
            change(styles)
            return _Content(styles=tuple(styles.values())).model_dump_json(indent=1)

        try:
            self._file.change(text)
        except (OSError, StartupError) as error:
            log.error("the file of styles can't be written", error=str(error))
            raise StylesBusy("the file of styles can't be written now; the server's log says why") from error


def _read(path: Path, data: bytes) -> _Kept:
    try:
        found = {(style.space, style.name): style for style in _Content.model_validate_json(data).styles}
    except ValidationError as error:
        raise StartupError(f"{path}: is no file of styles, or can't be read ({error})") from error
    return _Kept(found, {key: np.array(style.vector) for key, style in found.items()})
