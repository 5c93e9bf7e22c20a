"""What a check found."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["good", "note", "bad"]
"""good: as it should be. note: it works, with a limit that is told. bad: a server would not start, or lose data."""


@dataclass(frozen=True, slots=True)
class Finding:
    verdict: Verdict
    about: str
    text: str
