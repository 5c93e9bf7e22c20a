"""Whether a camera gives frames. Pure: the time is an argument."""

from dataclasses import dataclass

from oneglance_apps.frames.source_error import Reason, SourceError
from oneglance_apps.watch.records import CameraKind


@dataclass(frozen=True)
class CameraChange:
    """What is to be told. ``silent``: seconds without a frame; ``reason``: None when it is back."""

    kind: CameraKind
    reason: Reason | None
    message: str
    silent: float


class CameraState:
    """A camera is lost when no frame came for ``lost_after_seconds``, or at once when its connection ends; and back
    with the next frame. While it is lost, another reason (a wrong password after a restart) is told as well."""

    def __init__(self, name: str, lost_after_seconds: float, now: float) -> None:
        self._name = name
        self._lost_after = lost_after_seconds
        self._arrived_at = now
        self.lost: Reason | None = None

    def look(self, now: float, arrived_at: float | None, problem: SourceError | None) -> CameraChange | None:
        """What has changed since the last look.

        arrived_at: when the last frame came; None: none yet. problem: why the camera is not open; None: it is.
        """
        if arrived_at is not None and arrived_at > self._arrived_at:
            silent, self._arrived_at = arrived_at - self._arrived_at, arrived_at
            if self.lost is not None and problem is None:
                self.lost = None
                return CameraChange("camera_back", None, f"frames come again, after {silent:.1f} s", silent)
        silent = now - self._arrived_at
        if problem is not None:
            reason, message = problem.reason, str(problem)
        elif silent > self._lost_after:
            reason, message = "silent", f"{self._name}: no frame for {silent:.1f} s"
        else:
            return None
        if reason == self.lost or (reason == "silent" and self.lost is not None):
            return None
        self.lost = reason
        return CameraChange("camera_lost", reason, message, silent)
