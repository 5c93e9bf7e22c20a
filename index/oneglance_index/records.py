"""The values that go into and come out of galleries. All are frozen; times are seconds since the epoch, UTC.

Distances are squared L2 throughout. An encoding id is a decimal string, unique within the data directory and
never used twice.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneglance_core.pair_head import PairHead

IMPORTING = '{"importing"'
"""How Gallery.policies begins, of one that is being imported."""
_as_json = json.JSONEncoder(ensure_ascii=False).encode

Vectors = NDArray[np.float32]
Integers = NDArray[np.int64]

OnExisting = Literal["add", "replace", "fail"]
GenerationState = Literal["filling", "active", "retired"]
DoubtKind = Literal["like_another", "unlike_own"]


@dataclass(frozen=True, slots=True)
class Followed:
    """A τ that follows the size of a gallery, and the id by which whoever made it knows what it is for."""

    tau: float
    id: str


@dataclass(frozen=True, slots=True)
class Generation:
    """The encodings of a gallery's subjects that one encoder made, and the rules by which they are compared.

    `kind` is the kind of index that searches them, and what its answers may lose (approximation.py). `fusion` is the
    rule by which a subject's encodings become one distance and one score, of oneglance_core.fusion. `state` is "active"
    for the generation that answers searches, "retired" once its gallery is deleted. A move to another encoder has a
    gallery of its own, not another generation ("filling" is of no use).

    `threshold` is the gallery's own τ, or None where the encoder's applies; `threshold_revision` counts how
    often it was set, starting from 0, and `threshold_since` says when it was (None: never, or before that was kept).
    `calibration` is the newest evidence that came with any of these thresholds, in whatever form the caller
    gave it, or None; it belongs to the one in force when `calibration_revision` equals `threshold_revision`.

    `followed` is the τ in force where the gallery has none of its own and the newest version is one that follows its
    size (see TauRule); else None.

    `quality` is the name of its quality policy, or None; it is kept as it is, and never looked into here. So is
    `doubt`, what is done about doubtful enrollments.

    `least_gap` is how far the scores of the two nearest subjects must be apart for one of them to be identified, >= 0;
    `decided_by` is what decides, "distance" or the "probability" of the encoder's pair head. Both are kept here, and
    never acted on: each Search says what it is ranked by.
    """

    encoder_digest: str
    dimension: int
    kind: str
    fusion: str
    state: GenerationState
    threshold: float | None
    threshold_revision: int
    threshold_since: float | None
    calibration: str | None
    calibration_revision: int
    quality: str | None
    created: float
    least_gap: float = 0.0
    followed: Followed | None = None
    doubt: str | None = None
    decided_by: str = "distance"


@dataclass(frozen=True, slots=True)
class Move:
    """A move of a gallery to another encoder, as one of its two galleries keeps it: the origin, or its successor.

    `other` is the id of the other one, as it is called now. `compare_share` is the share of probes that both are to be
    asked about, kept and never acted on. `cut_over`: when the successor took the origin's place, None where it hasn't.
    """

    other: str
    origin: bool
    started: float
    compare_share: float
    cut_over: float | None = None

    @property
    def answers(self) -> bool:
        """Whether it is the one that answers, under the name that moves; the other one waits."""
        return self.origin == (self.cut_over is None)

    def fits(self, gallery_id: str, other: Move | None) -> bool:
        """Whether `other` is what the other gallery keeps, where this is what gallery `gallery_id` keeps."""
        return other == replace(self, other=gallery_id, origin=not self.origin)


# What Gallery.retention is of one that keeps crops.
_KEEPING_CROPS = '{"crops": true}'
MAX_CROP_BYTES = 256 << 10
"""Of what is kept of one encoding's picture."""


def retention_of(*, keep_crops: bool) -> str | None:
    """What Gallery.retention is then."""
    return _KEEPING_CROPS if keep_crops else None


