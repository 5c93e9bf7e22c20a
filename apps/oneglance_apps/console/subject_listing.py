"""The subjects that a search finds, as far down as somebody scrolled: fetched from the server page by page, once."""

import asyncio

from oneglance.client.async_client import AsyncClient
from oneglance.v1.common_pb2 import SubjectFilter
from oneglance.v1.subject_pb2 import Subject
from oneglance_apps.console.wording import utc

MOST_LISTED = 100_000  # rows kept for a page; whoever is beyond is found by searching


class SubjectListing:
    """Rows of a gallery's subjects by id. ``total``: how many the search finds."""

    def __init__(self, api: AsyncClient, gallery_id: str, filter: SubjectFilter | None, total: int) -> None:
        self.total = total
        self._rows: list[dict[str, object]] = []
        self._subjects = api.list_subjects(gallery_id, filter)
        self._over = False
        self._reading = asyncio.Lock()

    @property
    def length(self) -> int:
        """How many rows can be scrolled through."""
        return min(len(self._rows) if self._over else self.total, MOST_LISTED)

    async def rows(self, start: int, end: int) -> list[dict[str, object]]:
        """The rows from ``start`` to ``end``, fewer at the end of the list. Raises OneglanceError."""
        async with self._reading:
            while len(self._rows) < min(end, MOST_LISTED) and not self._over:
                try:
                    self._rows.append(_row(await anext(self._subjects)))
                except StopAsyncIteration:
                    self._over = True
        return self._rows[start:end]


def _row(subject: Subject) -> dict[str, object]:
    return {
        "id": subject.id,
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(subject.labels.items())),
        "encodings": len(subject.encodings),
        "negatives": len(subject.negatives),
        "enrolled": utc(subject.create_time),
        "changed": utc(subject.update_time),
    }
