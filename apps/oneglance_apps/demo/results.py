"""Everything that a run of the demo found. The page is computed from it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from oneglance.v1.common_pb2 import Threshold
from oneglance.v1.model_pb2 import Model
from oneglance_apps.demo.collection import Collection
from oneglance_apps.demo.durability import Durability
from oneglance_apps.demo.measure import Outcome
from oneglance_apps.demo.styles import Stylization
from oneglance_apps.demo.timed_calls import Enrollment, Identification, ThresholdFit, Verification
from oneglance_apps.text import source_name


@dataclass(frozen=True)
class Deletion:
    """The answers to one probe, before and after its subject was deleted."""

    subject_id: str
    before: Outcome
    after: Outcome

    @property
    def gone(self) -> bool:
        """The later answer names the subject neither as decision nor as candidate."""
        named = {candidate.subject_id for candidate in self.after.candidates} | {self.after.identified}
        return self.subject_id not in named


@dataclass(frozen=True)
class DemoResults:
    """One run of the demo.

    command: the command line that repeats it. machine: system, cores and Python version.
    manifest: the encoder's. threshold_fit: None when the model's own threshold was used.
    stylization: None when the server has no styles.
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
    threshold_fit: ThresholdFit | None
    identification: Identification
    latencies_ms: tuple[float, ...]
    verification: Verification
    deletion: Deletion
    durability: Durability
    stylization: Stylization | None

    @property
    def enrolled(self) -> int:
        """K: the number of subjects that each probe was compared with."""
        return len(self.enrollment.subjects)

    @property
    def threshold(self) -> Threshold:
        """The τ of the server's decisions."""
        return self.identification.threshold

    @property
    def whose_tau(self) -> str:
        """``the gallery's τ``."""
        return f"the {source_name(self.threshold)}’s τ"

    @property
    def held(self) -> bool:
        """Whether the promises hold that don't depend on the encoder: deleted is gone, acknowledged is kept."""
        return self.deletion.gone and self.durability.kept_all