def is_importing(policies: str | None) -> bool:
    return policies is not None and policies.startswith(IMPORTING)


@functools.lru_cache(maxsize=256)
def move_of(policies: str | None) -> Move | None:
    return None if policies is None or is_importing(policies) else Move(**json.loads(policies)["move"])


def keeps_crops(retention: str | None) -> bool:
    return retention == _KEEPING_CROPS


@dataclass(frozen=True, slots=True)
class MoveState:
    """How far a move has come. `gallery` answers, `waiting` is the other one.

    `left`: subjects that only `gallery` has. `without_negatives`: those that have fewer negatives in `waiting`, so that
    they are left, too, in a way; `fewer_encodings`: those that have fewer encodings there, which is told and no more.
    `mapped`: those that have mapped encodings in the successor, whichever of the two that is. `with_crops`: of those
    that are left, how many have crops.
    """

    gallery: Gallery
    waiting: Gallery
    left: int
    without_negatives: int
    fewer_encodings: int
    mapped: int = 0
    with_crops: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """A subject that isn't in the gallery that waits, or is there, with fewer negatives, or (`mapped`) in the successor
    with mapped encodings only."""

    subject_id: str
    lacks_negatives: bool
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class LeftPage:
    """Subjects in order of id. `next_after` continues after this page; None: it was the last."""

    subjects: tuple[Left, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True, eq=False)
class PairedSubject:
    """A subject in both galleries of a move, with those of its encodings that are of the same examples: `old`, float32
    [n, D1], by the origin's encoder and `new`, float32 [n, D2], by the successor's. Oldest first; n may be 0."""

    subject_id: str
    old: Vectors
    new: Vectors


