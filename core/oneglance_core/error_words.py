"""An error in one line, for a log."""


def in_words(error: BaseException) -> str:
    """Its type, and what it says: MemoryError and others say nothing."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
