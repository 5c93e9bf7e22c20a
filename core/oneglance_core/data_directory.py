"""Where galleries are kept when nobody says where: in a place of the user's, whatever folder a shell stands in."""

import os
from pathlib import Path

VARIABLE = "ONEGLANCE_DATA_DIR"
SHOWN = "~/.local/share/oneglance/data"
FORMER = Path("oneglance-data")  # in the working folder: the default of earlier versions
_STORE = "store.sqlite3"


def data_directory(text: str) -> Path:
    """Raises ValueError for an empty one, which would be the working folder."""
    if not text:
        raise ValueError("names no folder; . is the working folder")
    return Path(text)


def default_data_directory() -> Path:
    """By XDG: ``$XDG_DATA_HOME/oneglance/data``. Raises ValueError for a user without a home."""
    from platformdirs import user_data_path

    found = user_data_path("oneglance") / "data"
    if not found.is_absolute():
        raise ValueError("this user has no home folder: name the data directory")
    return found


def chosen_data_directory(given: str | None) -> Path:
    """``given``; else that of the environment; else the default.

    Raises ValueError when the default is taken, holds nothing, and there is a data directory in the working folder
    where earlier versions made theirs.
    """
    if given is not None:
        return data_directory(given)
    if VARIABLE in os.environ:
        return data_directory(os.environ[VARIABLE])
    default = default_data_directory()
    if (FORMER / _STORE).is_file() and not (default / _STORE).exists():
        raise ValueError(
            f"the data directory is {default} by default, where nothing is yet, and no longer {FORMER} in the working "
            f"folder, where galleries are: name that ({FORMER}), or move it there (mkdir -p {default.parent}; "
            f"mv {FORMER.resolve()} {default})"
        )
    return default