@dataclass(frozen=True, slots=True, eq=False)
class PairedPage:
    """Subjects in order of id. `next_after` continues after this page; None: it was the last."""

    subjects: tuple[PairedSubject, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class MapLoss:
    """A map from the encodings of `from_encoder` to those of `to_encoder`, both by digest, and what it costs: measured
    before anything was mapped, on subjects that it was not fitted on, at `tau`.

    Of `probes`, `missed` were not identified in a gallery of mapped encodings, `missed_true` in one of true encodings
    of the same examples; `let_in` and `let_in_true` matched somebody else where their own subject wasn't there. Without
    any probes (UNKNOWN_LOSS) nobody knows.
    """

    kind: str
    from_encoder: str
    to_encoder: str
    digest: str
    fitted_subjects: int
    fitted_pairs: int
    measured_subjects: int
    probes: int
    missed: int
    missed_true: int
    let_in: int
    let_in_true: int
    tau: float


UNKNOWN_LOSS = MapLoss("", "", "", "", *(0,) * 8, 0.0)
"""Of a map, where a damaged store lost what it costs."""


@dataclass(frozen=True, slots=True)
class Mapped:
    """That `subjects` of a gallery have encodings that a map made of another encoder's. `loss`: what the newest map was
    measured to cost, and `fitted` when. `outdated`: of the subjects, those that an earlier one made."""

    subjects: int
    outdated: int
    loss: MapLoss
    fitted: float


@dataclass(frozen=True, slots=True)
class MappedStep:
    """What a step of mapping did: `mapped` subjects of the gallery that waits have mapped encodings now, `refused` had
    none that can be mapped. `next_after` continues after them; None: nobody is left. `revision`: of that gallery."""

    mapped: int
    refused: int
    next_after: str | None
    revision: int


@dataclass(frozen=True, slots=True)
class KeptCrop:
    """An encoding, and the crop that is kept of its picture, b"" where none is."""

    encoding_id: str
    note: Note
    crop: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Filling:
    """What encodings of a subject, those of these ids in the gallery that answers, are made again of for the gallery
    that waits; and which ones, `beside`, it has there already."""

    made_of: tuple[str, ...]
    beside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeftCrops:
    """A subject that can be moved by its crops: what it has in the gallery that answers, oldest first, and hasn't in
    the one that waits; and the ids of what it has there."""

    subject_id: str
    encodings: tuple[KeptCrop, ...]
    beside: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeftCropsPage:
    """Subjects in order of id. `next_after` continues after this page; None: it was the last."""

    subjects: tuple[LeftCrops, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class Gallery:
    """A set of subjects, and the one generation of their encodings that answers searches.

    `revision` goes up by one with every committed change of the gallery. `encodings` and `negatives` count those of the
    active generation. `target_fpir` is the share of strangers that may be let in where the gallery has no threshold of
    its own, or None; what τ that takes, a TauRule says. `policies`, `rights` and `retention` are JSON. `policies` is
    that of an import (store/importing.py) or a move to another encoder (store/succession.py) under way, else None;
    `retention` says whether crops are kept, and of `rights` nothing is set or acted on yet. `uid` is this very
    gallery's: one that is made anew under the same id has another. `mapped`: None where all encodings are its encoder's
    own.
    """

    id: str
    description: str
    active: Generation
    target_fpir: float | None
    policies: str | None
    rights: str | None
    retention: str | None
    created: float
    revision: int
    subjects: int
    encodings: int
    negatives: int = 0
    uid: str = ""
    mapped: Mapped | None = None

    @property
    def unfinished(self) -> bool:
        """Whether it is being imported: it answers nobody until that is done."""
        return is_importing(self.policies)

    @property
    def move(self) -> Move | None:
        """The move to another encoder that it has a part in."""
        return move_of(self.policies)

    @property
    def keep_crops(self) -> bool:
        """Whether a crop of the picture is kept with each encoding that comes with one."""
        return keeps_crops(self.retention)


@dataclass(frozen=True, slots=True)
class Backup:
    """A backup that was made: a file of `size` bytes, with all that was done before `created`, seconds since the
    epoch, and the galleries by id as they are in it."""

    size: int
    created: float
    galleries: tuple[Gallery, ...]


@dataclass(frozen=True, slots=True)
class ThresholdVersion:
    """A threshold that a generation has, or had: the one that made `threshold_revision` equal to `version`.

    `threshold` is None where the gallery's own was cleared, `calibration` where it came without evidence, `since` where
    the time wasn't kept. `followed` is the id of one that followed the gallery's size (Followed.id), `target_fpir` the
    share of strangers that it was for; both None for a threshold of the gallery's own. `subjects` and `encodings` are
    the gallery's size at that moment, None where that wasn't kept.
    """

    version: int
    threshold: float | None
    calibration: str | None
    since: float | None
    followed: str | None = None
    target_fpir: float | None = None
    subjects: int | None = None
    encodings: int | None = None


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The other subject that has the encoding nearest to an example; `example` is the position of the example."""

    example: int
    subject_id: str
    distance: float


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why an example is doubtful. `example` is its position in the enrollment.

    "like_another": its distance to subject `subject_id`, another one, is at most `limit`. "unlike_own": its distance to
    the other encodings of its own subject, `subject_id`, is above it.
    """

    kind: DoubtKind
    example: int
    subject_id: str
    distance: float
    limit: float


@dataclass(frozen=True, slots=True)
class Doubting:
    """How an enrollment is to be held in doubt: distances are those between single encodings, by any rule of fusion.

    `neighbours` has for each example its neighbour as of revision `revision`, or None where there was none; what came
    since is looked at when the enrollment is carried out. An example is like another subject from a distance of
    `like_another` downwards, and unlike its own subject above `unlike_own`; None: never. With `refuse` a doubtful
    enrollment fails.
    """

    neighbours: tuple[Neighbour | None, ...]
    revision: int
    like_another: float | None
    unlike_own: float | None
    refuse: bool


@dataclass(frozen=True, slots=True)
class NewEncodings:
    """Encodings to enroll as one subject, float32 [n, D], together with others. The fields are those of enroll()."""

    subject_id: str
    encodings: Vectors
    labels: Mapping[str, str] | None = None
    on_existing: OnExisting = "add"
    request_id: str | None = None
    request_digest: bytes = b""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What enroll did: `encoding_ids` in the order given; `created` is whether the subject is new.

    `replayed` says that nothing was written, because this request id had been answered before with this very
    result; `revision` is then the revision that the first request made. `nearest_other` is the nearest of the examples'
    neighbours, None where nobody asked or there is no other subject.
    """

    subject_id: str
    encoding_ids: tuple[str, ...]
    created: bool
    replayed: bool
    revision: int
    nearest_other: Neighbour | None = None
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, slots=True)
class Note:
    """What its owner calls an encoding, and where it is from, as in the name of a file: the caller's own words, "" for
    none."""

    key: str = ""
    source: str = ""


NO_NOTE = Note()


@dataclass(frozen=True, slots=True)
class Encoding:
    id: str
    created: float
    note: Note = NO_NOTE


@dataclass(frozen=True, slots=True)
class Negative:
    """An encoding of what a subject is not. Its id is unique among negatives, and never used twice."""

    id: str
    created: float


@dataclass(frozen=True, slots=True)
class AddedNegative:
    """What add_negative did; `id` is that of an equal negative which the subject had, where `created` is False."""

    id: str
    created: bool
    revision: int


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a subject may be kept, for what, and by whose consent: until `expires`, seconds since the epoch, then it
    is deleted; for ever where that is None. `purpose` and `consent`, a reference, are the caller's own words."""

    expires: float | None = None
    purpose: str | None = None
    consent: str | None = None


@dataclass(frozen=True, slots=True)
class Expired:
    """A subject whose time is over. `number`: of the subject in the store; of those that are over at the same time the
    lowest comes first."""

    gallery_id: str
    subject_id: str
    retention: Retention
    number: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A subject, its encodings and its negatives, oldest first. `mapped`: a map made the encodings, all of them."""

    id: str
    labels: Mapping[str, str]
    created: float
    updated: float
    encodings: tuple[Encoding, ...]
    negatives: tuple[Negative, ...] = ()
    retention: Retention = Retention()
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class SubjectPage:
    """Subjects in order of id (by code point). `next_after` continues after this page; None: it was the last."""

    subjects: tuple[Subject, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class GalleryPage:
    """Galleries in order of id. `next_after` continues after this page; None: it was the last."""

    galleries: tuple[Gallery, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class ThresholdPage:
    """Thresholds, the newest first. `next_after` continues after this page; None: it was the last."""

    versions: tuple[ThresholdVersion, ...]
    next_after: int | None


@dataclass(frozen=True, slots=True)
class Likeness:
    """What a subject looks like to its gallery: the vectors that searches compare probes with.

    By the rule "nearest" its encodings, oldest first, and their ids; else its template, and no ids. float32 [n, D].
    """

    subject_id: str
    encoding_ids: tuple[str, ...]
    vectors: Vectors


@dataclass(frozen=True, slots=True)
class LikenessPage:
    """Subjects in order of id. `next_after` continues after this page; None: it was the last."""

    subjects: tuple[Likeness, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class Deleted:
    """What a deletion removed. A subject goes with its last encoding: `subject_deleted` is then true. `receipt` is
    signed; "" where the store signs none."""

    encodings: int
    subject_deleted: bool
    revision: int
    receipt: str = ""


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of encodings that went to another subject: `encoding_ids` has their new ids by their former ones.
    `subject_deleted`: whether the subject that had them is gone."""

    encoding_ids: Mapping[str, str]
    subject_deleted: bool
    revision: int


@dataclass(frozen=True, slots=True)
class DeletedGallery:
    """A gallery as it was when it was deleted. `receipt`: as of Deleted."""

    gallery: Gallery
    receipt: str = ""


@dataclass(frozen=True)
class SubjectFilter:
    """Which subjects are meant: those that have all of these labels, (key, value) each, and an id that begins so."""

    labels: tuple[tuple[str, str], ...] = ()
    id_prefix: str = ""

    def labels_pass(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(key) == value for key, value in self.labels)

    @functools.cached_property
    def texts(self) -> tuple[bytes, ...]:
        """Each label as it stands in the JSON of all of a subject's."""
        return tuple(f"{_as_json(key)}: {_as_json(value)}".encode() for key, value in self.labels)


EVERYBODY = SubjectFilter()


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How many subjects have which value of a label, at a revision; `without` have it not."""

    subjects: int
    values: Mapping[str, int]
    without: int
    revision: int


@dataclass(frozen=True, slots=True)
class NearerNegative:
    """A subject's negative that a probe is nearer to than to any of the subject's encodings, by squared L2."""

    id: str
    distance: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One subject near a probe: its squared L2 distance by the gallery's rule of fusion, and what is compared with τ.

    `encoding_id` is its nearest encoding; "" where the rule compares with the mean of them. `score` is the distance,
    but by "margin", and in a search by probability 1 - `probability`. `probability` is that of the search's pair head,
    for the very pair whose distance is told; None where it has none. A probe that has a nearer `negative` is not to be
    given the subject. `labels` are the subject's, where the search asks for them. `mapped`: its encodings are made by a
    map. `number` is the subject's, for whoever has to find it again though its id may change.
    """

    subject_id: str
    encoding_id: str
    distance: float
    score: float
    negative: NearerNegative | None = None
    probability: float | None = None
    labels: Mapping[str, str] | None = None
    mapped: bool = False
    number: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """One caller's question to a gallery: who is near its probes, float32 [q, D], made by encoder `encoder_digest`?

    Asks for the `candidates` nearest subjects of each probe (0: none). With `within` it also asks for every subject
    whose score is at most that, but for no more than the nearest `limit` of each probe. With `singly` probes are
    compared with every single encoding, whatever the rule of fusion, and negatives don't count. `fusion` is the rule
    that scores must be by, that of the threshold which they are compared with; None: any.

    With `head` candidates and matches are told its probability. With `by_probability` that decides, too: nearest is the
    subject with the highest one, and scores are 1 - probability; by the rule of fusion "margin" as by "mean".

    With `exact` the answer is, whatever the gallery may lose (approximation.py).

    With `among` the answer is as if no other subjects were enrolled. With `labels` candidates and matches have their
    subjects'. Raises ValueError for a question that asks for nothing.
    """

    probes: Vectors
    encoder_digest: str
    candidates: int
    within: float | None = None
    limit: int = 0
    singly: bool = False
    fusion: str | None = None
    head: PairHead | None = None
    by_probability: bool = False
    among: SubjectFilter = EVERYBODY
    labels: bool = False
    exact: bool = False

    def __post_init__(self) -> None:
        if self.singly and (self.among != EVERYBODY or self.labels):
            raise ValueError("single encodings are searched among everybody, and without labels")
        if (self.by_probability and self.head is None) or (self.singly and self.head is not None):
            raise ValueError("what decides by probability needs a head; single encodings are searched without")
        if self.within is None:
            if self.candidates < 1:
                raise ValueError(f"at least 1 candidate must be asked for, got {self.candidates}")
            return
        if self.singly:
            raise ValueError("single encodings are not searched within a threshold")
        if self.candidates < 0 or self.limit < 1:
            raise ValueError(f"at least 1 match must be asked for, got {self.limit} and {self.candidates} candidates")
        if not math.isfinite(self.within):
            raise ValueError(f"a threshold is a finite number, got {self.within}")


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to one Search. The i-th tuple answers the i-th probe, nearest first.

    `candidates[i]` ends with the last subject asked for that has no nearer negative, and `matches[i]` has none that do.
    No subject appears twice in a tuple; equal distances, or probabilities, are ordered by the number of the nearest
    encoding, oldest first, or where a rule compares with the mean, by when the subject was enrolled. `matches[i]` is ()
    where no `within` was asked for. `truncated[i]` says that more subjects lay within it than the limit let through.
    `exact` is whether these are certainly the nearest. `revision`, `subjects` and `encodings` describe the gallery as
    it was searched: candidates and matches are of one revision. `kind` and `device` are what did the search. `among`:
    how many subjects the filter of the search let through, None where it had none. `every_row`: for how many probes
    a scan could not tell the rows apart, so that every row was looked at, in the worst case in float64. `unchecked`:
    not every row of the store was found to be sound yet, since the start. `mapped`: as of the gallery.
    """

    candidates: tuple[tuple[Candidate, ...], ...]
    matches: tuple[tuple[Candidate, ...], ...]
    truncated: tuple[bool, ...]
    revision: int
    subjects: int
    encodings: int
    exact: bool
    kind: str
    device: str
    among: int | None = None
    every_row: int = 0
    unchecked: bool = False
    mapped: Mapped | None = None


@dataclass(frozen=True, slots=True)
class OpenProgress:
    """How far opening has come. `source` is "snapshot", "store" (rebuilt from it) or "empty".

    `reason` says why a snapshot was not used, "" where one was or where there was nothing to load.
    """

    gallery_id: str
    done_encodings: int
    total_encodings: int
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Change:
    """What one committed revision of a gallery does to one subject, as its index must apply it.

    `added` and `removed` are encoding numbers, both ascending, int64 [n] and [m], all of one subject; vectors
    float32 [n, D] are those of the added ones. `removed_subject` is the number of a subject that is gone, or None.
    `kept`, float32 [k, D], oldest first, are the encodings that the subject had and still has; None where the
    generation's rule of fusion has no templates. `kept_numbers`, int64 [k], are theirs. `subject_id` is the subject's
    name from here on; "" for a revision that concerns none. `labels` are those that it has then, as JSON; None: they
    stay.
    """

    revision: int
    added: Integers
    vectors: Vectors
    subject: int
    subject_id: str
    removed: Integers
    removed_subject: int | None = None
    kept: Vectors | None = None
    kept_numbers: Integers | None = None
    labels: bytes | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """Encodings, in order of number or subject by subject: numbers and subject numbers int64 [n], vectors float32 [n,
    D]."""

    numbers: Integers
    subjects: Integers
    vectors: Vectors

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Rows:
        """One after the other, at least one."""
        return cls(
            np.concatenate([part.numbers for part in parts]),
            np.concatenate([part.subjects for part in parts]),
            np.concatenate([part.vectors for part in parts]),
        )

    def at(self, where: slice | Integers | NDArray[np.bool_]) -> Rows:
        """Those at these positions."""
        return Rows(self.numbers[where], self.subjects[where], self.vectors[where])

    def by_subject(self) -> Rows:
        """Those of one subject together, in the order that they have here."""
        if (self.subjects[1:] >= self.subjects[:-1]).all():
            return self
        return self.at(np.argsort(self.subjects, kind="stable"))


def whole_subjects(blocks: Iterable[Rows]) -> Iterator[Rows]:
    """The same encodings, which come subject by subject, in blocks none of which ends within a subject."""
    left: Rows | None = None  # the encodings of the last subject so far: more of it may come
    for block in blocks:
        rows = block if left is None else Rows.joined([left, block])
        start = int(np.searchsorted(rows.subjects, rows.subjects[-1]))
        left = rows.at(slice(start, None))
        if start:
            yield rows.at(slice(start))
    if left is not None:
        yield left


class ToldSubjects(NamedTuple):
    """Subjects of a gallery as the store has them at a revision: ids by number, and labels, as JSON, of those that have
    any."""

    revision: int
    ids: Mapping[int, str]
    labels: Mapping[int, bytes]


class Checksum(NamedTuple):
    """Tells whether two sets of encodings are the same: how many there are, and the sum of their numbers."""

    encodings: int
    total: int
