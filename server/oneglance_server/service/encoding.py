"""From a request's contents to points in one encoder's space: one plan, then one pass.

The pass: photos -> faces -> their chips -> with all else that must be encoded, the encoder's batches -> encodings.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import numpy as np

from oneglance_core.faces.crops import CropRequest, FaceCrops, FaceError
from oneglance_core.faces.finder import Face, Photo
from oneglance_core.faces.uprightness import UprightnessCheck
from oneglance_core.pictures import PictureError
from oneglance_server.calls import Call
from oneglance_server.engines.batcher import BatchObserver
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.lanes import PictureLanes
from oneglance_server.errors import DetectorNotLoaded, InvalidRequest, Overloaded
from oneglance_server.offload import Threads, off_loop
from oneglance_server.service.batch_encoding import Breaches, Chip, Input, Output, runner
from oneglance_server.service.content import MAX_FACES, ClientEncoding, Content, Tensor
from oneglance_server.service.plan import Space, Vectors, encoder_missing, example_of, make_plan
from oneglance_server.service.work import PIXELS_PER_ENCODING, ContentLimits, Work

CLIENT = "client"
_PHOTOS_AT_ONCE = 16  # of one call, before its faces are counted
_PLANNED_ON_THE_LOOP = 64  # contents: each takes some 10 us to check,
_CHECKED_ON_THE_LOOP = 4 << 20  # and so many bytes of tensors about 1 ms

CropLanes = PictureLanes[CropRequest, FaceCrops]


@dataclass(frozen=True, slots=True)
class Encoded:
    """``vectors`` float32 [n, D]; ``provider`` ran the encoder, or "client" when nothing had to be encoded.

    ``owners[i]`` is the position of the content that vector i comes from, never falling: each content once, except that
    a photo of which every face was wanted gives one vector per comparable face, or none. ``faces[i]`` is the face
    behind vector i, None when it isn't from a photo. ``breaches[i]``: what of the encoder's input i is outside its
    limits; never of a face from a photo. ``photos``: what was seen of each photo, by its content's position; faces that
    aren't comparable are in it, too. ``crops[i]``: of the picture that vector i comes from, b"" where none was wanted.
    """

    vectors: Vectors
    provider: str
    owners: Sequence[int]
    faces: Sequence[Face | None]
    breaches: Sequence[Breaches]
    photos: Mapping[int, Photo]
    crops: Sequence[bytes]


class Encoding:
    """Encodes contents: every encoder behind coalescing batchers of its own, the face finder behind those for all.

    ``crops``: None when no face finder is loaded. ``headers``: where the headers of pictures and sounds are read.
    ``check_inputs``: whether to look for breaches. ``uprightness``: what looks at aligned faces then, too; None where
    no check is loaded. ``executor``: has twice as many threads as ``workers``. Belongs to one event loop.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        crops: CropLanes | None,
        headers: Threads,
        limits: ContentLimits,
        check_inputs: bool,
        uprightness: UprightnessCheck | None,
        executor: Executor,
        *,
        workers: int,
        max_batch: int,
        max_wait: float,
        observer: BatchObserver,
        crowded: Callable[[], bool],
    ) -> None:
        self._crops = crops
        self._work_of = Work(headers, limits)
        self._encoders = {
            encoder.digest: (
                encoder,
                PictureLanes[Input, Output](
                    "encode",
                    runner(encoder, limits, max_batch, check_inputs, uprightness),
                    executor,
                    workers=workers,
                    max_batch=max_batch,
                    unit=PIXELS_PER_ENCODING,
                    max_wait=max_wait,
                    observer=observer,
                    crowded=crowded,
                ),
            )
            for encoder in encoders
        }

    def check_loaded(self, contents: Sequence[Content], space: Space) -> None:
        """Raises EncoderNotLoaded where one of the contents takes the encoder, and it isn't there: nothing else that is
        missing then, such as its tau, is worth telling."""
        if space.digest not in self._encoders:
            for content in contents:
                if not isinstance(content, ClientEncoding):
                    raise encoder_missing(content, space)

    async def encode(
        self, call: Call, contents: Sequence[Content], space: Space, *, faces: Literal["all", "only"] = "only"
    ) -> Encoded:
        """Points in ``space``. ``faces``: of photos that don't say which.

        Raises InvalidRequest for the first bad content, ForeignEncoding, EncoderNotLoaded, DetectorNotLoaded,
        Overloaded, DeadlinePassed.
        """
        encoder, lanes = self._encoders.get(space.digest, (None, None))
        given, photos = await off_loop(lambda: make_plan(contents, space, encoder, faces), when=_is_heavy(contents))
        if len(given) == len(contents):
            count = len(contents)
            return Encoded(given, CLIENT, range(count), (None,) * count, ((),) * count, {}, (b"",) * count)
        work = await self._work_of.of(call, contents, encoder.manifest.input) if encoder else {}
        crops = await self._crop_all(call, contents, photos, work) if photos else {}
        if crops:
            call = call.let_in
        owners, found, inputs = _inputs(contents, crops)
        counts = [0 if isinstance(one, Chip) else work.get(one.path, 0) for one in inputs]
        encoded = iter(_all(await lanes.submit_settled(inputs, counts, call)) if lanes and inputs else ())
        rest = iter(given)
        vectors = np.empty((len(owners), space.dimension), dtype=np.float32)
        breaches: list[Breaches] = [()] * len(owners)
        of_faces = chain.from_iterable(one.crops for one in crops.values())
        kept = [b""] * len(owners)
        for row, owner in enumerate(owners):
            if isinstance(contents[owner], ClientEncoding):
                vectors[row] = next(rest)
            else:
                output = next(encoded)
                vectors[row], breaches[row] = output.vector, output.breaches
                kept[row] = next(of_faces) if owner in crops and crops[owner].crops else output.crop
        provider = encoder.execution_provider if encoder and inputs else ""
        photos_seen = {i: one.photo for i, one in crops.items()}
        return Encoded(vectors, provider, owners, found, breaches, photos_seen, kept)

    async def crop(
        self, call: Call, requests: Sequence[CropRequest], paths: Sequence[str], pixels: Sequence[int] | None = None
    ) -> list[FaceCrops]:
        """The faces of each photo. ``paths`` name them in errors; ``pixels`` of each, where they are known.

        Raises InvalidRequest for the first that can't be used, DetectorNotLoaded, Overloaded, DeadlinePassed.
        """
        if self._crops is None:
            raise detector_missing()
        if pixels is None:
            pixels = await self._work_of.pixels_of(call, [request.data for request in requests], paths)
        work = [n + min(n, one.choice.search_pixels) for n, one in zip(pixels, requests, strict=True)]
        outcomes = await self._crops.submit_settled(requests, work, call)
        return [_usable(outcome, path) for outcome, path in zip(outcomes, paths, strict=True)]

    async def _crop_all(
        self, call: Call, contents: Sequence[Content], photos: Mapping[int, CropRequest], pixels: Mapping[str, int]
    ) -> dict[int, FaceCrops]:
        crops: dict[int, FaceCrops] = {}
        positions = list(photos)
        for start in range(0, len(positions), _PHOTOS_AT_ONCE):
            some = positions[start : start + _PHOTOS_AT_ONCE]
            paths = [contents[i].path for i in some]
            counts = [pixels[path] for path in paths]
            crops |= zip(some, await self.crop(call, [photos[i] for i in some], paths, counts), strict=True)
            faces = sum(len(one.photo.faces) for one in crops.values())
            if faces > MAX_FACES:
                raise InvalidRequest.field(
                    example_of(contents[some[-1]]),
                    f"{faces} faces up to this photo, at most {MAX_FACES} in one call",
                    reason="TOO_MANY",
                    limit=MAX_FACES,
                )
            call = call.let_in
        return crops


