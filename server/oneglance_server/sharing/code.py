"""Whether a keeper of galleries and who uses it run the same code: else they could take each other's words for others.

What crosses are records, errors, calls, the texts of files that they have in common (API keys, kept styles), names of
quotas; and more is understood alike than is said. So it is all of the code, and nothing has to be listed."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable
from pathlib import Path

import oneglance_core
import oneglance_index
import oneglance_server


@functools.cache
def code() -> str:
    """Of this process: SHA-256 of the text of its packages, hexadecimal. Reads some 350 files, once."""
    return code_of(
        Path(str(package.__file__)).parent for package in (oneglance_core, oneglance_index, oneglance_server)
    )


def code_of(packages: Iterable[Path]) -> str:
    """Of folders of packages: their modules' names and texts."""
    digest = hashlib.sha256()
    for package in packages:
        for file in sorted(package.rglob("*.py")):
            text = file.read_bytes()
            digest.update(f"{package.name}/{file.relative_to(package).as_posix()} {len(text)}\n".encode())
            digest.update(text)
    return digest.hexdigest()
