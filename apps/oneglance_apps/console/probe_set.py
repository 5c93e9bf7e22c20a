"""The probes of Measure: pictures of strangers and of enrolled people, encoded, with their distances in a gallery."""

import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from itertools import islice

from oneglance.client.async_client import AsyncClient
from oneglance.client.errors import NotFoundError
from oneglance.client.requests import mate, stranger
from oneglance.v1.common_pb2 import Candidate, Encoding
from oneglance.v1.gallery_pb2 import CalibrationProbe, Gallery
from oneglance_apps.console.words import Words
from oneglance_apps.text import nearest_given, score

PROBES_PER_CALL = 256
SHOWN_REASONS = 5


@dataclass(eq=False)
class Probe:
    """One encoded picture; the picture itself is not kept.

    person: whom it shows: the subject's id of a mated probe, the folder's name of a stranger, or "".
    nearest, score: the nearest subject and its score, as tau is compared with; infinite before ``search`` and in an
    empty gallery.
    """

    encoding: Encoding
    person: str
    mated: bool
    nearest: str = ""
    score: float = math.inf


class ProbeSet:
    """Probes, and why other pictures were left out. ``searched_revision``: of the gallery, when all were searched."""

    def __init__(self) -> None:
        self.probes: list[Probe] = []
        self.searched_revision: int | None = None
        self._left_out: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.probes)

    def add(self, encoding: Encoding, person: str, *, mated: bool) -> None:
        self.probes.append(Probe(encoding, person, mated))
        self.searched_revision = None

    def leave_out(self, reason: str, pictures: int = 1) -> None:
        self._left_out[reason] = self._left_out.get(reason, 0) + pictures

    async def search(self, api: AsyncClient, gallery: Gallery, say: Words) -> None:
        """Find the nearest subject of each probe. Leaves out mated probes whose subject is not enrolled.

        Raises OneglanceError.
        """
        probes = self.probes[:]
        absent = set()
        for person in {probe.person for probe in probes if probe.mated}:
            try:
                await api.get_subject(gallery.id, person)
            except NotFoundError:
                absent.add(person)
        left_out = {probe for probe in probes if probe.mated and probe.person in absent}
        kept = [probe for probe in probes if probe not in left_out]
        found: list[Candidate | None] = []
        for start in range(0, len(kept), PROBES_PER_CALL):
            part = kept[start : start + PROBES_PER_CALL]
            answer = await api.identify(gallery.id, *(probe.encoding for probe in part), max_candidates=1, tau=0.0)
            found += (nearest_given(result.candidates) for result in answer.results)
        for probe, nearest in zip(kept, found, strict=True):
            probe.nearest, probe.score = (nearest.subject_id, score(nearest)) if nearest else ("", math.inf)
        if left_out:
            self.leave_out(say("measure.absent", names=", ".join(sorted(absent))), len(left_out))
        # More probes may have been added meanwhile; they are searched when all have come.
        self.probes = [probe for probe in self.probes if probe not in left_out]
        if len(self.probes) == len(kept):
            self.searched_revision = gallery.revision

    def stranger_scores(self) -> list[float]:
        """Of each stranger's probe, the score of the nearest subject."""
        return [probe.score for probe in self.probes if not probe.mated]

    def mate_scores(self) -> list[float]:
        """Of each mated probe, the score of its mate; infinite where another subject is nearer."""
        return [p.score if p.nearest == p.person else math.inf for p in self.probes if p.mated]

    def stranger_count(self) -> int:
        """How many people the strangers' probes show; a probe without a name shows a person of its own."""
        return len({probe.person or i for i, probe in enumerate(self.probes) if not probe.mated})

    def summary(self, say: Words) -> str:
        strangers = sum(not probe.mated for probe in self.probes)
        return say(
            "measure.summary",
            stranger_photos=say("count.photos", n=strangers),
            strangers=say("count.strangers", n=self.stranger_count()),
            mate_photos=say("count.photos", n=len(self) - strangers),
        )

    def left_out_summary(self, say: Words) -> str:
        """Numbers and reasons; empty if no picture was left out."""
        reasons = "; ".join(f"{count} × {reason}" for reason, count in islice(self._left_out.items(), SHOWN_REASONS))
        return say("measure.left_out", reasons=reasons) if reasons else ""

    async def for_calibration(self) -> AsyncIterator[CalibrationProbe]:
        """The probes as messages for ``calibrate``."""
        for probe in self.probes[:]:
            yield (mate if probe.mated else stranger)(probe.encoding, probe.person)
