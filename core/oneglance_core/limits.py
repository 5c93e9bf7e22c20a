"""Limits on figures, and breaches of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Limit:
    """A named figure is to be at least ``least`` and at most ``most``; None: no such limit."""

    figure: str
    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, slots=True)
class Breach:
    """A figure outside its limit."""

    limit: Limit
    value: float

    def __str__(self) -> str:
        """``sharpness 1.2, at least 4``."""
        low = self.limit.least is not None and not self.value >= self.limit.least
        bound = f"at least {self.limit.least:g}" if low else f"at most {self.limit.most:g}"
        return f"{self.limit.figure} {self.value:.3g}, {bound}"


def breaches(figures: Mapping[Any, float], limits: Iterable[Limit]) -> tuple[Breach, ...]:
    """The limits that ``figures``, by name, break, in the order of ``limits``. NaN breaks every limit on it.

    Raises KeyError for a limit on a figure that isn't there.
    """
    return tuple(Breach(limit, figures[limit.figure]) for limit in limits if not _holds(figures[limit.figure], limit))


def _holds(value: float, limit: Limit) -> bool:
    return (limit.least is None or value >= limit.least) and (limit.most is None or value <= limit.most)
