"""A log line for what changed: who was enrolled or deleted, which threshold was set, by whom."""

from collections.abc import Sequence
from itertools import groupby

import structlog

from oneglance_core.printable import printable
from oneglance_index import Event

log = structlog.get_logger()
_SHOWN = 5  # subjects of one line
_DETAILS = ("tau", "target_fpir", "fusion", "decided_by", "quality", "least_gap", "doubt", "model", "keep_crops")


class ChangeLogger:
    """Hears what each commit changed. Writes one line for all of a kind, a gallery and a caller: many are enrolled at
    once.

    name_subjects: tell their ids; else only how many there are.
    """

    def __init__(self, *, name_subjects: bool) -> None:
        self._name_subjects = name_subjects

    def __call__(self, events: Sequence[Event]) -> None:
        for (did, gallery, by), group in groupby(events, lambda one: (one.did, one.gallery, one.actor.name)):
            self._tell(did, gallery, by, list(group))

    def _tell(self, did: str, gallery: str | None, by: str, events: Sequence[Event]) -> None:
        told: dict[str, object] = {"gallery": printable(gallery or "")}
        subjects = [event.subject for event in events if event.subject is not None]
        if subjects:
            told["count"] = len(subjects)
            if self._name_subjects:
                told["subjects"] = [printable(subject) for subject in subjects[:_SHOWN]]
        else:
            details = events[-1].details
            told |= {name: details[name] for name in _DETAILS if details.get(name) is not None}
        log.info(did, **told, by=printable(by))
