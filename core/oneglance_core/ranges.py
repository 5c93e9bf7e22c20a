"""Ranges of numbers on the command line, for options that no settings model has. Needs no pydantic."""

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

Number = TypeVar("Number", int, float)

MOST_SECONDS = 31_536_000.0  # a year: nobody means more, and what waits can't count much further
MOST = 2**53  # every whole number up to it is a float, too


def within(
    kind: type[Number],
    *,
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
    below: float = math.inf,
) -> Callable[[str], Number]:
    """For ``type`` of ``add_argument``: reads a finite number in the range; another is a usage error that tells it.

    Without limits the range is -2^53 to 2^53.
    """
    limits = {"at least": least, "greater than": above, "at most": most, "less than": below}
    told = " and ".join(f"{words} {limit:.12g}" for words, limit in limits.items() if math.isfinite(limit))

    def read(text: str) -> Number:
        number = kind(text)
        if not (least <= number <= most and above < number < below):  # nor NaN
            raise argparse.ArgumentTypeError(f"must be {told or 'finite'}, got {text}")
        if not -MOST <= number <= MOST:
            raise argparse.ArgumentTypeError(f"must be between -2^53 and 2^53, got {text}")
        return number

    read.__name__ = kind.__name__  # argparse tells it of a text that is no number
    return read


def seconds(*, least: float = -math.inf, above: float = -math.inf) -> Callable[[str], float]:
    """``within`` for a time: at most a year."""
    return within(float, least=least, above=above, most=MOST_SECONDS)
