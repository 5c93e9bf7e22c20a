"""Text that others wrote, for a terminal."""

from oneglance_core.names import is_written


def printable(text: str, *, lines: bool = False) -> str:
    """With escapes such as ``\\x1b`` and ``\\u202e`` in place of what isn't printed: it could move the cursor, or
    turn round what stands beside it. What names are written with stays, joiners too. ``lines``: line breaks and tabs
    stay."""
    if text.isprintable():
        return text
    return "".join(
        one if is_written(one) or (lines and one in "\n\t") else one.encode("unicode_escape").decode() for one in text
    )
