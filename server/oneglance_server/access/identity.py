"""Somebody who calls, as a credential tells it."""

from collections.abc import Callable
from dataclasses import dataclass

ANONYMOUS = "anonymous"
MAX_NAME_CHARACTERS = 256


@dataclass(frozen=True, slots=True)
class Identity:
    """name: ``key:NAME``, ``cert:NAME``, ``jwt:NAME`` or ``anonymous``. groups: ``group:NAME``, of a token.

    holds: whether the credential is still good, asked again and again while a stream goes on.
    """

    name: str
    groups: tuple[str, ...] = ()
    holds: Callable[[], bool] = lambda: True

    @property
    def names(self) -> tuple[str, ...]:
        """By which a grant may call it."""
        return (self.name, *self.groups)


NOBODY = Identity(ANONYMOUS)


def is_name(text: object) -> bool:
    """Whether somebody may be called so: 1 to 256 printable characters."""
    return isinstance(text, str) and 0 < len(text) <= MAX_NAME_CHARACTERS and text.isprintable()
