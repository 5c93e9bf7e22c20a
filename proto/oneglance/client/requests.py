"""Request messages, made from paths, picture bytes and numpy arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import GeneratorType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from oneglance.client.pictures import Order, file_bytes, is_ambiguous, photo_bytes
from oneglance.client.texts import names_bad_text
from oneglance.v1.common_pb2 import (
    DATA_TYPE_FLOAT32,
    DATA_TYPE_UINT8,
    DECIDED_BY_DISTANCE,
    DECIDED_BY_PROBABILITY,
    DECIDED_BY_UNSPECIFIED,
    DOUBT_POLICY_FLAG,
    DOUBT_POLICY_OFF,
    DOUBT_POLICY_REFUSE,
    DOUBT_POLICY_UNSPECIFIED,
    FUSION_MARGIN,
    FUSION_MEAN,
    FUSION_NEAREST,
    FUSION_UNSPECIFIED,
    Encoding,
    Example,
    SubjectFilter,
    Tensor,
)
from oneglance.v1.face_pb2 import (
    QUALITY_POLICY_OFF,
    QUALITY_POLICY_STANDARD,
    QUALITY_POLICY_STRICT,
    QUALITY_POLICY_UNSPECIFIED,
    SMALL_FACES_ALWAYS,
    SMALL_FACES_NEVER,
    SMALL_FACES_UNSPECIFIED,
    SMALL_FACES_WHEN_NONE,
    SMALL_FACES_WHEN_WIDE,
    Box,
    FaceSelector,
)
from oneglance.v1.gallery_pb2 import CalibrationProbe
from oneglance.v1.identification_pb2 import IdentifyRequest
from oneglance.v1.stylization_pb2 import (
    PICTURE_FORMAT_JPEG,
    PICTURE_FORMAT_PNG,
    PICTURE_FORMAT_UNSPECIFIED,
    PICTURE_FORMAT_WEBP,
    StreamSettings,
    StyleWeight,
    StylizeSettings,
)
from oneglance.v1.subject_pb2 import (
    ON_EXISTING_ADD,
    ON_EXISTING_FAIL,
    ON_EXISTING_REPLACE,
    EncodedSubject,
    EnrollRequest,
    Retention,
)

if TYPE_CHECKING:
    from PIL.Image import Image

ENCODED_BYTES = 1 << 20  # of the subjects in one message of bulk_enroll_encodings
SOUND_SUFFIXES = (".wav", ".flac")
_NOT_AN_EXAMPLE = (
    "an example is a path, the bytes or the open file of a picture or a sound, a Pillow image, an array, or an "
    "Encoding, not {}"
)
_PHOTO_OR_TENSOR = (
    "an array uint8 {} may be a photo, in which faces are searched, or what the encoder takes as it is, such as an "
    "aligned face: say photo(array, order='BGR') (OpenCV) or photo(array, order='RGB'), or say tensor(array)"
)

FileLike: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image"
"""A path to a picture or a sound; the bytes of one; a BytesIO or a file opened for bytes; a Pillow image."""

ExampleLike: TypeAlias = "FileLike | npt.NDArray[Any] | Encoding | Example"
"""FileLike; an array; an Encoding made by the same encoder; or the message, which ``photo``, ``sound`` and ``tensor``
make.

