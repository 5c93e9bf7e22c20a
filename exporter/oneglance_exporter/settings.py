"""What the settings of every command have in common. The command line is made from them by ``oneglance_core.flags``."""

from typing import Annotated, Any, Literal

from pydantic import ValidationError

from oneglance_core.flags import Flag, complaints
from oneglance_core.frozen import Frozen
from oneglance_exporter.errors import SettingsError

HIGHEST_LEARNING_RATE = 1000.0  # far beyond use; what torch computes from it stays finite

Paths = Annotated[tuple[str, ...], Flag(metavar="PATH")]
OptionalPath = Annotated[str | None, Flag(metavar="PATH")]
DeviceName = Literal["cpu", "cuda"]
DEVICE = "where the networks run; without a usable card, cuda is an error"
Spellings = Literal["refuse", "distinct", "one"]
"""Subjects whose names are one name in two spellings are refused, left distinct, or made one."""


class CommandSettings(Frozen):
    """Raises SettingsError, a line for each setting that is out of range."""

    def __init__(self, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise SettingsError("\n".join(complaints(error))) from error
