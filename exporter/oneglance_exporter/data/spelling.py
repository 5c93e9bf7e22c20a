"""Subjects whose names are one name in two spellings: "Ann Lee" and "ann_lee". Most often they are one subject."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from oneglance_exporter.data.files import File
from oneglance_exporter.errors import DataError


def checked(files: Sequence[File], spellings: Literal["refuse", "distinct", "one"]) -> list[File]:
    """``files``, with subjects of two spellings refused, left distinct, or made one, under its commonest spelling.

    Raises DataError that names two such subjects.
    """
    if spellings == "distinct":
        return list(files)
    counts: dict[str, dict[str, int]] = {}
    for file in files:
        names = counts.setdefault(plain_name(file.subject), {})
        names[file.subject] = names.get(file.subject, 0) + 1
    if spellings == "refuse":
        for names in counts.values():
            if len(names) > 1:
                first, second = list(names)[:2]
                raise DataError(
                    f"subjects {first!r} and {second!r} are one name in two spellings; rename one, or say which they "
                    "are: --spellings one, or --spellings distinct"
                )
        return list(files)
    name_of = {plain: max(names, key=lambda name: names[name]) for plain, names in counts.items()}
    # Of two files of one name, the second keeps its subject's spelling in its own.
    united = [
        file
        if name_of[plain_name(file.subject)] == file.subject
        else replace(file, subject=name_of[plain_name(file.subject)], name=f"{file.name} of {file.subject}")
        for file in files
    ]
    return sorted(united, key=lambda file: (file.subject, file.name))


def plain_name(subject: str) -> str:
    """Without what spellings differ in: capitals, how accents are stored, what isn't seen, spaces, _ and -. Folders
    stay apart."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", subject).casefold())
    seen = "".join(char for char in folded if unicodedata.category(char) != "Cf")
    between = re.sub(r"(?<=\d)[\s_-]+(?=\d)", "\0", seen)  # 1_12 is not 11_2
    return re.sub(r"[\s_-]+", "", between)