An array is the encoder's input, as ``tensor`` explains, unless it could be a photo as well: then it is refused, and
``photo`` or ``tensor`` says which it is."""

Value = TypeVar("Value")


StyleLike: TypeAlias = "str | os.PathLike[str] | bytes"
"""The name of a style; or a Path to the picture of one, or the bytes of that."""

StylesLike: TypeAlias = "StyleLike | Mapping[Any, float]"
"""A style, or weights by styles, each a StyleLike, which sum to 1."""


class Names(dict[str, Value]):
    """Values by their names in arguments; ValueError for another."""

    def __missing__(self, name: object) -> Value:
        known = ", ".join(repr(known) for known in self)
        raise ValueError(f"{name!r} is none of {known}")


OnExisting = Literal["add", "replace", "fail"]
ON_EXISTING = Names({"add": ON_EXISTING_ADD, "replace": ON_EXISTING_REPLACE, "fail": ON_EXISTING_FAIL})

FusionName = Literal["", "nearest", "mean", "margin"]
FUSIONS = Names({"": FUSION_UNSPECIFIED, "nearest": FUSION_NEAREST, "mean": FUSION_MEAN, "margin": FUSION_MARGIN})

DecidedByName = Literal["", "distance", "probability"]
DECIDED_BY = Names(
    {
        "": DECIDED_BY_UNSPECIFIED,
        "distance": DECIDED_BY_DISTANCE,
        "probability": DECIDED_BY_PROBABILITY,
    }
)

SmallFaces = Literal["", "when-none", "when-wide", "always", "never"]
SMALL_FACES = Names(
    {
        "": SMALL_FACES_UNSPECIFIED,
        "when-none": SMALL_FACES_WHEN_NONE,
        "when-wide": SMALL_FACES_WHEN_WIDE,
        "always": SMALL_FACES_ALWAYS,
        "never": SMALL_FACES_NEVER,
    }
)
QualityPolicy = Literal["", "off", "standard", "strict"]
QUALITY_POLICIES = Names(
    {
        "": QUALITY_POLICY_UNSPECIFIED,
        "off": QUALITY_POLICY_OFF,
        "standard": QUALITY_POLICY_STANDARD,
        "strict": QUALITY_POLICY_STRICT,
    }
)
DoubtPolicy = Literal["", "off", "flag", "refuse"]
DOUBT_POLICIES = Names(
    {
        "": DOUBT_POLICY_UNSPECIFIED,
        "off": DOUBT_POLICY_OFF,
        "flag": DOUBT_POLICY_FLAG,
        "refuse": DOUBT_POLICY_REFUSE,
    }
)
PictureFormatName = Literal["", "png", "jpeg", "webp"]
_FORMATS = Names(
    {
        "": PICTURE_FORMAT_UNSPECIFIED,
        "png": PICTURE_FORMAT_PNG,
        "jpeg": PICTURE_FORMAT_JPEG,
        "webp": PICTURE_FORMAT_WEBP,
    }
)
FaceChoice = Literal["largest", "aligned"] | tuple[float, float, float, float] | None
"""Which face of a photo; ``photo`` explains the values."""


def photo(
    content: FileLike | npt.NDArray[Any],
    face: FaceChoice = None,
    small_faces: SmallFaces = "",
    *,
    order: Order | None = None,
    upright_only: bool = False,
    search_pixels: int = 0,
) -> Example:
    """A photo for an encoder of faces; and for any, a picture from an array of pixels.

    content: FileLike; or pixels uint8 [H, W], [H, W, 3] or [H, W, 4], upright, which are sent as PNG.
    face: which face to take: ``"largest"``; a box (x, y, width, height) in pixels: the face that overlaps it most;
        ``"aligned"``: the picture is an aligned face already; None: the only face, or in ``identify`` every face.
    small_faces: when to search the enlarged photo, too. ``when-none``: the first search found no face; ``when-wide``:
        it found none as wide as 0.3 of the photo's shorter side; empty: ``when-wide`` for every face and for a box,
        else ``when-none``.
    upright_only: don't search the photo turned when it shows no upright face as it is.
    search_pixels: search it at up to so many pixels where that is more than the server's own search_pixels; up to
        16,000,000.
    order: of the channels of an array: "BGR" of one from OpenCV, "RGB" of any other; a fourth is alpha. An array of
        three or four channels needs it.

    Raises TypeError and ValueError for an array that is no photo, OSError for a path that can't be read.
    """
    selector = FaceSelector(
        small_faces=SMALL_FACES[small_faces], upright_only=upright_only, search_pixels=search_pixels
    )
    if face == "largest":
        selector.largest = True
    elif face == "aligned":
        selector.aligned = True
    elif face is not None:
        if isinstance(face, str):
            raise ValueError(f"face is 'largest', 'aligned', a box (x, y, width, height) or None, not {face!r}")
        x, y, width, height = face
        selector.box.CopyFrom(Box(x=x, y=y, width=width, height=height))
    if isinstance(content, np.ndarray):
        message = Example(image=photo_bytes(content, order))
    elif order is not None:
        raise ValueError("order is of the channels of an array; a file says it itself")
    else:
        message = example(content)
    message.face.CopyFrom(selector)
    return message


def tensor(array: npt.NDArray[Any]) -> Example:
    """The encoder's input as it is: uint8 or float32, without batch dimension ([H, W, C], [L, C] or [D, H, W, C]).

    For an encoder of faces, an aligned face: nothing is searched or aligned. Raises TypeError for another dtype.
    """
    return Example(tensor=_tensor(array))


def sound(content: FileLike) -> Example:
    """A sound for an encoder that takes sounds: its path, its open file, or the bytes of a WAV or a FLAC."""
    if isinstance(content, (str, os.PathLike)):
        return Example(sound=Path(content).read_bytes())
    data = file_bytes(content)
    if data is None:
        raise TypeError(_NOT_AN_EXAMPLE.format(type(content).__name__))
    return Example(sound=data)


def is_sound_file(path: str | os.PathLike[str]) -> bool:
    """By its suffix, in capitals or not."""
    return os.fspath(path).lower().endswith(SOUND_SUFFIXES)


@names_bad_text
def keyed(content: ExampleLike, key: str = "", source: str = "") -> Example:
    """An example to enroll, with names of your own for the encoding that comes of it.

    key: unlike those of the subject's other encodings; ``delete_encoding`` and ``move_encoding`` take it.
    source: where it is from, as the name of a file.
    """
    message = Example()
    message.CopyFrom(example(content))
    message.key, message.source = key, source
    return message


@names_bad_text
def subject_filter(labels: Mapping[str, str] | None = None, id_prefix: str = "") -> SubjectFilter:
    """The subjects that have all of these labels, and an id that begins so."""
    return SubjectFilter(labels=labels, id_prefix=id_prefix)


def stranger(content: ExampleLike, name: str = "") -> CalibrationProbe:
    """A probe for ``calibrate`` that shows a person who is not enrolled. ``name``: the same for all pictures of one."""
    return CalibrationProbe(example=example(content), subject=name)


def mate(content: ExampleLike, subject_id: str) -> CalibrationProbe:
    """A probe for ``calibrate`` that shows an enrolled subject; not one of the enrolled pictures."""
    return CalibrationProbe(example=example(content), subject=subject_id, mated=True)


def encoding(values: npt.ArrayLike, encoder_digest: str) -> Encoding:
    """An Encoding from its values ``[D]`` and the digest of the encoder that made them."""
    return Encoding(values=np.asarray(values, dtype=np.float32).ravel().tolist(), encoder_digest=encoder_digest)


def example(content: ExampleLike) -> Example:
    """The message for one example. Raises TypeError for other types and for an array that may be a photo as well as the
    encoder's input, OSError for a path that can't be read."""
    if isinstance(content, Example):
        return content
    if isinstance(content, Encoding):
        return Example(encoding=content)
    if isinstance(content, np.ndarray):
        if is_ambiguous(content):
            raise TypeError(_PHOTO_OR_TENSOR.format(list(content.shape)))
        return tensor(content)
    if isinstance(content, (str, os.PathLike)):
        return sound(content) if is_sound_file(content) else example(Path(content).read_bytes())
    data = file_bytes(content)
    if data is None:
        raise TypeError(_NOT_AN_EXAMPLE.format(type(content).__name__))
    heard = data[:4] == b"fLaC" or (data[:4] == b"RIFF" and data[8:12] == b"WAVE")
    return Example(sound=data) if heard else Example(image=data)


def picture(content: ExampleLike) -> bytes:
    """The bytes of a picture, from FileLike or from what ``photo`` made. Raises TypeError for arrays and encodings, and
    OSError."""
    if isinstance(content, np.ndarray):
        raise TypeError(
            "an array of pixels is made a picture by photo(array, order='BGR') or photo(array, order='RGB')"
        )
    message = example(content)
    if message.WhichOneof("content") != "image":
        raise TypeError("a picture is a path, the bytes or the open file of one, a Pillow image, or what photo() makes")
    return message.image


@names_bad_text
def enroll_request(
    gallery_id: str,
    subject_id: str,
    *examples: ExampleLike | Iterable[ExampleLike],
    face: FaceChoice = None,
    labels: Mapping[str, str] | None = None,
    on_existing: OnExisting = "add",
    request_id: str = "",
    accept_breaches: bool = False,
    doubt_policy: DoubtPolicy = "",
    retention: Retention | None = None,
) -> EnrollRequest:
    """The message of one enrollment; ``bulk_enroll`` takes many.

    examples: one by one as in ``enroll``, or lists of them.
    face: which face of each photo to take, as ``photo`` explains; None: the only one.
    accept_breaches: enroll examples outside the limits of the gallery's quality policy or of the encoder's input, too.
    doubt_policy: what is done if it is doubtful: like another subject, or unlike its own; empty: the gallery's.
    retention: how long the subject may be kept, and why; ``retention`` makes it. None: as it was.
    """
    return EnrollRequest(
        gallery_id=gallery_id,
        subject_id=subject_id,
        examples=[_with_face(one, face) for one in _each(examples)],
        labels=labels,
        on_existing=ON_EXISTING[on_existing],
        request_id=request_id,
        accept_breaches=accept_breaches,
        doubt_policy=DOUBT_POLICIES[doubt_policy],
        retention=retention,
    )


@names_bad_text
def encoded_subject(
    subject_id: str, encodings: npt.ArrayLike, labels: Mapping[str, str] | None = None, request_id: str = ""
) -> EncodedSubject:
    """A subject for ``bulk_enroll_encodings``.

    encodings: ``[D]`` or ``[n, D]``, by the encoder that is named there. labels: those that are given are set.
    request_id: makes it safe to send the same again: it gets the first answer, for 24 hours.
    """
    values = np.ascontiguousarray(encodings, dtype="<f4").tobytes()
    return EncodedSubject(subject_id=subject_id, values=values, labels=labels, request_id=request_id)


@names_bad_text
def retention(expires: datetime | None = None, purpose: str = "", consent: str = "") -> Retention:
    """How long a subject may be kept, for what, and by whose consent; ``expires`` None: for ever."""
    made = Retention(purpose=purpose, consent=consent)
    if expires is not None:
        made.expire_time.FromDatetime(expires)
    return made


@names_bad_text
def identify_request(
    gallery_id: str,
    *probes: ExampleLike | Iterable[ExampleLike],
    max_candidates: int = 0,
    tau: float | None = None,
    all_matches: bool = False,
    least_gap: float | None = None,
    one_face_each: bool = False,
    filter: SubjectFilter | None = None,
    with_labels: bool = False,
    exact: bool = False,
) -> IdentifyRequest:
    """The message of one identification; ``identify_stream`` takes many.

    probes: one by one as in ``identify``, or lists of them.
    max_candidates: length of the candidate list; 0: the server's default.
    least_gap: how much nearer than the next subject one must be to be identified; None: as the gallery asks for.
    one_face_each: identify a subject in one face of a photo at most.
    filter: compare with these subjects only; ``subject_filter`` makes it.
    with_labels: tell the labels of candidates and matches.
    exact: the answer must be, whatever the gallery may lose (``set_approximation``).
    """
    return IdentifyRequest(
        gallery_id=gallery_id,
        probes=map(example, _each(probes)),
        max_candidates=max_candidates,
        tau=tau,
        all_matches=all_matches,
        least_gap=least_gap,
        one_face_each=one_face_each,
        filter=filter,
        with_labels=with_labels,
        exact=exact,
    )


@names_bad_text
def stylize_settings(
    styles: StylesLike,
    *,
    stylizer: str = "",
    strength: float | None = None,
    keep_colors: bool = False,
    format: PictureFormatName = "",
    quality: int = 0,
    max_side: int = 0,
    stroke_size: float | None = None,
    keep_faces: float = 0.0,
) -> StylizeSettings:
    """How to repaint a picture.

    styles: the name of a style, or the picture of one (a Path or bytes) where the server has a stylizer for any style;
        or a weight for each of several, which sum to 1: ``{"oil": 0.7, "pencil": 0.3}``.
    stylizer: name or digest; may be empty when only one that is loaded has these styles.
    strength: share of the stylized picture in the result, [0, 1]; None: 1.
    keep_colors: take only the brightness from the stylized picture.
    format: ``png``, ``jpeg`` or ``webp``; empty: the format of the picture.
    quality: of jpeg and webp, 1 to 100; 0: the server's default.
    max_side: first shrink the picture to at most so many pixels on the longer side; 0: never.
    stroke_size: how large strokes are, times what the stylizer paints, 0.5 to 4; None: 1.
    keep_faces: how much less strength there is in faces, 0 to 1; more than 0 needs a server that finds faces.
    """
    weights: Mapping[Any, float] = styles if isinstance(styles, Mapping) else {styles: 0.0}
    return StylizeSettings(
        styles=[_style_weight(style, weight) for style, weight in weights.items()],
        stylizer=stylizer,
        strength=strength,
        keep_colors=keep_colors,
        format=_FORMATS[format],
        quality=quality,
        max_side=max_side,
        stroke_size=stroke_size,
        keep_faces=keep_faces,
    )


def _style_weight(style: StyleLike, weight: float) -> StyleWeight:
    if isinstance(style, str):
        return StyleWeight(style=style, weight=weight)
    return StyleWeight(picture=picture(style), weight=weight)


def stream_settings(
    settings: StylizeSettings, *, steadiness: float | None = None, every_frame: bool = False
) -> StreamSettings:
    """Settings of a stream of frames. ``stylize_stream`` also takes them between frames.

    steadiness: how much of the parts that don't move is kept from the frame before, [0, 1); None: the server's default.
    every_frame: slow the sender down instead of dropping frames.
    """
    return StreamSettings(settings=settings, steadiness=steadiness, every_frame=every_frame)


def _each(given: Iterable[ExampleLike | Iterable[ExampleLike]]) -> Iterator[ExampleLike]:
    """One by one, those of lists, too. A string is a path, and an open file is one example."""
    for one in given:
        if isinstance(one, (list, tuple, map, filter, GeneratorType)):
            yield from one
        else:
            yield one  # type: ignore[misc]


def _with_face(content: ExampleLike, face: FaceChoice) -> Example:
    if face is None:
        return example(content)
    if isinstance(content, (Example, Encoding)):
        raise TypeError("face is of photos; what photo() makes says it itself: photo(..., face=...)")
    return photo(content, face)


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    if array.dtype == np.uint8:
        data_type = DATA_TYPE_UINT8
    elif array.dtype == np.float32:
        data_type = DATA_TYPE_FLOAT32
    else:
        raise TypeError(f"a tensor is uint8 or float32, not {array.dtype}; convert it first")
    raw = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return Tensor(data_type=data_type, shape=array.shape, data=raw)
