"""What requests are about, as plain values, and the checks every request goes through."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from oneglance_core.distance import UNIT_TOLERANCE, first_not_unit
from oneglance_core.expectation import Rate
from oneglance_core.faces.crops import FaceChoice
from oneglance_core.faces.finder import Face
from oneglance_core.limits import Breach
from oneglance_core.names import NameInvalid, as_name, as_value
from oneglance_index import Candidate, Mapped, Note, SubjectFilter
from oneglance_server.errors import InvalidRequest

MAX_LABELS = 64
MAX_FILTER_LABELS = 8
MAX_LABEL_CHARACTERS = 1000
MAX_DESCRIPTION_CHARACTERS = 1000
MAX_EXAMPLES_PER_ENROLL = 64
MAX_ENCODED = 1024  # subjects of one message whose encodings there are already
MAX_PROBES = 1024
MAX_PHOTOS = 64
MAX_MOVED = 1024  # subjects, encodings of one, or thresholds that are moved, in one message
MAX_KNOWN = 3_000  # subjects that an export knows, in one message
MAX_AXES = 8  # of a tensor
MAX_FACES = 2048  # of all photos of one call
MAX_MATCHES = 10_000
MAX_LISTED = 50_000  # candidates, or matches, in one answer
MAX_ANSWERED_LABELS = 8 << 20  # characters, of all candidates and matches in one answer
MAX_PAGE_BYTES = 4 << 20  # of a list: what clients take that nobody told to take more
LEAST_RATE = 1e-6  # that a threshold can be asked for
ANY_FACE = FaceChoice()


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture; for an encoder of faces, ``face`` says which face of it. ``keep``: a crop of it is wanted.

    ``path`` names it in errors, here and below: where it stands in the request, as "probes[3].image".
    """

    path: str
    data: bytes = field(repr=False)
    face: FaceChoice = ANY_FACE
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Sound:
    """An encoded sound."""

    path: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Tensor:
    """The encoder's input: ``dtype`` "uint8" or "float32", C order, little endian. Of another size where the encoder's
    ``fit`` says what becomes of it."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClientEncoding:
    """An encoding the caller made: float32 [D], and the digest of the encoder it says made it."""

    path: str
    values: npt.NDArray[np.float32] = field(repr=False)
    encoder_digest: str


Content = Picture | Sound | Tensor | ClientEncoding


@dataclass(frozen=True, slots=True)
class Breached:
    """A breach, and the example that has it: ``path`` is where it stands in the request, as "probes[3].image"."""

    path: str
    breach: Breach


@dataclass(frozen=True, slots=True)
class Tau:
    """The threshold that applied. ``source``: "model", "author", "gallery", "calibration" or "request".

    ``fpir``: what to expect of a gallery of the present size, where that is known; ``fmr``: of one claimed identity.
    ``target_fpir``: what it was fitted to; ``set_time``: when the gallery was given it, seconds since the epoch;
    ``version``: its number among all that the gallery has had, 0 for one that isn't the gallery's.
    """

    value: float
    source: str
    id: str
    fpir: Rate | None
    fmr: Rate | None
    target_fpir: float | None = None
    set_time: float | None = None
    version: int = 0


@dataclass(frozen=True, slots=True)
class Provenance:
    """What an answer rests on; the fields of oneglance.v1.Provenance."""

    encoder_digest: str
    execution_provider: str
    index_kind: str = ""
    index_device: str = ""
    exact: bool = True
    gallery_revision: int = 0
    gallery_size: int = 0
    filtered_size: int | None = None
    gallery_uid: str = ""
    unchecked: bool = False
    mapped: Mapped | None = None


@dataclass(frozen=True, slots=True)
class Identification:
    """The answer to one probe, or to one face of it. ``identified`` is the subject's id, or None: unknown, or a face
    that can't be compared.

    ``probe``: position of the probe in the request. ``nearest``: the two subjects with the lowest scores, as far as
    there are so many, of those whom the probe can be given. ``ambiguous``: the nearest is under tau, but too near to
    the next. ``taken_by``: position in the answer of the face that has the nearest subject instead; None: nobody has.
    ``withheld``: all who are under tau have a negative that is nearer.
    """

    probe: int
    face: Face | None
    identified: str | None
    candidates: tuple[Candidate, ...]
    matches: tuple[Candidate, ...]
    matches_truncated: bool
    nearest: tuple[Candidate, ...]
    ambiguous: bool
    breaches: tuple[Breached, ...] = ()
    taken_by: int | None = None
    withheld: bool = False

    @property
    def gap(self) -> float | None:
        """Between the scores of the nearest two; None where there are no two."""
        return self.nearest[1].score - self.nearest[0].score if len(self.nearest) > 1 else None

    @property
    def compared(self) -> bool:
        return self.face is None or self.face.comparable


def check_id(path: str, value: str) -> str:
    """The name that an id is (core's names.py). Raises InvalidRequest."""
    return _named(path, as_name, value)


def _named(path: str, name_of: Callable[[str], str], value: str) -> str:
    try:
        return name_of(value)
    except NameInvalid as error:
        where = {"character": error.character, "position": error.position} if error.character else {}
        raise InvalidRequest.field(path, str(error), reason="ID_INVALID", **where) from None


def check_text(path: str, value: str, limit: int) -> str:
    if len(value) > limit:
        raise InvalidRequest.field(path, f"has {len(value)} characters, at most {limit}")
    return value


def check_labels(labels: Mapping[str, str], path: str = "labels") -> Mapping[str, str]:
    """Their names. Raises InvalidRequest."""
    if len(labels) > MAX_LABELS:
        raise InvalidRequest.field(
            path, f"{len(labels)} labels, at most {MAX_LABELS}", reason="TOO_MANY", limit=MAX_LABELS
        )
    named: dict[str, str] = {}
    for key, value in labels.items():
        name = check_id(path, key)
        if name in named:
            raise InvalidRequest.field(path, f"{name!r} is there twice, spelled in two ways", reason="ID_INVALID")
        named[name] = _named(f"{path}[{name}]", as_value, value)
    return named


def check_filter(labels: Mapping[str, str], id_prefix: str) -> SubjectFilter:
    """Raises InvalidRequest."""
    if len(labels) > MAX_FILTER_LABELS:
        raise InvalidRequest.field(
            "filter.labels", f"{len(labels)} labels, at most {MAX_FILTER_LABELS}", reason="TOO_MANY"
        )
    names = check_labels(labels, "filter.labels")
    prefix = ""
    if id_prefix:
        more = "." if id_prefix[-1].isspace() and not id_prefix.isspace() else ""  # an id may go on after spaces
        prefix = check_id("filter.id_prefix", id_prefix + more).removesuffix(more)
    return SubjectFilter(tuple(sorted(names.items())), prefix)


def check_notes(notes: Sequence[Note]) -> Sequence[Note]:
    """Of a request's examples. Raises InvalidRequest."""
    checked: list[Note] = []
    for place, note in enumerate(notes):
        path = f"examples[{place}]"
        named = check_note(path, note)
        if named.key and any(named.key == other.key for other in checked):
            raise InvalidRequest.field(f"{path}.key", f"another example has the key {named.key!r}, too")
        checked.append(named)
    return checked


def check_note(path: str, note: Note) -> Note:
    """Its names. Raises InvalidRequest."""
    key = check_id(f"{path}.key", note.key) if note.key else ""
    return Note(key, _named(f"{path}.source", as_value, note.source))


def check_unit(paths: Sequence[str], vectors: npt.NDArray[np.float32]) -> None:
    """Encodings, float32 [n, D], of an encoder whose encodings have unit length, and where each stands in the request.
    Raises InvalidRequest."""
    found = first_not_unit(vectors)
    if found is not None:
        row, length = found
        raise InvalidRequest.field(
            paths[row],
            f"has length {length:.6g}, the encoder's encodings have 1 within {UNIT_TOLERANCE:g}",
            reason="ENCODING_INVALID",
        )


def check_which(encoding_id: str, encoding_key: str) -> tuple[str | None, str | None]:
    """An encoding by its id, or by its key. Raises InvalidRequest."""
    if encoding_id and encoding_key:
        raise InvalidRequest.field("encoding_key", "give the id or the key, not both")
    if encoding_key:
        return None, check_id("encoding_key", encoding_key)
    return check_id("encoding_id", encoding_id), None


def check_count(path: str, items: Collection[object], limit: int) -> None:
    if not items:
        raise InvalidRequest.field(path, "at least one is required", reason="EMPTY")
    if len(items) > limit:
        raise InvalidRequest.field(path, f"{len(items)} given, at most {limit}", reason="TOO_MANY", limit=limit)


def check_tau(path: str, tau: float, fusion: str, decided_by: str = "distance") -> float:
    """``fusion``, ``decided_by``: whose scores it is compared with."""
    if decided_by == "probability" and not 0 <= tau <= 1:
        raise InvalidRequest.field(path, f"must be 0 to 1 (1 - probability), got {tau}", reason="TAU_INVALID")
    if not math.isfinite(tau) or (tau < 0 and fusion != "margin"):
        raise InvalidRequest.field(path, f"must be finite and >= 0 (squared L2), got {tau}", reason="TAU_INVALID")
    return tau


def check_rate(path: str, rate: float) -> float:
    """Raises InvalidRequest outside 0.000001 to 1."""
    if not LEAST_RATE <= rate < 1:
        raise InvalidRequest.field(path, f"must be at least {LEAST_RATE:g} and below 1, got {rate:g}")
    return rate


def check_gap(path: str, gap: float) -> float:
    """A least gap between scores. Raises InvalidRequest unless it is finite and >= 0."""
    if not (math.isfinite(gap) and gap >= 0):
        raise InvalidRequest.field(path, f"must be finite and >= 0, got {gap}")
    return gap


def check_size(path: str, value: int, default: int, limit: int) -> int:
    """0 means ``default``. Raises InvalidRequest outside 0..limit."""
    if not 0 <= value <= limit:
        raise InvalidRequest.field(path, f"must be 0 to {limit}, got {value}")
    return value or default
