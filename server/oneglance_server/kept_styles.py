"""Styles of pictures that are kept under names, in one file of the data directory: vectors, never pictures."""

import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
from pydantic import Field, ValidationError

from oneglance_core.files import replacing
from oneglance_core.frozen import Frozen
from oneglance_core.manifests import Style, StyleSpace
from oneglance_server.errors import InvalidRequest, StartupError, StyleExists, StyleNotFound, StylesBusy, StylesOff

FILE = "styles.json"
MAX_KEPT = 1000
_Key = tuple[StyleSpace, str]  # and the name
log = structlog.get_logger()


class KeptStyle(Style):
    """A style in a space. ``created``: seconds since 1970."""

    space: StyleSpace
    vector: tuple[float, ...]
    created: float


class _Content(Frozen):
    styles: tuple[KeptStyle, ...] = Field(max_length=MAX_KEPT)


class KeptStyles:
    """Those in the file ``path``, which one process has for itself; None: there are none, nor can be. Safe from any
    thread. Raises StartupError."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._changes = threading.Lock()
        try:
            found = _Content.model_validate_json(path.read_bytes()).styles if path and path.exists() else ()
        except (OSError, ValidationError) as error:
            raise StartupError(f"{path}: is no file of styles, or can't be read ({error})") from error
        self._take({(style.space, style.name): style for style in found})

    def of(self, space: StyleSpace) -> list[KeptStyle]:
        """By name."""
        found = [style for style in self._styles.values() if style.space == space]
        return sorted(found, key=lambda style: style.name)

    def vectors(self, space: StyleSpace) -> dict[str, npt.NDArray[np.float64]]:
        """By name, float64 [S] each."""
        return {name: vector for (own, name), vector in self._vectors.items() if own == space}

    def add(self, style: Style, space: StyleSpace, vector: npt.NDArray[np.float32]) -> KeptStyle:
        """On the disk when this returns. Raises StyleExists, InvalidRequest, StylesBusy, StylesOff."""
        if self._path is None:
            raise StylesOff("this server's galleries are another one's: that one keeps styles, for its own calls")
        kept = KeptStyle(**style.model_dump(), space=space, vector=tuple(vector.tolist()), created=time.time())
        with self._changes:
            if (space, style.name) in self._styles:
                raise StyleExists(f"there is a style {style.name!r} already", metadata={"style": style.name})
            if len(self._styles) >= MAX_KEPT:
                raise InvalidRequest(f"there are {MAX_KEPT} styles: delete some", reason="TOO_MANY")
            self._write({**self._styles, (space, style.name): kept})
        return kept

    def remove(self, space: StyleSpace, name: str) -> None:
        """Gone from the disk when this returns. Raises StyleNotFound, StylesBusy."""
        with self._changes:
            if (space, name) not in self._styles:
                raise StyleNotFound(f"no style {name!r} is kept", metadata={"style": name})
            self._write({key: style for key, style in self._styles.items() if key != (space, name)})

    def _take(self, styles: dict[_Key, KeptStyle]) -> None:
        self._styles = styles
        self._vectors = {key: np.array(style.vector) for key, style in styles.items()}

    def _write(self, styles: dict[_Key, KeptStyle]) -> None:
        assert self._path is not None
        text = _Content(styles=tuple(styles.values())).model_dump_json(indent=1)
        try:
            with replacing(self._path, private=True) as fresh:
                fresh.write_text(text)
        except OSError as error:
            log.error("the file of styles can't be written", error=str(error))
            raise StylesBusy("the file of styles can't be written now; the server's log says why") from error
        self._take(styles)
