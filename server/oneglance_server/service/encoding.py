"""From pictures, tensors and client-made encodings to points in one encoder's space."""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import usable_encodings
from oneglance_core.faces.finder import ChipSpec, Face, Photo
from oneglance_core.pictures import PictureError, PictureLimits, encoder_input
from oneglance_index import EncodingInvalid, check_encodings
from oneglance_server.engines.batcher import Batcher, BatchObserver
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.photos import FaceError, Look, Looked, Looker
from oneglance_server.errors import (
    DetectorNotLoaded,
    EncoderNotLoaded,
    ForeignEncoding,
    InvalidRequest,
    ModelNotFound,
    Overloaded,
)
from oneglance_server.service.content import MAX_FACES, ClientEncoding, Content, Picture, TensorInput

CLIENT = "client"
_PHOTOS_AT_ONCE = 16  # of one call, before its faces are counted
_NO_ENCODING = "the encoder gives it no usable encoding"
ENCODING_FLAWS = {
    "not_finite": "has values that are not finite",
    "zero": "is all zero",
    "too_large": "has values too large to compare",
}


@dataclass(frozen=True, slots=True)
class Encoded:
    """``vectors`` float32 [n, D]; ``provider`` ran the encoder, or "client" when nothing had to be encoded.

    ``owners[i]`` is the position of the content that vector i comes from, never falling: each content once, except that
    a photo of which every face was wanted gives one vector per face, or none. ``faces[i]`` is the face behind vector i,
    None when it isn't from a photo. ``photos``: what was seen of each photo, by its content's position.
    """

    vectors: npt.NDArray[np.float32]
    provider: str
    owners: tuple[int, ...]
    faces: tuple[Face | None, ...]
    photos: Mapping[int, Photo]


@dataclass(frozen=True, slots=True)
class _Job:
    """Something to encode, and where it stands in the request. A chip is uint8 [H, W, 3]."""

    content: TensorInput | Picture | npt.NDArray[np.uint8]
    path: str


class Photos:
    """The face finder behind its own batcher."""

    def __init__(
        self, finder: Looker, executor: Executor, *, workers: int, max_batch: int, max_queue: int,
        observer: BatchObserver,
    ) -> None:  # fmt: skip
        self.finder = finder
        self._batcher = Batcher[Look, Looked](
            "photo",
            finder.look,
            executor,
            workers=workers,
            max_batch_rows=max_batch,
            max_queue_rows=max_queue,
            observer=observer,
        )

    async def look(
        self, looks: Sequence[Look], paths: Sequence[str], *, deadline: float | None, patient: bool = False
    ) -> list[Looked]:
        """What is seen of each photo. ``paths`` name them in errors.

        Raises InvalidRequest for the first that can't be used, Overloaded, DeadlinePassed.
        """
        outcomes = await self._batcher.submit_settled(looks, deadline=deadline, patient=patient)
        seen = []
        for outcome, path in zip(outcomes, paths, strict=True):
            if isinstance(outcome, PictureError):
                raise InvalidRequest.field(path, str(outcome), reason=outcome.reason) from outcome
            if isinstance(outcome, FaceError):
                refused = InvalidRequest.field(
                    path, str(outcome), reason=outcome.reason, faces=len(outcome.photo.faces)
                )
                refused.photo = outcome.photo
                raise refused from outcome
            if isinstance(outcome, MemoryError):
                raise Overloaded.for_want_of_memory("pictures") from outcome
            if isinstance(outcome, BaseException):
                raise outcome
            seen.append(outcome)
        return seen


