"""A gallery that moves to another encoder is filled by a map from the former encoder's encodings, where no picture is
left: fitted on the pairs that both galleries have, and measured before anything is written."""

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import pairwise_squared_l2
from oneglance_core.mapping import EncodingMap, fit_map, losses
from oneglance_index import GalleryStore, MapLoss, MoveConflict, PairedSubject
from oneglance_server.calls import Call
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import NotServing, PairsMissing, ThresholdMissing
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit
from oneglance_server.service.encoders import Encoders
from oneglance_server.service.plan import encoder_unknown
from oneglance_server.service.succession import may_move
from oneglance_server.service.thresholds import Thresholds

LEAST_FITTED, LEAST_MEASURED = 100, 50
"""Subjects that a map is fitted on, and measured with."""

_MOST_PAIRS = 20_000
_MOST_MEASURED = 1_000
_MOST_PROBES_EACH = 4
_PAGE_SUBJECTS = 200
_PAGE_COST = 16  # as reads go
_STEP_SUBJECTS = 64  # in one transaction, for which other writes wait

Scores = Callable[..., npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A map for a gallery, and about how many subjects are to be mapped by it."""

    gallery_id: str
    made: EncodingMap
    loss: MapLoss
    subjects: int


@dataclass(frozen=True, slots=True)
class Filled:
    """How far it has come: subjects ``mapped``, and those that can't be. ``finished``: nobody else is left."""

    mapped: int
    refused: int
    finished: bool


class MappingService:
    def __init__(
        self, store: GalleryStore, reads: Threads, encoders: Encoders, thresholds: Thresholds, audit: Audit
    ) -> None:
        self._store = store
        self._reads = reads
        self._encoders = encoders
        self._thresholds = thresholds
        self._audit = audit
        self._fitting = asyncio.Semaphore()  # it takes a core, and the memory of all pairs

    async def fit(self, call: Call, gallery_id: str) -> Fitted:
        """The map, and what it costs. Nothing is written."""
        may_move(call, self._store, gallery_id)
        state = await self._reads.run(call, self._store.move_state, gallery_id)
        origin, successor = state.gallery, state.waiting
        if successor.move is None or successor.move.origin:
            raise MoveConflict(gallery_id, "it is cut over: roll back first")
        encoder = self._encoders.by_digest(successor.active.encoder_digest)
        if encoder is None:
            raise encoder_unknown(successor.active.encoder_digest, "what is mapped must be such as it makes")
        # As large as the successor will be: it is nearly empty yet.
        tau = self._thresholds.in_force(successor, origin.subjects, origin.encodings)
        if tau is None:
            raise ThresholdMissing(
                f"gallery {successor.id!r} has no tau to measure the map at: set or calibrate it first",
                metadata={"gallery_id": successor.id},
            )
        scores = _scores(encoder, successor.active.decided_by)
        how = encoder.manifest.output.unit_norm, tau.value, successor.active.fusion, scores
        await self._fitting.acquire()
        with contextlib.ExitStack() as held:
            held.callback(self._fitting.release)
            fitted, measured = _divided(await self._pairs(call, origin.id))
            try:
                work = asyncio.get_running_loop().run_in_executor(None, _fit, fitted, measured, *how)
            except RuntimeError as error:  # it was shut down
                raise NotServing("the server is draining") from error
            held.pop_all()
        work.add_done_callback(lambda _: self._fitting.release())  # its thread goes on where the call is cancelled
        made, found = await asyncio.shield(work)
        loss = MapLoss(
            made.kind,
            origin.active.encoder_digest,
            successor.active.encoder_digest,
            hashlib.sha256(made.weights.tobytes() + made.offset.tobytes()).hexdigest()[:16],
            len(fitted),
            sum(len(one.old) for one in fitted),
            len(measured),
            *found,
            tau.value,
        )
        again = 0
        if successor.mapped is not None:
            again = successor.mapped.outdated if successor.mapped.loss == loss else successor.mapped.subjects
        await self._audit.did(
            *(call, "fit-map", origin.id),
            map=loss.digest,
            pairs=loss.fitted_pairs,
            probes=loss.probes,
            missed=loss.missed,
        )
        return Fitted(origin.id, made, loss, state.left + again)

    async def fill(self, call: Call, fitted: Fitted) -> AsyncIterator[Filled]:
        """Step by step; each is durable once it is told. It goes on where it ended when it is called again."""
        mapped = refused = 0
        after: str | None = None
        while True:
            may_move(call, self._store, fitted.gallery_id)
            call.spend("encodings", max(1, min(_STEP_SUBJECTS, fitted.subjects - mapped)))
            filling = self._store.fill_by_map(
                fitted.gallery_id, fitted.made, fitted.loss, most=_STEP_SUBJECTS, after=after
            )
            step = await asyncio.wrap_future(filling)
            mapped, refused, after = mapped + step.mapped, refused + step.refused, step.next_after
            yield Filled(mapped, refused, after is None)
            if after is None:
                return

    async def _pairs(self, call: Call, gallery_id: str) -> list[PairedSubject]:
        """As many as are of use, by subject."""
        found: list[PairedSubject] = []
        after, pairs = None, 0
        while pairs < _MOST_PAIRS:
            read = functools.partial(self._store.list_pairs, gallery_id, page_size=_PAGE_SUBJECTS, after=after)
            page = await self._reads.run_long(call.let_in, _PAGE_COST, read)
            found += [one for one in page.subjects if len(one.old)]
            pairs += sum(len(one.old) for one in page.subjects)
            after = page.next_after
            if after is None:
                break
        return found


def _divided(pairs: Sequence[PairedSubject]) -> tuple[list[PairedSubject], list[PairedSubject]]:
    """Whom the map is fitted on, and whom it is measured with: half of those who have two examples, at
    most. Raises PairsMissing."""
    several = sorted((one for one in pairs if len(one.old) > 1), key=_shuffled)
    measured = several[: max(0, min(len(several) // 2, len(pairs) - LEAST_FITTED, _MOST_MEASURED))]
    those = {one.subject_id for one in measured}
    fitted = [one for one in pairs if one.subject_id not in those]
    if len(measured) < LEAST_MEASURED:
        raise PairsMissing(
            f"{len(pairs)} subjects have encodings of the same examples by both encoders, {len(several)} of these two"
            f" or more: a map takes {LEAST_FITTED + LEAST_MEASURED}, {2 * LEAST_MEASURED} of these with two or more, to"
            " be fitted and measured. Enroll such subjects again while the gallery moves: they go to both",
            metadata={
                "subjects": len(pairs),
                "subjects_least": LEAST_FITTED + LEAST_MEASURED,
                "with_two": len(several),
                "with_two_least": 2 * LEAST_MEASURED,
            },
        )
    return fitted, measured


def _shuffled(one: PairedSubject) -> bytes:
    """The same order each time, whoever came since."""
    return hashlib.sha256(one.subject_id.encode()).digest()


def _scores(encoder: Encoder, decided_by: str) -> Scores:
    if decided_by == "probability" and encoder.pair_head is not None:
        return encoder.pair_head.pairwise_scores
    return pairwise_squared_l2


def _fit(
    fitted: Sequence[PairedSubject],
    measured: Sequence[PairedSubject],
    unit_norm: bool,
    tau: float,
    fusion: str,
    scores: Scores,
) -> tuple[EncodingMap, tuple[int, int, int, int, int]]:
    """The map, and of how many probes how many were missed with mapped encodings, and with true ones; and let in
    likewise."""
    whose = np.repeat(np.arange(len(fitted)), [len(one.old) for one in fitted])
    old, new = (np.concatenate([getattr(one, side) for one in fitted]) for side in ("old", "new"))
    made = fit_map(old, new, whose, unit_norm=unit_norm)
    probes = [one.new[1 : 1 + _MOST_PROBES_EACH] for one in measured]
    own = np.repeat(np.arange(len(measured)), [len(one) for one in probes])
    rest = np.concatenate(probes), own, tau, fusion, scores
    mapped = losses(made(np.stack([one.old[0] for one in measured])), *rest)
    true = losses(np.stack([one.new[0] for one in measured]), *rest)
    return made, (mapped.probes, mapped.missed, true.missed, mapped.let_in, true.let_in)
