"""Text that others wrote, for a terminal."""


def printable(text: str, *, lines: bool = False) -> str:
    """With escapes such as ``\\x1b`` and ``\\u202e`` in place of what isn't printed: it could move the cursor, or
    turn round what stands beside it. ``lines``: line breaks and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() or (lines and one in "\n\t") else one.encode("unicode_escape").decode() for one in text
    )
