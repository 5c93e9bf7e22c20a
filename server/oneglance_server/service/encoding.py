"""From a request's contents to points in one encoder's space: one plan, then one pass.

The pass: photos -> faces -> their chips -> with all else that must be encoded, the encoder's batches -> encodings.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import usable_encodings
from oneglance_core.faces.crops import CropRequest, FaceCrops, FaceError
from oneglance_core.faces.finder import Face, Photo
from oneglance_core.pictures import PictureError, PictureLimits, encoder_input
from oneglance_server.calls import Call
from oneglance_server.engines.batcher import Batcher, BatchObserver
from oneglance_server.engines.encoder import Encoder
from oneglance_server.errors import DetectorNotLoaded, InvalidRequest, Overloaded
from oneglance_server.offload import off_loop
from oneglance_server.service.content import MAX_FACES, ClientEncoding, Content, Picture, Tensor
from oneglance_server.service.plan import Plan, Space, example_of, make_plan

CLIENT = "client"
_PHOTOS_AT_ONCE = 16  # of one call, before its faces are counted
_PLANNED_ON_THE_LOOP = 64  # contents: each takes some 10 us to check,
_CHECKED_ON_THE_LOOP = 4 << 20  # and so many bytes of tensors about 1 ms
_NO_ENCODING = "the encoder gives it no usable encoding"

CropBatcher = Batcher[CropRequest, FaceCrops]


@dataclass(frozen=True, slots=True)
class _Chip:
    """An aligned face, uint8 [H, W, 3]."""

    path: str
    pixels: npt.NDArray[np.uint8]


_Input = Picture | Tensor | _Chip
_Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Encoded:
    """``vectors`` float32 [n, D]; ``provider`` ran the encoder, or "client" when nothing had to be encoded.

    ``owners[i]`` is the position of the content that vector i comes from, never falling: each content once, except that
    a photo of which every face was wanted gives one vector per face, or none. ``faces[i]`` is the face behind vector i,
    None when it isn't from a photo. ``photos``: what was seen of each photo, by its content's position.
    """

    vectors: npt.NDArray[np.float32]
    provider: str
    owners: Sequence[int]
    faces: Sequence[Face | None]
    photos: Mapping[int, Photo]


class Encoding:
    """Encodes contents: every encoder behind its own coalescing batcher, the face finder behind one for all.

    ``crops``: None when no face finder is loaded. Belongs to one event loop.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        crops: CropBatcher | None,
        limits: PictureLimits,
        executor: Executor,
        *,
        workers: int,
        max_batch: int,
        max_queue: int,
        observer: BatchObserver,
    ) -> None:
        self._crops = crops
        self._encoders = {
            encoder.digest: (
                encoder,
                Batcher[_Input, _Vector](
                    "encode",
                    _runner(encoder, limits),
                    executor,
                    workers=workers,
                    max_batch_rows=max_batch,
                    max_queue_rows=max_queue,
                    observer=observer,
                ),
            )
            for encoder in encoders
        }

    async def encode(
        self, call: Call, contents: Sequence[Content], space: Space, *, faces: Literal["all", "only"] = "only"
    ) -> Encoded:
        """Points in ``space``. ``faces``: of photos that don't say which.

        Raises InvalidRequest for the first bad content, ForeignEncoding, EncoderNotLoaded, DetectorNotLoaded,
        Overloaded, DeadlinePassed.
        """
        encoder, batcher = self._encoders.get(space.digest, (None, None))
        if _is_heavy(contents):
            plan = await off_loop(lambda: make_plan(contents, space, encoder, faces))
        else:
            plan = make_plan(contents, space, encoder, faces)
        if len(plan.given) == len(contents):
            return Encoded(plan.given, CLIENT, range(len(contents)), (None,) * len(contents), {})
        crops = await self._crop_all(call, plan) if plan.photos else {}
        if crops:
            call = replace(call, patient=True)  # what was done already shall not be thrown away for a full queue
        owners, found, inputs = _inputs(plan, crops)
        encoded = iter(await batcher.submit_all(inputs, call) if batcher and inputs else ())
        given = iter(plan.given)
        vectors = np.empty((len(owners), space.dimension), dtype=np.float32)
        for row, owner in enumerate(owners):
            vectors[row] = next(given if isinstance(contents[owner], ClientEncoding) else encoded)
        provider = encoder.execution_provider if encoder and inputs else ""
        return Encoded(vectors, provider, owners, found, {i: one.photo for i, one in crops.items()})

    async def crop(self, call: Call, requests: Sequence[CropRequest], paths: Sequence[str]) -> list[FaceCrops]:
        """The faces of each photo. ``paths`` name them in errors.

        Raises InvalidRequest for the first that can't be used, DetectorNotLoaded, Overloaded, DeadlinePassed.
        """
        if self._crops is None:
            raise detector_missing()
        outcomes = await self._crops.submit_settled(requests, call)
        return [_usable(outcome, path) for outcome, path in zip(outcomes, paths, strict=True)]

    async def _crop_all(self, call: Call, plan: Plan) -> dict[int, FaceCrops]:
        crops: dict[int, FaceCrops] = {}
        positions = list(plan.photos)
        for start in range(0, len(positions), _PHOTOS_AT_ONCE):
            some = positions[start : start + _PHOTOS_AT_ONCE]
            paths = [plan.contents[i].path for i in some]
            crops |= zip(some, await self.crop(call, [plan.photos[i] for i in some], paths), strict=True)
            faces = sum(len(one.chips) for one in crops.values())
            if faces > MAX_FACES:
                raise InvalidRequest.field(
                    example_of(plan.contents[some[-1]]),
                    f"{faces} faces up to this photo, at most {MAX_FACES} in one call",
                    reason="TOO_MANY",
                    limit=MAX_FACES,
                )
            call = replace(call, patient=True)
        return crops


