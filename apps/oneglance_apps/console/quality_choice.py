"""The choice of a gallery's quality policy, with the figures and limits of the chosen one."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from oneglance_apps.console.elements import draw_row
from oneglance_core.faces.quality import DEFAULT_POLICY, LIMITS, POLICIES, QualityPolicy
from oneglance_core.limits import Limit

FIGURES = {
    "eye_distance": "distance of the eyes, pixels",
    "sharpness": "sharpness, levels",
    "brightness": "brightness, 0 to 1",
    "contrast": "contrast, 0 to 0.5",
    "roll_degrees": "lean of the head, degrees",
    "alignment_error": "misfit of the landmarks, of the distance of the eyes",
}


class QualityChoice:
    """A select of policies, and the limits of the chosen one below it. ``on_pick`` is awaited with another policy than
    the one that was shown last."""

    def __init__(self, on_pick: Callable[[QualityPolicy], Awaitable[None]] | None = None) -> None:
        self._on_pick = on_pick
        self._shown: str = DEFAULT_POLICY

    def build(self) -> None:
        with ui.element("div").classes("quality") as self.frame:
            self.select = ui.select(list(POLICIES), label="quality policy", value=DEFAULT_POLICY)
            self.select.props("outlined dense").on_value_change(self._picked)
            self.limits = ui.element("table")
        self._draw()

    @property
    def policy(self) -> QualityPolicy:
        chosen: QualityPolicy = self.select.value
        return chosen

    def show(self, policy: str) -> None:
        """The policy as it is; hidden where the server has none."""
        self.frame.visible = policy in LIMITS
        if self.frame.visible:
            self._shown = self.select.value = policy
            self._draw()

    async def _picked(self) -> None:
        self._draw()
        if self._on_pick and self.policy != self._shown:
            await self._on_pick(self.policy)

    def _draw(self) -> None:
        self.limits.clear()
        with self.limits:
            for limit in LIMITS[self.policy]:
                draw_row("td", FIGURES[limit.figure], _text(limit))
            if not LIMITS[self.policy]:
                draw_row("td", "Every upright face may be enrolled.")


def _text(limit: Limit) -> str:
    """``at least 8.8``, ``0.05 to 0.94``."""
    if limit.least is not None and limit.most is not None:
        return f"{limit.least:g} to {limit.most:g}"
    return f"at most {limit.most:g}" if limit.least is None else f"at least {limit.least:g}"
