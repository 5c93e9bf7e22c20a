"""Pictures are counted by their pixels, and large ones have a lane of their own.

To decode a picture of 40 megapixels takes a thousand times as long as to encode a small one, and can't be interrupted.
So nobody's small picture waits behind a large one: they only share the processor.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

from oneglance_server.calls import Call
from oneglance_server.engines.batcher import Batcher, BatchObserver

LARGE_PIXELS = 4_000_000  # more is large
_LARGE_UNIT = 1_000_000  # pixels that cost 1 among large ones,
_LARGE_BATCH = 12  # and what one batch of them may cost: a phone's photo

Item = TypeVar("Item")
Result = TypeVar("Result")


class PictureLanes(Generic[Item, Result]):
    """Two batchers for one kind of work on pictures.

    Args:
        executor: has room for twice as many ``workers``.
        max_batch: small pictures in a batch.
        unit: pixels that cost as much as the smallest picture, among small ones.
        others: see Batcher.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        executor: Executor,
        *,
        workers: int,
        max_batch: int,
        unit: int,
        max_wait: float,
        observer: BatchObserver,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._unit = unit
        self._small = Batcher[Item, Result](
            name,
            run,
            executor,
            workers=workers,
            max_cost=max_batch,
            max_wait=max_wait,
            observer=observer,
            crowded=crowded,
        )
        self._large = Batcher[Item, Result](
            name, run, executor, workers=workers, max_cost=_LARGE_BATCH, max_wait=max_wait, observer=observer
        )

    async def submit_settled(
        self, items: Sequence[Item], pixels: Sequence[int], call: Call
    ) -> Sequence[Result | BaseException]:
        """See Batcher.submit_settled. ``pixels`` of each; 0 for what isn't a picture."""
        if not items:
            return []
        large = [i for i, count in enumerate(pixels) if count > LARGE_PIXELS]
        if not large:
            return await self._small.submit_settled(items, call, costs=[max(1, n // self._unit) for n in pixels])
        small = [i for i, count in enumerate(pixels) if count <= LARGE_PIXELS]
        costs = [pixels[i] // _LARGE_UNIT for i in large]
        lanes = [
            asyncio.ensure_future(self._large.submit_settled([items[i] for i in large], call, costs=costs)),
            asyncio.ensure_future(self.submit_settled([items[i] for i in small], [pixels[i] for i in small], call)),
        ]
        try:
            slow, fast = await asyncio.gather(*lanes)  # if one is refused, so is the call, at once
        finally:
            for lane in lanes:
                lane.cancel()
        outcomes = dict(zip(small, fast, strict=True)) | dict(zip(large, slow, strict=True))
        return [outcomes[i] for i in range(len(items))]
