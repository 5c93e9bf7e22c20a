"""What a call was refused for, in the words of who gave the files."""

import re
from collections.abc import Sequence

from oneglance.client.errors import OneglanceError

# A path in a request: the list of examples, or the one example, and what stands below it.
_PATH = re.compile(r"\b(?:(examples|probes|images)\[(\d+)\]|(example|probe|other))((?:\.\w+)*)(?=[: ,;]|$)")
_FIELDS = {
    "gallery_id": "the gallery's id",
    "subject_id": "the subject's id",
    "settings.gallery_id": "the gallery's id",
}


def with_names(text: str, names: Sequence[str]) -> str:
    """``text`` with the files' names in place of paths in the request: ``examples[0].image``."""

    def name(path: re.Match[str]) -> str:
        if path[2] is not None:
            index = int(path[2])
        elif not path[4]:
            return path[0]  # a word, not a path
        else:
            index = len(names) - 1 if path[3] == "other" else 0
        return names[index] if 0 <= index < len(names) else path[0]

    return _PATH.sub(name, text)


def why(error: OneglanceError, names: Sequence[str] = ()) -> str:
    """Why a call was refused, without its status. Each field that is at fault is named once."""
    if not error.field_violations:
        return with_names(error.message, names)
    told = dict.fromkeys(f"{_FIELDS.get(field, field)}: {text}" for field, text in error.field_violations)
    return with_names("; ".join(told), names)
