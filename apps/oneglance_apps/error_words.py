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
    """Why a call was refused, without its status. What is at fault is named once."""
    told = dict.fromkeys(f"{_named(field, names)}: {text}" for field, text in error.field_violations)
    whole = not any(error.message == f"{field}: {text}" for field, text in error.field_violations)
    text = "; ".join([*([error.message] if whole else []), *told])
    return with_names(text.replace("(accept_breaches enrolls it)", "(--accept-breaches enrolls it)"), names)


def _named(field: str, names: Sequence[str]) -> str:
    return names[0] if field == "image" and names else _FIELDS.get(field, field)