class Encoders:
    """The loaded encoders, each behind its own coalescing batcher; ``photos`` when faces can be found."""

    def __init__(
        self,
        encoders: Sequence[Encoder],
        photos: Photos | None,
        limits: PictureLimits,
        executor: Executor,
        *,
        workers: int,
        max_batch: int,
        max_queue: int,
        observer: BatchObserver,
    ) -> None:
        self._limits = limits
        self._photos = photos
        self._by_name = {encoder.manifest.name: encoder for encoder in encoders}
        self._by_digest = {encoder.digest: encoder for encoder in encoders}
        self._batchers = {
            encoder.digest: Batcher[_Job, npt.NDArray[np.float32]](
                "encode",
                self._runner(encoder),
                executor,
                workers=workers,
                max_batch_rows=max_batch,
                max_queue_rows=max_queue,
                observer=observer,
            )
            for encoder in encoders
        }

    def all(self) -> list[Encoder]:
        """By name."""
        return [self._by_name[name] for name in sorted(self._by_name)]

    def find(self, path: str, name_or_digest: str) -> Encoder:
        """A loaded encoder; an empty name is the only one loaded. Raises ModelNotFound, InvalidRequest."""
        if not name_or_digest:
            if len(self._by_name) == 1:
                return next(iter(self._by_name.values()))
            known = ", ".join(sorted(self._by_name)) or "none"
            raise InvalidRequest.field(path, f"name one of the loaded models: {known}", reason="MODEL_REQUIRED")
        found = self._by_name.get(name_or_digest) or self._by_digest.get(name_or_digest)
        if found is None:
            shown = name_or_digest if len(name_or_digest) <= 128 else name_or_digest[:125] + "..."
            raise ModelNotFound(f"no loaded model {shown!r}", metadata={"model": shown})
        return found

    def by_digest(self, digest: str) -> Encoder | None:
        return self._by_digest.get(digest)

    @property
    def photos(self) -> Photos:
        """Raises DetectorNotLoaded."""
        if self._photos is None:
            raise DetectorNotLoaded(
                "no face detector with landmarks is loaded; send aligned faces (face.aligned), or add them to --models"
            )
        return self._photos

    async def encode(
        self,
        contents: Sequence[Content],
        paths: Sequence[str],
        *,
        digest: str,
        dimension: int,
        deadline: float | None,
        patient: bool = False,
        every_face: bool = False,
    ) -> Encoded:
        """Points in the space of encoder ``digest``.

        ``paths`` name the contents in errors. ``patient`` callers (streams) wait for room in the queue instead of
        being refused. ``every_face``: photos that don't say which face give all of theirs; otherwise the only one.
        Raises InvalidRequest for the first bad content, ForeignEncoding, EncoderNotLoaded, DetectorNotLoaded,
        Overloaded, DeadlinePassed.
        """
        encoder = self._by_digest.get(digest)
        given: dict[int, npt.NDArray[np.float32]] = {}
        looks: dict[int, Look] = {}
        for i, (content, path) in enumerate(zip(contents, paths, strict=True)):
            if isinstance(content, ClientEncoding):
                given[i] = _check_client_encoding(content, f"{path}.encoding", digest, dimension)
            elif encoder is None:
                raise EncoderNotLoaded(
                    f"{path}: the gallery's encoder {digest[:12]} is not loaded here; only encodings can be compared",
                    metadata={"encoder_digest": digest},
                )
            elif isinstance(content, TensorInput):
                _check_tensor(content, f"{path}.tensor", encoder)
            elif encoder.manifest.input.kind != "image":
                raise InvalidRequest.field(
                    f"{path}.image", f"this encoder takes a {encoder.manifest.input.kind}: send a tensor"
                )
            elif encoder.takes_photos and content.face.which != "aligned":
                looks[i] = _look(content, encoder, "all" if every_face else "only")
        looked = await self._look(looks, paths, deadline, patient) if looks else {}
        patient = patient or bool(looked)  # what was done already shall not be thrown away for a full queue
        jobs: list[_Job] = []
        owners: list[int] = []
        faces: list[Face | None] = []
        for i, content in enumerate(contents):
            if i in looked:
                owners.extend([i] * len(looked[i].chips))
                faces.extend(looked[i].photo.faces)
                jobs.extend(_Job(chip, f"{paths[i]}.image") for chip in looked[i].chips)
            else:
                owners.append(i)
                faces.append(None)
                if isinstance(content, TensorInput):
                    jobs.append(_Job(content, f"{paths[i]}.tensor"))
                elif isinstance(content, Picture):
                    jobs.append(_Job(content, f"{paths[i]}.image"))
        outcomes = await self._batchers[digest].submit_all(jobs, deadline=deadline, patient=patient) if jobs else []
        vectors = np.empty((len(owners), dimension), dtype=np.float32)
        encoded = iter(outcomes)
        for row, owner in enumerate(owners):
            vectors[row] = given[owner] if owner in given else next(encoded)
        return Encoded(
            vectors,
            encoder.execution_provider if encoder and jobs else "" if looks else CLIENT,
            tuple(owners),
            tuple(faces),
            {i: one.photo for i, one in looked.items()},
        )

    async def _look(
        self, looks: Mapping[int, Look], paths: Sequence[str], deadline: float | None, patient: bool
    ) -> dict[int, Looked]:
        looked: dict[int, Looked] = {}
        indices = list(looks)
        for start in range(0, len(indices), _PHOTOS_AT_ONCE):
            some = indices[start : start + _PHOTOS_AT_ONCE]
            seen = await self.photos.look(
                [looks[i] for i in some],
                [f"{paths[i]}.image" for i in some],
                deadline=deadline,
                patient=patient or bool(looked),
            )
            looked.update(zip(some, seen, strict=True))
            faces = sum(len(one.chips) for one in looked.values())
            if faces > MAX_FACES:
                raise InvalidRequest.field(
                    paths[some[-1]],
                    f"{faces} faces up to this photo, at most {MAX_FACES} in one call",
                    reason="TOO_MANY",
                    limit=MAX_FACES,
                )
        return looked

    def _runner(self, encoder: Encoder) -> Any:
        spec = encoder.manifest.input

        def prepare(content: TensorInput | Picture | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
            if isinstance(content, TensorInput):
                return np.frombuffer(content.data, np.dtype(content.dtype).newbyteorder("<")).reshape(content.shape)
            if not isinstance(content, Picture):
                return content
            return encoder_input(content.data, spec, self._limits)

        def run(jobs: Sequence[_Job]) -> Sequence[npt.NDArray[np.float32] | Exception]:
            inputs = np.empty((len(jobs), *spec.shape), dtype=spec.dtype)
            results: list[npt.NDArray[np.float32] | Exception] = []
            good: list[int] = []
            for i, job in enumerate(jobs):
                try:
                    inputs[len(good)] = prepare(job.content)
                    good.append(i)
                    results.append(inputs)  # replaced below
                except PictureError as error:
                    results.append(InvalidRequest.field(job.path, str(error), reason=error.reason))
                except MemoryError:
                    results.append(Overloaded.for_want_of_memory("pictures"))
            if good:
                outputs = encoder.encode(inputs[: len(good)])
                usable = usable_encodings(outputs)
                for i, output, fine in zip(good, outputs, usable, strict=True):
                    results[i] = (
                        output if fine else InvalidRequest.field(jobs[i].path, _NO_ENCODING, reason="NO_ENCODING")
                    )
            return results

        return run


def _look(content: Picture, encoder: Encoder, default: Literal["all", "only"]) -> Look:
    selector = content.face
    if selector.which == "unset":
        selector = replace(selector, which=default)
    return Look(content.data, selector, chip_of(encoder), face_required=default == "only")


def chip_of(encoder: Encoder) -> ChipSpec | None:
    """What the encoder wants a face brought to; None unless it takes photos."""
    if encoder.manifest.alignment is None:
        return None
    height, width, _ = encoder.manifest.input.shape
    return ChipSpec(encoder.manifest.alignment, height, width)


def _check_client_encoding(content: ClientEncoding, path: str, digest: str, dimension: int) -> npt.NDArray[np.float32]:
    if not content.encoder_digest:
        raise InvalidRequest.field(
            f"{path}.encoder_digest", "is required: the digest of the encoder that made it", reason="ENCODING_INVALID"
        )
    if content.encoder_digest != digest:
        raise ForeignEncoding(
            f"{path}: made by encoder {content.encoder_digest[:12]}, but {digest[:12]} is in use here",
            fields=((f"{path}.encoder_digest", f"expected {digest}"),),
            metadata={"expected": digest, "got": content.encoder_digest[:64]},
        )
    if content.values.shape != (dimension,):
        raise InvalidRequest.field(
            f"{path}.values", f"has {content.values.size} values, expected {dimension}", reason="ENCODING_INVALID"
        )
    try:
        checked: npt.NDArray[np.float32] = check_encodings(content.values[np.newaxis], dimension)[0]
        return checked
    except EncodingInvalid as error:
        raise InvalidRequest.field(f"{path}.values", ENCODING_FLAWS[error.reason], reason="ENCODING_INVALID") from error


def _check_tensor(content: TensorInput, path: str, encoder: Encoder) -> None:
    spec = encoder.manifest.input
    if content.dtype != spec.dtype:
        raise InvalidRequest.field(f"{path}.data_type", f"expected {spec.dtype}", reason="TENSOR_INVALID")
    if content.shape != spec.shape:
        raise InvalidRequest.field(
            f"{path}.shape", f"expected {list(spec.shape)}, got {list(content.shape)[:8]}", reason="TENSOR_INVALID"
        )
    itemsize = np.dtype(spec.dtype).itemsize
    expected = math.prod(spec.shape) * itemsize
    if len(content.data) != expected:
        raise InvalidRequest.field(
            f"{path}.data", f"expected {expected} bytes, got {len(content.data)}", reason="TENSOR_INVALID"
        )
    if spec.dtype == "float32" and not np.isfinite(np.frombuffer(content.data, "<f4")).all():
        raise InvalidRequest.field(f"{path}.data", "has values that are not finite", reason="TENSOR_INVALID")
