"""Labels of subjects from a CSV file: a column ``subject``, and one for each label."""

import csv
import unicodedata
from pathlib import Path

SUBJECT_COLUMN = "subject"


def read_labels(file: Path) -> dict[str, dict[str, str]]:
    """By subject. An empty cell is no label. UTF-8, with or without a byte order mark; separated by comma, semicolon
    or tab, whichever the first line has most of.

    Raises OSError, and ValueError with the line where it is no such table.
    """
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8: {error.reason} at byte {error.start:,}") from None
    first = text.partition("\n")[0]
    rows = csv.DictReader(text.splitlines(keepends=True), delimiter=max(",;\t", key=first.count), strict=True)
    names = [name.strip() for name in rows.fieldnames or ()]
    if SUBJECT_COLUMN not in names or len(set(names)) != len(names) or "" in names:
        raise ValueError(f"{file}: the first line names the columns, each once: {SUBJECT_COLUMN}, and the labels")
    rows.fieldnames = names
    found: dict[str, dict[str, str]] = {}
    try:
        for row in rows:
            where = f"{file}, line {rows.line_num}"
            if None in row or None in row.values():
                raise ValueError(f"{where}: has not as many cells as the first line, {len(names)}")
            subject = unicodedata.normalize("NFC", row.pop(SUBJECT_COLUMN))
            if not subject:
                raise ValueError(f"{where}: names no subject")
            if subject in found:
                raise ValueError(f"{where}: {subject} has a line already")
            found[subject] = {name: value for name, value in row.items() if value}
    except csv.Error as error:
        raise ValueError(f"{file}, line {rows.line_num}: {error}") from None
    return found