def _is_heavy(contents: Sequence[Content]) -> bool:
    if len(contents) > _PLANNED_ON_THE_LOOP:
        return True
    return sum([len(content.data) for content in contents if isinstance(content, Tensor)]) > _CHECKED_ON_THE_LOOP


def detector_missing() -> DetectorNotLoaded:
    return DetectorNotLoaded(
        "no face detector with landmarks is loaded; send aligned faces (face.aligned), or add them to --models"
    )


def _inputs(
    contents: Sequence[Content], crops: Mapping[int, FaceCrops]
) -> tuple[list[int], list[Face | None], list[Input]]:
    """(owners, faces) of all vectors to come, and what the encoder must encode for them, in the same order."""
    owners: list[int] = []
    faces: list[Face | None] = []
    inputs: list[Input] = []
    for i, content in enumerate(contents):
        if i in crops:
            owners += [i] * len(crops[i].chips)
            faces += crops[i].photo.comparable
            inputs += [Chip(content.path, chip) for chip in crops[i].chips]
        else:
            owners.append(i)
            faces.append(None)
            if not isinstance(content, ClientEncoding):
                inputs.append(content)
    return owners, faces, inputs


def _all(outcomes: Sequence[Output | BaseException]) -> Iterator[Output]:
    """Raises the first that is an exception."""
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        yield outcome


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
