"""Subjects whose names are one name in two spellings: "Ann Lee" and "ann_lee". Most often they are one subject."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from oneglance_exporter.data.files import File
from oneglance_exporter.errors import DataError
from oneglance_exporter.settings import Spellings


def checked(files: Sequence[File], spellings: Spellings) -> list[File]:
    """``files``, each of the subject that it is of by ``subject_names``, sorted. Raises DataError as it does."""
    name_of = subject_names((file.subject for file in files), spellings)
    # Of two files of one name, the second keeps its subject's spelling in its own.
    united = [
        file
        if name_of[file.subject] == file.subject
        else replace(file, subject=name_of[file.subject], name=f"{file.name} of {file.subject}")
        for file in files
    ]
    return sorted(united, key=lambda file: (file.subject, file.name))


def subject_names(subjects: Iterable[str], spellings: Spellings) -> dict[str, str]:
    """Of the subjects of all examples: the name to take for each name. One subject's is its commonest.

    Raises DataError that names two subjects of which the names are one.
    """
    counts = Counter(subjects)
    if spellings == "distinct":
        return {name: name for name in counts}
    spelled: dict[str, list[str]] = {}
    for name in counts:
        spelled.setdefault(plain_name(name), []).append(name)
    if spellings == "refuse":
        for names in spelled.values():
            if len(names) > 1:
                raise DataError(
                    f"subjects {names[0]!r} and {names[1]!r} are one name in two spellings; rename one, or say which "
                    "they are: --spellings one, or --spellings distinct"
                )
    return {name: max(names, key=counts.__getitem__) for names in spelled.values() for name in names}


def plain_name(subject: str) -> str:
    """Without what spellings differ in: capitals, how accents are stored, what isn't seen, spaces, _ and -. Folders
    stay apart."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", subject).casefold())
    seen = "".join(char for char in folded if unicodedata.category(char) != "Cf")
    between = re.sub(r"(?<=\d)[\s_-]+(?=\d)", "\0", seen)  # 1_12 is not 11_2
    return re.sub(r"[\s_-]+", "", between)
