"""The one scale of all distance bars: tau stands at a third, whatever the photo, the tab and the gallery."""

from dataclasses import dataclass

TAU_AT = 1 / 3


@dataclass(frozen=True)
class Scale:
    """Squared L2 from 0 to three times tau; what is farther fills the bar. Without a tau, from 0 to 4.

    tau: of the gallery. By margin it may be at 0 or below: then the bar is 3 long, in squared L2, with tau at a third.
    """

    tau: float | None

    def at(self, value: float) -> float:
        """Where on the bar, from 0 to 1."""
        return min(1.0, max(0.0, self._place(value)))

    def beyond(self, value: float) -> bool:
        """Whether the bar is too short for it."""
        return self._place(value) > 1

    def _place(self, value: float) -> float:
        if self.tau is None:
            return value / 4
        if self.tau <= 0:
            return TAU_AT + (value - self.tau) / 3
        return TAU_AT * value / self.tau
