"""The base of a manifest and of everything inside one.

Errors::

    ModelFolderError            a model folder, or a part of its manifest, that can't be used
"""

import json
from typing import Any

from oneglance_core.frozen import Frozen


class ModelFolderError(ValueError):
    """Raised when a model folder is missing, damaged, or breaks the schema; the message names file and field."""


class Part(Frozen):
    """A manifest, or a part of one."""


def canonical(value: Any) -> bytes:
    """The JSON text of ``value`` that digests are taken of: keys sorted, no spaces, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