def _is_heavy(contents: Sequence[Content]) -> bool:
    if len(contents) > _PLANNED_ON_THE_LOOP:
        return True
    return sum([len(content.data) for content in contents if isinstance(content, Tensor)]) > _CHECKED_ON_THE_LOOP


def detector_missing() -> DetectorNotLoaded:
    return DetectorNotLoaded(
        "no face detector with landmarks is loaded; send aligned faces (face.aligned), or add them to --models"
    )


def _inputs(plan: Plan, crops: Mapping[int, FaceCrops]) -> tuple[list[int], list[Face | None], list[_Input]]:
    """(owners, faces) of all vectors to come, and what the encoder must encode for them, in the same order."""
    owners: list[int] = []
    faces: list[Face | None] = []
    inputs: list[_Input] = []
    for i, content in enumerate(plan.contents):
        if i in crops:
            owners += [i] * len(crops[i].chips)
            faces += crops[i].photo.faces
            inputs += [_Chip(content.path, chip) for chip in crops[i].chips]
        else:
            owners.append(i)
            faces.append(None)
            if not isinstance(content, ClientEncoding):
                inputs.append(content)
    return owners, faces, inputs


def _usable(outcome: FaceCrops | BaseException, path: str) -> FaceCrops:
    if isinstance(outcome, PictureError):
        raise InvalidRequest.field(path, str(outcome), reason=outcome.reason) from outcome
    if isinstance(outcome, FaceError):
        refused = InvalidRequest.field(path, str(outcome), reason=outcome.reason, faces=len(outcome.photo.faces))
        refused.photo = outcome.photo
        raise refused from outcome
    if isinstance(outcome, MemoryError):
        raise Overloaded.for_want_of_memory("pictures") from outcome
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _runner(encoder: Encoder, limits: PictureLimits) -> Any:
    """What encodes a batch of inputs, off the event loop."""
    spec = encoder.manifest.input

    def prepare(content: _Input) -> npt.NDArray[Any]:
        if isinstance(content, _Chip):
            return content.pixels
        if isinstance(content, Tensor):
            return np.frombuffer(content.data, np.dtype(content.dtype).newbyteorder("<")).reshape(content.shape)
        return encoder_input(content.data, spec, limits)

    def run(contents: Sequence[_Input]) -> Sequence[_Vector | Exception]:
        inputs = np.empty((len(contents), *spec.shape), dtype=spec.dtype)
        results: list[_Vector | Exception] = []
        good: list[int] = []
        for i, content in enumerate(contents):
            try:
                inputs[len(good)] = prepare(content)
                good.append(i)
                results.append(inputs)  # replaced below
            except PictureError as error:
                results.append(InvalidRequest.field(content.path, str(error), reason=error.reason))
            except MemoryError:
                results.append(Overloaded.for_want_of_memory("pictures"))
        if good:
            outputs = encoder.encode(inputs[: len(good)])
            for i, output, fine in zip(good, outputs, usable_encodings(outputs), strict=True):
                results[i] = (
                    output if fine else InvalidRequest.field(contents[i].path, _NO_ENCODING, reason="NO_ENCODING")
                )
        return results

    return run
