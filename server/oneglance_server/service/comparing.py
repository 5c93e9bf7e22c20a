"""What two galleries of a move decide about the same live probes: asked in the background, now and then."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from oneglance_index import Gallery, GalleryError, Move
from oneglance_server.calls import Call, Caller
from oneglance_server.errors import ServiceError
from oneglance_server.service.content import ClientEncoding, Content

_SECONDS = 10.0  # that a comparison may take
_CALLER = Caller("live comparison")  # takes turns with the others

# Of each comparable probe, or face: who it is, and who is nearest, by id; None: nobody.
Decided = Sequence[tuple[str | None, str | None]]


@dataclass(slots=True)
class Comparison:
    """``probes`` were compared: of those ``otherwise`` decided, and ``same_nearest``. ``calls`` took so many seconds by
    each, together. ``dropped``: calls that weren't compared."""

    probes: int = 0
    otherwise: int = 0
    same_nearest: int = 0
    calls: int = 0
    seconds: float = 0.0
    waiting_seconds: float = 0.0
    dropped: int = 0


class LiveComparisons:
    """``ask``: what a gallery decides about probes, by its own tau. One comparison is under way at a time: no call
    waits for any, and what comes meanwhile is dropped. ``on_compared(gallery_id, alike, otherwise)`` hears of each.
    Belongs to one event loop."""

    def __init__(
        self,
        ask: Callable[[Call, str, Sequence[Content]], Awaitable[Decided]],
        on_compared: Callable[[str, int, int], None],
    ) -> None:
        self._ask = ask
        self._on_compared = on_compared
        self._found: dict[str, tuple[float, Comparison]] = {}  # of the move that started then
        self._task: asyncio.Task[None] | None = None

    def of(self, gallery: Gallery) -> Comparison:
        """Of a gallery that answers."""
        return Comparison() if gallery.move is None else self._of(gallery.id, gallery.move)

    def forget(self, gallery_id: str) -> None:
        self._found.pop(gallery_id, None)

    def _of(self, gallery_id: str, move: Move) -> Comparison:
        started, found = self._found.get(gallery_id, (0.0, Comparison()))
        return found if started == move.started else Comparison()

    def saw(self, gallery: Gallery, probes: Sequence[Content]) -> None:
        """A call of Identify was answered."""
        move = gallery.move
        if move is None or not move.answers or random.random() >= move.compare_share:
            return
        if any(isinstance(probe, ClientEncoding) for probe in probes):
            return
        found = self._of(gallery.id, move)
        self._found[gallery.id] = move.started, found
        if self._task is not None and not self._task.done():
            found.dropped += 1
            return
        self._task = asyncio.ensure_future(self._compare(found, (gallery.id, move.other), probes))

    async def _compare(self, found: Comparison, galleries: tuple[str, str], probes: Sequence[Content]) -> None:
        call = Call(_CALLER, deadline=asyncio.get_running_loop().time() + _SECONDS)
        decided: list[Decided] = []
        seconds: list[float] = []
        try:
            for gallery_id in galleries:
                begun = time.monotonic()
                decided.append(await self._ask(call, gallery_id, probes))
                seconds.append(time.monotonic() - begun)
        except (GalleryError, ServiceError):  # its encoder isn't loaded, or it has no tau; or the server is busy
            found.dropped += 1
            return
        found.calls += 1
        found.seconds += seconds[0]
        found.waiting_seconds += seconds[1]
        pairs = list(zip(*decided, strict=False))
        otherwise = sum(own[0] != other[0] for own, other in pairs)
        found.probes += len(pairs)
        found.otherwise += otherwise
        found.same_nearest += sum(own[1] == other[1] for own, other in pairs)
        if found is self._found.get(galleries[0], (0.0, None))[1]:
            self._on_compared(galleries[0], len(pairs) - otherwise, otherwise)
