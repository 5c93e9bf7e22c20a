"""Members of archives that anybody may have made: how large one may be, and how much it may grow."""

import zipfile

MOST_MEMBER_BYTES = 1 << 30
"""Of one picture, sound or array in an archive, and of a cell of a table."""
MOST_GROWTH = 200  # times what is compressed; drawings that are nearly all white stay below 100
ALWAYS_BYTES = 64 << 20  # so much is no harm, however it was compressed


class ArchiveError(ValueError):
    """A member is larger than it may be."""


def check_size(name: str, size: int) -> None:
    """Raises ArchiveError."""
    if size > MOST_MEMBER_BYTES:
        raise ArchiveError(f"{name}: {size:,} bytes, at most {MOST_MEMBER_BYTES:,}")


def check_inflation(member: zipfile.ZipInfo) -> None:
    """That a member doesn't grow beyond reason. Its size is bounded by that of the file then. Raises ArchiveError."""
    if member.file_size > max(ALWAYS_BYTES, MOST_GROWTH * member.compress_size):
        raise ArchiveError(
            f"{member.filename}: {member.compress_size:,} bytes that claim to be {member.file_size:,}: too much to be"
            " believed"
        )
