"""TOML files that anybody may have written: read in bounded time."""

import re
import tomllib
from pathlib import Path
from typing import Any

MOST_BYTES = 4 << 20
_PART = r"""(?:[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*"""
_LONG_KEY = re.compile(rf"(?:{_PART}){{64}}", re.ASCII)  # to read one takes time with the square of its parts


class TomlError(ValueError):
    """Not TOML, or more than a file of settings has."""


def parse_toml(content: bytes) -> dict[str, Any]:
    """Raises TomlError."""
    if len(content) > MOST_BYTES:
        raise TomlError(f"{len(content):,} bytes, at most {MOST_BYTES:,}")
    try:
        text = content.decode()
        if _LONG_KEY.search(text):
            raise TomlError("a key has more than 64 parts")
        return tomllib.loads(text)
    except RecursionError as error:
        raise TomlError("values within values, too deep") from error
    except ValueError as error:  # TOML, UTF-8
        raise TomlError(str(error)) from error


def read_toml(path: Path) -> dict[str, Any]:
    """Raises TomlError, OSError."""
    if not path.is_file():  # a pipe would wait for a writer, and a device may never end
        raise TomlError("not a file") if path.exists() else FileNotFoundError(2, "No such file or directory", str(path))
    with path.open("rb") as file:
        return parse_toml(file.read(MOST_BYTES + 1))
