"""What became of the files of a folder: counts, a summary in words, a report."""

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oneglance_apps.bulk.enroll import Result
from oneglance_apps.bulk.listing import LeftOut, Listing
from oneglance_apps.text import counted, joined
from oneglance_core.files import replacing


@dataclass
class Account:
    """What became of every file, so far."""

    gallery: str
    folder: str
    listing: Listing
    begun: float = field(default_factory=time.monotonic)
    results: list[Result] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        return Counter(result.outcome for result in self.results)

    @property
    def photos_left_out(self) -> int:
        return sum(one.photo for one in self.listing.left_out)

    @property
    def not_done(self) -> int:
        return len(self.listing.photos) - len(self.results)

    @property
    def complete(self) -> bool:
        """Whether every photo is enrolled, or would be."""
        counts = self.counts
        return not (self.not_done or self.photos_left_out or counts["refused"] or counts["failed"])

    def progress(self) -> str:
        """``120 of 4,000 photos, 35.2 a second, 2 min left``."""
        done, seconds = len(self.results), time.monotonic() - self.begun
        left = _time(self.not_done * seconds / done)
        return f"{done:,} of {len(self.listing.photos):,} photos, {done / seconds:.1f} a second, {left} left"

    def summary(self) -> str:
        counts, seconds = self.counts, time.monotonic() - self.begun
        subjects = len({result.photo.subject for result in self.results if result.outcome in ("enrolled", "planned")})
        others = len(self.listing.left_out) - self.photos_left_out
        done = f"{counted(counts['enrolled'] + counts['planned'], 'photo')} of {counted(subjects, 'subject')}"
        return joined(
            f"{done} would be enrolled" if counts["planned"] else f"{done} enrolled in {_time(seconds)}",
            f"{counts['skipped']:,} skipped" if counts["skipped"] else "",
            f"{counts['refused']:,} refused" if counts["refused"] else "",
            f"{counts['failed']:,} failed" if counts["failed"] else "",
            f"{self.not_done:,} not done: the same command goes on" if self.not_done else "",
            f"{counted(self.photos_left_out, 'photo')} left out" if self.photos_left_out else "",
            f"{counted(others, 'other')} left out" if others else "",
            f"{counted(self.listing.system_files, 'hidden or system file')} ignored (._*, Thumbs.db and the like)"
            if self.listing.system_files
            else "",
        )

    def write(self, file: Path) -> None:
        """The report, JSON. Raises OSError."""
        about = {
            "gallery": self.gallery,
            "folder": self.folder,
            "complete": self.complete,
            "seconds": round(time.monotonic() - self.begun, 3),
            "counts": {
                **self.counts,
                "not_done": self.not_done,
                "left_out": len(self.listing.left_out),
                "system_files": self.listing.system_files,
            },
            "photos": list(map(result_fields, self.results)),
            "left_out": [left_out_fields(one) for one in self.listing.left_out],
        }
        with replacing(file) as fresh:
            fresh.write_text(json.dumps(about, indent=1) + "\n")


def result_fields(result: Result) -> dict[str, Any]:
    """One photo in the report, and with --json."""
    return {
        "file": result.photo.name,
        "subject": result.photo.subject,
        "outcome": result.outcome,
        "why": result.why,
        "reason": result.reason,
        "encoding_id": result.encoding_id,
        "doubtful": list(result.notes),
    }


def left_out_fields(one: LeftOut) -> dict[str, Any]:
    """A file that wasn't sent, there."""
    return {"file": one.name, "outcome": "left out", "photo": one.photo, "why": one.why}


def _time(seconds: float) -> str:
    """``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"
