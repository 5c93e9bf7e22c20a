"""Everything one run found out; what the page shows is computed from it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oneglance.v1.common_pb2 import Threshold, ThresholdSource
from oneglance.v1.model_pb2 import Model
from oneglance_apps.demo.calls import Enrollment, Identification, Rehearsal, Verification
from oneglance_apps.demo.collection import Collection
from oneglance_apps.demo.durability import Durability
from oneglance_apps.demo.measure import Outcome
from oneglance_apps.demo.styles import Stylization


@dataclass(frozen=True)
class Deletion:
    """One probe before and after the subject it shows was deleted."""

    subject_id: str
    before: Outcome
    after: Outcome

    @property
    def gone(self) -> bool:
        """The answer afterwards doesn't name the subject, neither decided on nor among all candidates."""
        named = {candidate.subject_id for candidate in self.after.candidates} | {self.after.identified}
        return self.subject_id not in named


@dataclass(frozen=True)
class Report:
    """One run of the demo.

    manifest: the encoder's, as the server tells it. stylization: None when the server has no styles.
    """

    date: datetime
    seed: int
    command: str
    version: str
    machine: str
    collection: Collection
    model: Model
    manifest: dict[str, Any]
    start_seconds: float
    enrollment: Enrollment
    rehearsal: Rehearsal | None
    identification: Identification
    latencies_ms: tuple[float, ...]
    verification: Verification
    deletion: Deletion
    durability: Durability
    stylization: Stylization | None

    @property
    def enrolled(self) -> int:
        """K: how many subjects each probe was compared with."""
        return len(self.enrollment.subjects)

    @property
    def threshold(self) -> Threshold:
        """The τ of the server's decisions."""
        return self.identification.threshold

    @property
    def whose_tau(self) -> str:
        """``the gallery's τ``."""
        return f"the {ThresholdSource.Name(self.threshold.source).removeprefix('THRESHOLD_SOURCE_').lower()}’s τ"

    @property
    def held(self) -> bool:
        """What must hold in every run, whatever the encoder: deleted is gone, acknowledged is there."""
        return self.deletion.gone and self.durability.kept_all
