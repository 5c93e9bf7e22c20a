"""The choice of a gallery's quality policy, with the figures and limits of the chosen one."""

from collections.abc import Awaitable, Callable

from nicegui import ui

from oneglance_apps.console.elements import draw_row
from oneglance_apps.console.words import Words
from oneglance_core.faces.quality import DEFAULT_POLICY, LIMITS, POLICIES, QualityPolicy
from oneglance_core.limits import Limit


class QualityChoice:
    """A select of policies, and the limits of the chosen one below it. ``on_pick`` is awaited with another policy than
    the one that was shown last."""

    def __init__(self, say: Words, on_pick: Callable[[QualityPolicy], Awaitable[None]] | None = None) -> None:
        self._say = say
        self._on_pick = on_pick
        self._shown: str = DEFAULT_POLICY

    def build(self) -> None:
        with ui.element("div").classes("quality") as self.frame:
            self.select = ui.select(
                {policy: self._say(f"policy.{policy}") for policy in POLICIES},
                label=self._say("basis.quality"),
                value=DEFAULT_POLICY,
            )
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
                draw_row("td", self._say(f"figure.{limit.figure}"), self._text(limit))
            if not LIMITS[self.policy]:
                draw_row("td", self._say("quality.everything"))

    def _text(self, limit: Limit) -> str:
        """``at least 8.8``, ``0.05 to 0.94``."""
        values = {"least": f"{limit.least or 0:g}", "most": f"{limit.most or 0:g}"}
        if limit.least is not None and limit.most is not None:
            return self._say("quality.between", **values)
        return self._say("quality.most" if limit.least is None else "quality.least", **values)
