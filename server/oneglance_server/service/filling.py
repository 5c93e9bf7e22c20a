"""The gallery that waits is filled from the crops that the one that answers keeps: some subjects a call, so that
whoever asks again goes on, whatever ended before."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oneglance_core.faces.crops import FaceChoice
from oneglance_core.kept_crops import read_crop
from oneglance_index import (
    EncoderMismatch,
    EncodingInvalid,
    EncodingKeyExists,
    Filling,
    Gallery,
    GalleryStore,
    KeptCrop,
    LeftCrops,
    LimitExceeded,
    SubjectChanged,
    SubjectNotMoving,
)
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit
from oneglance_server.service.content import Picture
from oneglance_server.service.encoding import Encoding
from oneglance_server.service.plan import Space, Vectors
from oneglance_server.service.succession import may_move

# Why a subject can't be enrolled; and that it isn't what it was.
_REFUSED = (EncodingInvalid, EncodingKeyExists, LimitExceeded)
_CHANGED = (SubjectChanged, SubjectNotMoving, EncoderMismatch)
_PATH = "crop.image"


@dataclass(frozen=True, slots=True)
class RefusedCrop:
    """Why an encoding can't be made again, or (no ``encoding_id``) all that a subject lacks can't be enrolled."""

    subject_id: str
    encoding_id: str
    error: Exception


@dataclass(frozen=True, slots=True)
class Filled:
    """``moved`` subjects are in the gallery that waits with all that they lacked; of others that could be no more than
    looked at, some changed meanwhile. ``next_after``: where to go on; None: nowhere."""

    moved: int
    changed: int
    refused: Sequence[RefusedCrop]
    next_after: str | None


class FillingService:
    def __init__(self, store: GalleryStore, reads: Threads, encoding: Encoding, audit: Audit) -> None:
        self._store = store
        self._reads = reads
        self._encoding = encoding
        self._audit = audit

    async def fill(self, call: Call, gallery_id: str, fewer: bool, size: int, after: str | None) -> Filled:
        """Makes encodings of the crops of the next subjects that are left, and enrolls them, each subject in one step:
        with all that it has, or (``fewer``) with what there is a crop of that the encoder takes. Raises MoveNotFound,
        EncoderNotLoaded, DetectorNotLoaded, QuotaExceeded; what was done before stays done."""
        may_move(call, self._store, gallery_id)
        page = await self._reads.run(call, self._store.list_left_crops, gallery_id, page_size=size, after=after)
        gallery = self._store.known(gallery_id)
        waiting = gallery if gallery.move is None or not gallery.move.answers else self._store.known(gallery.move.other)
        self._encoding.check_loaded([Picture(_PATH, b"")], _space(waiting))
        settled = await asyncio.gather(
            *(self._moved(call, waiting, one, fewer) for one in page.subjects), return_exceptions=True
        )
        refused: list[RefusedCrop] = []
        moved = changed = 0
        failed: BaseException | None = None
        for outcome in settled:
            if isinstance(outcome, _CHANGED):
                changed += 1
            elif isinstance(outcome, BaseException):
                failed = failed or outcome
            else:
                done, its = outcome
                moved += done
                refused += its
        if page.subjects:
            await self._audit.did(call, "fill-from-crops", waiting.id, count=moved, refused=len(refused))
        if failed is not None:
            raise failed
        return Filled(moved, changed, refused, page.next_after)

    async def _moved(
        self, call: Call, waiting: Gallery, left: LeftCrops, fewer: bool
    ) -> tuple[bool, Sequence[RefusedCrop]]:
        """Whether a subject was moved, and what of it couldn't be. Raises one of _CHANGED."""
        kept = [one for one in left.encodings if one.crop]
        refused = [RefusedCrop(left.subject_id, one.encoding_id, _missing()) for one in left.encodings if not one.crop]
        if refused and not fewer:
            return False, refused
        call.spend("encodings", len(kept))
        encoded = await asyncio.gather(*(self._encoded(call, waiting, one) for one in kept), return_exceptions=True)
        taken: list[tuple[KeptCrop, Vectors]] = []
        for one, outcome in zip(kept, encoded, strict=True):
            if isinstance(outcome, InvalidRequest):
                refused.append(RefusedCrop(left.subject_id, one.encoding_id, outcome))
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                taken.append((one, outcome))
        if not taken or (refused and not fewer):
            return False, refused
        enrolled = self._store.enroll(
            waiting.id,
            left.subject_id,
            np.stack([vector for _, vector in taken]),
            encoder_digest=waiting.active.encoder_digest,
            caller=(call.caller, True),
            patient=True,
            notes=[one.note for one, _ in taken],
            crops=[one.crop for one, _ in taken],
            filling=Filling(tuple(one.encoding_id for one, _ in taken), left.beside),
        )
        try:
            await asyncio.wrap_future(enrolled)
        except _REFUSED as error:
            return False, [*refused, RefusedCrop(left.subject_id, "", error)]
        return True, refused

    async def _encoded(self, call: Call, waiting: Gallery, kept: KeptCrop) -> Vectors:
        crop = read_crop(kept.crop)
        face = FaceChoice("largest") if crop.box is None else FaceChoice("box", box=crop.box)
        encoded = await self._encoding.encode(call, [Picture(_PATH, crop.picture, face)], _space(waiting))
        vector: Vectors = encoded.vectors[0]
        return vector


def _space(gallery: Gallery) -> Space:
    return Space(gallery.active.encoder_digest, gallery.active.dimension)


def _missing() -> InvalidRequest:
    return InvalidRequest.field("crop", "none is kept of this encoding's picture", reason="CROP_MISSING")
