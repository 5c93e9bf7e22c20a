"""Fit a gallery's tau on probes of strangers, at its present size."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from oneglance_core.calibration import NonMated, TargetUnreachable, TooFewStrangers, fit_gallery
from oneglance_core.defaults import TARGET_FPIR
from oneglance_core.fusion import DecidedBy, Fusion
from oneglance_core.manifests import Calibration
from oneglance_core.names import MAX_NAME_CHARACTERS
from oneglance_index import Gallery, GalleryNotFound, GalleryStore
from oneglance_server.calls import Call
from oneglance_server.errors import CannotCalibrate, InvalidRequest
from oneglance_server.offload import Threads
from oneglance_server.service.content import (
    MAX_DESCRIPTION_CHARACTERS,
    Content,
    Picture,
    check_id,
    check_rate,
    check_text,
)
from oneglance_server.service.galleries import GalleryService, GalleryState
from oneglance_server.service.identification import IdentificationService

MAX_CALIBRATION_PROBES = 1_000_000
_FIT_COST = 1000  # short reads


@dataclass(frozen=True, slots=True)
class CalibrationProbe:
    """``subject``: the stranger's name, "" for a person of their own; or, when ``mated``, the enrolled subject's id."""

    content: Content
    subject: str
    mated: bool


class CalibrationService:
    def __init__(
        self, store: GalleryStore, reads: Threads, galleries: GalleryService, identification: IdentificationService
    ) -> None:
        self._store = store
        self._reads = reads
        self._galleries = galleries
        self._identification = identification

    async def begin(self, call: Call, gallery_id: str, target_fpir: float | None, data: str) -> "CalibrationRun":
        """``target_fpir`` None means TARGET_FPIR.

        Raises InvalidRequest, GalleryNotFound, CannotCalibrate when the gallery is empty.
        """
        call.need("calibrate", check_id("settings.gallery_id", gallery_id))
        check_text("settings.data", data, MAX_DESCRIPTION_CHARACTERS)
        target = TARGET_FPIR if target_fpir is None else target_fpir
        check_rate("settings.target_fpir", target)
        gallery = (await self._galleries.get(call, gallery_id)).gallery
        if not gallery.subjects:
            raise _empty(gallery_id)
        return CalibrationRun(
            self._store, self._reads, self._galleries, self._identification, call, gallery, target, data
        )


class CalibrationRun:
    """One calibration: ``measure`` each probe, several at once if you like, then ``finish``. Keeps no pictures."""

    def __init__(
        self,
        store: GalleryStore,
        reads: Threads,
        galleries: GalleryService,
        identification: IdentificationService,
        call: Call,
        gallery: Gallery,
        target_fpir: float,
        data: str,
    ) -> None:
        self._store = store
        self._reads = reads
        self._galleries = galleries
        self._identification = identification
        self._call = call
        self._gallery = gallery
        self._target = target_fpir
        self._data = data
        self._sizes: set[int] = set()
        self._non_mated = array("d")
        self._stranger = array("q")
        self._names: dict[str, int] = {}
        self._strangers = 0
        self._mated = array("d")
        self._enrolled: set[str] = set()

    async def measure(self, probe: CalibrationProbe) -> None:
        """Search one probe. Raises SubjectNotFound for a mate who isn't enrolled, and as identify does.

        Of a photo that doesn't say which face, the largest counts.
        """
        self._call.need("calibrate", self._gallery.id)
        if probe.mated:
            await self._check_enrolled(probe.subject)
        else:
            check_text("probe.subject", probe.subject, MAX_NAME_CHARACTERS)
        content = probe.content
        if isinstance(content, Picture) and content.face.which == "unset":
            content = replace(content, face=replace(content.face, which="largest"))
        found, size = await self._identification.nearest(self._call, self._gallery, content)
        if found is None and not size:
            raise _empty(self._gallery.id)
        self._sizes.add(size)
        if probe.mated:
            own = found is not None and found.subject_id == probe.subject
            self._mated.append(found.score if found is not None and own else math.inf)
        elif found is None:
            raise InvalidRequest.field("probe", "every subject has a negative that is nearer to it")
        else:
            self._non_mated.append(found.score)
            self._stranger.append(self._number(probe.subject))

    async def finish(self, *, dry_run: bool, skipped: Sequence[str] = ()) -> tuple[GalleryState, Calibration]:
        """Fit, and unless ``dry_run`` make it the gallery's threshold. ``skipped``: why probes were left out.

        Returns the gallery as it is then. Raises CannotCalibrate, GalleryNotFound, PermissionDenied.
        """
        self._call.need("calibrate", self._gallery.id)
        if not (self._non_mated or self._mated or skipped):
            raise InvalidRequest.field("probe", "at least one is required", reason="EMPTY")
        try:
            calibration = await self._reads.run_long(self._call, _FIT_COST, self._fit)
        except TooFewStrangers as error:
            text = str(error)
            if skipped:
                text += f"; probes were skipped, the first for this: {skipped[0]}"
            raise CannotCalibrate(
                text,
                reason="TOO_FEW_STRANGERS",
                metadata={"strangers": error.strangers, "needed": error.needed},
            ) from error
        except TargetUnreachable as error:
            raise CannotCalibrate(str(error), reason="TARGET_UNREACHABLE") from error
        state = await self._galleries.get(self._call, self._gallery.id)
        if state.gallery.created != self._gallery.created:  # another one of the same name
            raise GalleryNotFound(self._gallery.id)
        if state.gallery.active.fusion != self._gallery.active.fusion:
            raise CannotCalibrate("the gallery's rule of fusion was changed meanwhile", reason="FUSION_CHANGED")
        if state.gallery.active.decided_by != self._gallery.active.decided_by:
            raise CannotCalibrate("what decides in the gallery was changed meanwhile", reason="DECIDED_BY_CHANGED")
        if not dry_run:
            state = await self._galleries.set_calibrated(self._gallery, calibration)
        return state, calibration

    def _fit(self) -> Calibration:
        # Where the gallery changed meanwhile, the smallest size: for more subjects the expected FPIR is then overstated
        # rather than understated.
        smallest, largest = min(self._sizes, default=1), max(self._sizes, default=1)
        return fit_gallery(
            NonMated(np.array(self._non_mated, np.float64), np.array(self._stranger, np.int64)),
            np.array(self._mated, np.float64),
            gallery_size=smallest,
            fusion=cast(Fusion, self._gallery.active.fusion),
            decided_by=cast(DecidedBy, self._gallery.active.decided_by),
            target_fpir=self._target,
            data=self._data,
            note=f" (up to {largest} while it went on)" if largest > smallest else "",
            prior=self._galleries.prior(self._gallery),
        )

    def _number(self, name: str) -> int:
        number = self._names.get(name, self._strangers)
        if number == self._strangers:
            self._strangers += 1
            if name:
                self._names[name] = number
        return number

    async def _check_enrolled(self, subject_id: str) -> None:
        if subject_id not in self._enrolled:
            check_id("probe.subject", subject_id)
            await self._reads.run(self._call, self._store.get_subject, self._gallery.id, subject_id)
            self._enrolled.add(subject_id)


def _empty(gallery_id: str) -> CannotCalibrate:
    return CannotCalibrate(
        "nobody is enrolled yet: a calibration is for the gallery's size",
        reason="GALLERY_EMPTY",
        metadata={"gallery_id": gallery_id},
    )
