"""GalleryStore: everything the services need of whatever keeps the galleries, and what they may rely on.

LocalGalleries is the implementation at hand; tests/index/conformance/ checks these promises on any. The promises
that concern all methods:

- Every method may be called from any thread. Reading and searching methods block; call them off an event loop.
- A writing method returns a Future at once. Done means: durable (it survives a crash or a power cut), and in effect
  for every read and search that starts afterwards. Writes take effect one after the other, in some order; those of
  one thread and one caller in the order of the calls. A write that fails changes nothing. A future cancelled in time
  never happens.
- What waits to be written is bounded in bytes: a write that finds no room fails at once with WriteQueueFull. Callers,
  as far as writes name them, take turns.
- What is wrong is a GalleryError (errors.py): through the future of a writing method, raised by the others.
  ValueError is for arguments that make no sense. Every method but the first four may also meet StoreError and
  OutOfMemory, and names only its own errors here. An enrollment that there is no room for in memory is refused; what is
  enrolled goes on being searched.
- A gallery's `revision` goes up by one with every write that changes the gallery, and never down.
- A subject or an encoding that was deleted is in no later answer, and doesn't come back, not even after a crash.
- Distances are squared L2, as float64 computes them from the float32 values, rounded to float32. A subject's distance
  and score are given by the rule of fusion of the gallery's active generation (oneglance_core.fusion): by "nearest" the
  distance of its nearest encoding, by "mean" and "margin" that of its template. By any rule, a probe that is nearer to
  one of a subject's negatives than to each of its encodings is told of that (Candidate.negative). A template follows
  from the subject's present encodings alone, oldest first, in whatever order they came and went. One subject has one
  place in an answer, however many encodings it has.

- Of two galleries of which one moves to the other's encoder (start_move), each subject of the one that waits is one of
  the one that answers, but for those that were left at a cut-over: these are deleted under either name. What is done to
  a subject of the latter is done to that of the former in the same step, or this goes there; what is deleted is deleted
  in both.

What is to come has its place: renaming a gallery is a writing method beside these.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Protocol

from oneglance_core.fusion import DecidedBy
from oneglance_core.mapping import EncodingMap
from oneglance_core.pair_head import PairHead
from oneglance_index.approximation import Approximation, ApproximationState
from oneglance_index.audit import Event
from oneglance_index.errors import GalleryError
from oneglance_index.moved import ExportStep, KnownSubjects, MovedSubject
from oneglance_index.records import (
    EVERYBODY,
    AddedNegative,
    Backup,
    Deleted,
    DeletedGallery,
    Doubting,
    Enrolled,
    Expired,
    Filling,
    Found,
    Gallery,
    GalleryPage,
    LabelCounts,
    LeftCropsPage,
    LeftPage,
    LikenessPage,
    MapLoss,
    MappedStep,
    Moved,
    MoveState,
    NewEncodings,
    Note,
    OnExisting,
    PairedPage,
    Retention,
    Search,
    Subject,
    SubjectFilter,
    SubjectPage,
    ThresholdPage,
    ThresholdVersion,
    Vectors,
)


class GalleryStore(Protocol):
    """Keeps galleries durably, and finds the nearest subjects in them. The module says what holds for all methods."""

    @property
    def device(self) -> str:
        """Where searches run: "cpu", "cuda:N", or the name of a remote service."""

    def close(self, deadline_seconds: float | None = None) -> None:
        """Finishes the writes that wait, and closes. Calls that come later fail with StoreClosed. Idempotent.

        After `deadline_seconds` it begins nothing more: writes that still wait fail with StoreClosed, and what would
        only make the next start quicker is left out.
        """

    def queued_writes(self) -> int:
        """How many writes wait for their turn."""

    def trouble(self) -> str | None:
        """Why it can't serve as it should now, for people: it is closed, every write fails, or a gallery's searches do;
        None when all is well. Quick; it may pass by itself."""

    def await_loaded(self) -> None:
        """Returns once every gallery has been loaded since the start, or this is closed. Until then those that weren't
        fail with IndexOutOfStep; where that fails, trouble() tells."""

    @property
    def sound(self) -> bool:
        """Whether all rows of the store were found to be sound since the start."""

    # Keeping.

    def rotate_keys(self, gallery_id: str | None = None) -> None:
        """Gives a gallery another key, or (None) all of them another master key. GalleryNotFound."""

    def back_up(self, target: Path, ended: Callable[[], bool]) -> Backup:
        """Writes a backup to a new file, and checks it, while others read and write.

        `ended` is asked now and then, in this thread: once it is true the backup is given up, and nothing is left.
        Raises BackupExists.
        """

    # Writing.

    def record(self, events: Sequence[Event]) -> Future[None]:
        """Adds entries to the audit trail, in their order. It is never refused for a full queue: whoever calls bounds
        how many wait. All other writing methods add one by themselves, for whom audit.acting says acts, in one step
        with what they do."""

    def create_gallery(
        self,
        gallery_id: str,
        *,
        encoder_digest: str,
        dimension: int,
        description: str = "",
        kind: str = "flat",
        fusion: str = "nearest",
        target_fpir: float | None = None,
        quality: str | None = None,
        least_gap: float = 0.0,
        doubt: str | None = None,
        decided_by: DecidedBy = "distance",
        keep_crops: bool = False,
    ) -> Future[Gallery]:
        """Makes an empty gallery, whose active generation is for encodings float32 [*, dimension] of one encoder.

        `kind` is the kind of index that searches it, `fusion` its rule of fusion; `quality` is as in set_quality,
        `least_gap` as in set_least_gap, `doubt` as in set_doubt, `decided_by` as in set_decided_by, `keep_crops` as in
        set_keep_crops. GalleryExists, GenerationUnsupported (no such kind or rule here), RulesConflict. The id of a
        deleted gallery is free again; the new gallery begins at revision 0.
        """

    def delete_gallery(self, gallery_id: str) -> Future[DeletedGallery]:
        """Deletes a gallery with all its subjects. GalleryNotFound."""

    def set_threshold(
        self, gallery_id: str, threshold: float | None, calibration: str | None = None, of: Gallery | None = None
    ) -> Future[Gallery]:
        """Sets the gallery's own τ, which scores are compared with, or None to have none. Finite, and by any rule of
        fusion but "margin" >= 0. GalleryNotFound.

        `of`: the gallery that it was made for. When it is another one by then GalleryNotFound, when its rule of fusion
        is another one FusionChanged, when something else decides DecidedByChanged. `calibration` is the evidence for
        it, kept as it is and never looked into. Earlier thresholds are kept, too: see list_thresholds. The result is
        the gallery as it is then.
        """

    def set_target_fpir(self, gallery_id: str, target_fpir: float | None) -> Future[Gallery]:
        """Sets the share of strangers, between 0 and 1, that may be let in where the gallery has no τ of its own; None:
        no target. The gallery's own τ is cleared. Where the store was given a TauRule, the τ that follows is made anew:
        here, and in every write after which the rule says another one; each is a version of list_thresholds.
        GalleryNotFound. The result is the gallery as it is then.
        """

    def set_fusion(self, gallery_id: str, fusion: str) -> Future[Gallery]:
        """Sets the rule of fusion. The gallery's own τ, which was for the former rule, is cleared. Nothing happens
        where the rule is this one already.

        The future is done once searches go by the new rule. They may raise IndexOutOfStep before, as enrollments do.
        GalleryNotFound, GenerationUnsupported (no such rule), RulesConflict. The result is the gallery as it is then.
        """

    def set_decided_by(self, gallery_id: str, decided_by: DecidedBy) -> Future[Gallery]:
        """Sets what decides in the active generation, kept and never acted on. The gallery's own τ, which was for
        what decided before, is cleared. Nothing happens where it is this already. GalleryNotFound, RulesConflict
        ("margin" is for distances). The result is the gallery as it is then."""

    def set_quality(self, gallery_id: str, quality: str | None) -> Future[Gallery]:
        """Sets the name of the active generation's quality policy, kept as it is and never looked into; None: none.
        GalleryNotFound. The result is the gallery as it is then."""

    def set_least_gap(self, gallery_id: str, least_gap: float) -> Future[Gallery]:
        """Sets the active generation's least gap between scores, finite and >= 0, kept as it is and never acted on.
        GalleryNotFound. The result is the gallery as it is then."""

    def set_approximation(self, gallery_id: str, approximation: Approximation | None) -> Future[Gallery]:
        """What the gallery's answers may lose from now on; None: nothing, they are exact. Until an index for it is
        built, in the background, they are, too. GalleryNotFound, EngineUnsupported. The result is the gallery as it is
        then; nothing happens to what is enrolled."""

    def approximation_state(self, gallery_id: str) -> ApproximationState | None:
        """How its answers come about; None where they may lose nothing. Quick: no search is waited for.
        GalleryNotFound, StoreClosed."""

    def set_doubt(self, gallery_id: str, doubt: str | None) -> Future[Gallery]:
        """Sets what is done about doubtful enrollments in the active generation, kept as it is and never looked into;
        None: nothing. GalleryNotFound. The result is the gallery as it is then."""

    def set_keep_crops(self, gallery_id: str, keep: bool) -> Future[Gallery]:
        """Whether crops that come with encodings from now on are kept. If not, all that there are get deleted, in the
        same step; of a gallery that moves to another encoder, those of the one that waits, too. GalleryNotFound,
        GalleryWaits for the one that waits. The result is the gallery as it is then."""

    def enroll(
        self,
        gallery_id: str,
        subject_id: str,
        encodings: Vectors,
        *,
        encoder_digest: str | None = None,
        labels: Mapping[str, str] | None = None,
        on_existing: OnExisting = "add",
        request_id: str | None = None,
        request_digest: bytes = b"",
        caller: Hashable = None,
        patient: bool = False,
        doubting: Doubting | None = None,
        retention: Retention | None = None,
        notes: Sequence[Note] | None = None,
        others: Mapping[str, Vectors] | None = None,
        crops: Sequence[bytes] | None = None,
        filling: Filling | None = None,
    ) -> Future[Enrolled]:
        """Enrolls a subject by encodings float32 [n, D], n >= 1, made by encoder `encoder_digest` (None: not
        checked): all of them, or none.

        Where the subject exists: "add" adds the encodings to its own, "replace" puts them in their place, "fail"
        raises SubjectExists. Labels None keep those there are; others replace them all. The array may be changed once
        the call returns. Encoding ids rise with each encoding and are never used twice.

        A request id is remembered for a while, through restarts. One that was answered before gets the same answer,
        marked `replayed`, and nothing is written; RequestConflict if its digest (whatever identifies the request's
        content) is another; SubjectNotFound if its subject was deleted since: the retry doesn't bring it back. A
        request that failed isn't remembered.

        `notes`, one for each encoding, are kept with the encodings. EncodingKeyExists for a key that an encoding of the
        subject has, or another of these.

        `retention` is kept with the subject, in place of what was; None leaves that as it is.

        `others` are the same examples by other encoders, float32 [n, D'] by digest: for the gallery that waits, and in
        case that gallery answers under this id by now. In a gallery that waits, labels and retention are those that the
        subject has in the other one; SubjectNotMoving for one that isn't there.

        `crops`, one for each encoding, b"" for none, are what is kept of their pictures, where the gallery keeps that:
        never looked into, encrypted as labels are, in no answer but that of list_left_crops, and deleted with the
        encoding. At most MAX_CROP_BYTES each, and of one subject 4 MiB together: what is beyond isn't kept.

        `filling`: the encodings were made of crops, of these encodings in the gallery that answers, for the one that
        waits. SubjectChanged where these, their crops, or what the subject has there, aren't so any more.

        `caller` is whoever asks for it: enrollments of several take turns. With `patient` it is never refused for
        a full queue: whoever calls bounds how many of these wait.

        With `doubting` the answer tells the nearest other subject, of all that are enrolled before this, and what is
        doubtful; or it is refused for that. Distances are those of single encodings, whatever the rule of fusion. Of
        equally near subjects any may be named.

        GalleryNotFound, EncoderMismatch, DimensionMismatch, EncodingInvalid, SubjectExists, RequestConflict,
        LimitExceeded("max_encodings_per_subject"), LikeAnother, UnlikeOwn, NeighbourGone, IndexOutOfStep,
        DeviceLost.
        """

    def enroll_many(
        self,
        gallery_id: str,
        subjects: Sequence[NewEncodings],
        *,
        encoder_digest: str | None = None,
        caller: Hashable = None,
        patient: bool = False,
    ) -> Future[list[Enrolled | Exception]]:
        """As enroll() for each, in their order, and cheaper: what came of each, or what it would have raised. Done when
        all are durable. The future itself fails for what concerns all: WriteQueueFull, StoreClosed. A τ that follows
        the gallery is made anew once, after all."""

    def delete_encoding(
        self, gallery_id: str, subject_id: str, encoding_id: str | None = None, *, key: str | None = None
    ) -> Future[Deleted]:
        """Deletes the encoding of this id, or those of this key; the last one takes the subject with it.
        GalleryNotFound, SubjectNotFound, EncodingNotFound."""

    def delete_subject(self, gallery_id: str, subject_id: str, *, among: SubjectFilter = EVERYBODY) -> Future[Deleted]:
        """Deletes a subject with all its encodings and negatives. GalleryNotFound, SubjectNotFound, also where the
        filter `among` doesn't let it through at that moment."""

    def rename_subject(self, gallery_id: str, subject_id: str, new_id: str) -> Future[Gallery]:
        """Gives a subject another id; the former one is free. Nothing happens where it has this one already. The result
        is the gallery as it is then. GalleryNotFound, SubjectNotFound, SubjectExists."""

    def update_labels(
        self,
        gallery_id: str,
        subject_id: str,
        labels: Mapping[str, str],
        *,
        removed: Collection[str] = (),
        clear: bool = False,
    ) -> Future[Gallery]:
        """Sets these labels, and takes those away that are `removed`, or (`clear`) all that aren't set. Nothing happens
        where they are so already. The result is the gallery as it is then. GalleryNotFound, SubjectNotFound,
        LimitExceeded("max_labels_per_subject")."""

    def merge_subjects(self, gallery_id: str, subject_id: str, into_id: str) -> Future[Moved]:
        """Makes two subjects one: all encodings and negatives of the first go to the second, and the first is gone. The
        second keeps its id, its time of creation and its retention. Of labels of the same key its own stay; others come
        to it. Negatives that both have become one.

        Encodings get new ids, which rise with each; their notes and times stay. The remembered answer to a request that
        enrolled any of these tells the subject and the encodings as they are called now, here and below.

        GalleryNotFound, SubjectNotFound, SameSubject, LimitExceeded("max_encodings_per_subject",
        "max_negatives_per_subject", "max_labels_per_subject"), NegativeOfTheOther (an encoding of one is a negative of
        the other).
        """

    def move_encodings(
        self, gallery_id: str, subject_id: str, to_id: str, *, encoding_id: str | None = None, key: str | None = None
    ) -> Future[Moved]:
        """The encoding of this id, or those of this key, go to another subject that is there; the last one takes its
        subject with it, whose labels and negatives are deleted then. GalleryNotFound, SubjectNotFound,
        EncodingNotFound, SameSubject, LimitExceeded("max_encodings_per_subject"), NegativeOfTheOther."""

    def set_retention(self, gallery_id: str, subject_id: str, retention: Retention) -> Future[Gallery]:
        """How long a subject may be kept, and why; the result is the gallery as it is then. GalleryNotFound,
        SubjectNotFound."""

    def expired(self, now: float, most: int = 1000, after: tuple[float, int] | None = None) -> list[Expired]:
        """Subjects of all galleries whose time is over at `now`, those that have waited longest first; `after` the one
        with this time and number. The store deletes them by and by."""

    def add_negative(
        self,
        gallery_id: str,
        subject_id: str,
        encoding: Vectors,
        *,
        encoder_digest: str | None = None,
        others: Mapping[str, Vectors] | None = None,
    ) -> Future[AddedNegative]:
        """Adds a negative, float32 [D], to a subject: it stays until it or the subject is deleted. One that is there
        already is not added again. `others`: as in enroll().

        GalleryNotFound, SubjectNotFound, EncoderMismatch, DimensionMismatch, EncodingInvalid,
        NegativeEnrolled (it is at distance 0 from an encoding of the subject),
        LimitExceeded("max_negatives_per_subject").
        """

    def delete_negative(self, gallery_id: str, subject_id: str, negative_id: str) -> Future[Gallery]:
        """Deletes one negative; the result is the gallery as it is then. GalleryNotFound, SubjectNotFound,
        NegativeNotFound."""

    # To another encoder.

    def start_move(
        self,
        gallery_id: str,
        successor_id: str,
        *,
        encoder_digest: str,
        dimension: int,
        decided_by: DecidedBy = "distance",
        compare_share: float = 0.0,
    ) -> Future[Gallery]:
        """Makes the empty gallery that is to take another one's place, with its settings but for τ and the least gap,
        and for encodings of another encoder. It waits, and the other one answers, until cut_over().

        It is filled by enroll() and the like, and answers searches under its own id. The subjects of the one that waits
        are renamed, relabelled, merged, moved and kept longer by doing so to the other one's: GalleryWaits. To delete
        the one that answers deletes both; to delete the one that waits ends the move. `compare_share` is kept and never
        acted on. The result is the new gallery. GalleryNotFound, GalleryExists, MoveConflict (it moves already, or
        has that encoder).
        """

    def move_state(self, gallery_id: str) -> MoveState:
        """Of either gallery. GalleryNotFound, MoveNotFound."""

    def list_left(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> LeftPage:
        """The subjects that are left to be moved, of either gallery; pages as list_galleries. GalleryNotFound,
        MoveNotFound."""

    def list_left_crops(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> LeftCropsPage:
        """Of either gallery, the subjects that can be moved by the crops that the one that answers keeps; pages as
        list_galleries, but one of few, or none, may be followed by others. GalleryNotFound, MoveNotFound."""

    def cut_over(self, gallery_id: str, *, leave: bool = False) -> Future[Gallery]:
        """The two galleries get each other's id, in one step: whoever asks `gallery_id` is answered by the successor,
        and the origin waits. From then on what is done to the successor is done to the origin. The result is the
        successor. GalleryNotFound, MoveNotFound, MoveConflict (it is cut over, or this is the one that waits),
        MoveIncomplete where subjects are left, unless they are to be left, IndexOutOfStep while the index that is to
        answer is rebuilt."""

    def roll_back(self, gallery_id: str, *, leave: bool = False) -> Future[Gallery]:
        """The origin answers again, as it would if nothing had been cut over. As cut_over()."""

    def end_move(self, gallery_id: str, *, keep: bool = False) -> Future[Gallery]:
        """Ends a move: the gallery that waits is deleted, or kept as one that has nothing to do with the other. The
        result is the gallery that answers. GalleryNotFound, MoveNotFound, MoveConflict (this is the one that waits)."""

    def list_pairs(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> PairedPage:
        """Of the subjects that both galleries of a move have, those encodings that are of the same example: enrolled in
        both at once, or with the same key. Subjects with mapped encodings have none. Of either gallery; pages as
        list_galleries. GalleryNotFound, MoveNotFound."""

    def fill_by_map(
        self, gallery_id: str, made: EncodingMap, loss: MapLoss, *, most: int = 64, after: str | None = None
    ) -> Future[MappedStep]:
        """Enrolls the next `most` subjects whose ids come after `after` that are left to be moved, into the gallery
        that waits, with encodings that `made` makes of those they have; and those anew whom an earlier map made. `loss`
        is kept, and told with each answer (Found.mapped).

        All encodings of a subject are mapped, or none: whoever enrolls true ones removes the mapped ones with it, and
        where a subject with mapped ones becomes one with another, or gives one away, true ones alone stay. Subjects
        that had mapped encodings before the move began are left. GalleryNotFound, MoveNotFound, MoveConflict (it is cut
        over, this is the one that waits, or the map is one between other encoders), IndexOutOfStep.
        """

    # Reading.

    def get_gallery(self, gallery_id: str) -> Gallery:
        """The gallery as it is now. Raises GalleryNotFound."""

    def known(self, gallery_id: str) -> Gallery:
        """The gallery from memory: quick, for every request. Its settings, generation and threshold are those of the
        last write that is done; its revision and sizes may be older. Raises GalleryNotFound, StoreClosed."""

    def list_galleries(self, *, page_size: int = 100, after: str | None = None) -> GalleryPage:
        """The first `page_size` galleries, in order of id (by code point), whose ids come after `after`.

        Paging holds while others write: what is there all the time comes exactly once, what comes or goes meanwhile
        at most once. A page is bounded in bytes, too: it may end before `page_size`, but holds at least one.
        """

    def list_thresholds(self, gallery_id: str, *, page_size: int = 100, after: int | None = None) -> ThresholdPage:
        """Thresholds that the active generation has had, the newest first: the first `page_size` of those that came
        before version `after`; pages as list_galleries. Raises GalleryNotFound."""

    def get_subject(self, gallery_id: str, subject_id: str) -> Subject:
        """Raises GalleryNotFound, SubjectNotFound."""

    def list_subjects(
        self, gallery_id: str, *, page_size: int = 100, after: str | None = None, among: SubjectFilter = EVERYBODY
    ) -> SubjectPage:
        """The first `page_size` subjects whose ids come after `after`, and whom the filter lets through; pages as
        list_galleries, but one of few, or none, may be followed by others. GalleryNotFound."""

    def subject_ids(self, gallery_id: str, among: SubjectFilter = EVERYBODY) -> list[str]:
        """The ids of all subjects that the filter lets through, at one revision, in order. GalleryNotFound,
        IndexOutOfStep."""

    def count_label(self, gallery_id: str, label: str, among: SubjectFilter = EVERYBODY) -> LabelCounts:
        """How many of the subjects that the filter lets through have which value of a label. GalleryNotFound,
        IndexOutOfStep."""

    def list_likenesses(self, gallery_id: str, *, page_size: int = 100, after: str | None = None) -> LikenessPage:
        """The vectors of the first `page_size` subjects whose ids come after `after`; pages as list_galleries.
        GalleryNotFound."""

    def replay(self, gallery_id: str, subject_id: str, request_id: str, request_digest: bytes) -> Enrolled | None:
        """The answer that this enroll request was given before, so that its image needn't be encoded again; else None.

        Raises GalleryNotFound, RequestConflict, SubjectNotFound for an id whose subject was deleted since, whatever the
        request is.
        """

    # Moving.

    def export_step(self, gallery_id: str, known: KnownSubjects, max_bytes: int) -> ExportStep:
        """What of a gallery isn't elsewhere yet, at one revision, where `known` is: with the subjects themselves, if
        their encodings have at most `max_bytes`. GalleryNotFound, GalleryUnfinished."""

    def export_subjects(
        self, gallery_id: str, uid: str, numbers: Sequence[int], max_bytes: int
    ) -> tuple[list[MovedSubject], int]:
        """The subjects of the first of these numbers, without those that are gone, and how many numbers that were:
        about `max_bytes`, a single larger one alone. GalleryNotFound, also where it is another gallery than `uid`."""

    def begin_import(self, gallery_id: str, gallery: Gallery, digest: str) -> Future[Gallery]:
        """Makes an unfinished gallery with the settings, times and sizes of `gallery`, or goes on with the one that an
        import of this digest began: the result's `subjects` came already. Until finish_import() it is found by
        get_gallery(), list_galleries() and delete_gallery() alone; all else raises GalleryUnfinished. GalleryExists,
        ImportConflict, GenerationUnsupported, RulesConflict."""

    def import_subjects(self, gallery_id: str, digest: str, done: int, subjects: Sequence[MovedSubject]) -> Future[int]:
        """The next subjects, in the order of their numbers, after `done` others; those of encodings count from 0 over
        the whole gallery. All of them, or none. How many subjects came by then. GalleryNotFound, GalleryExists,
        ImportConflict, ImportRefused, LimitExceeded (encodings or negatives of a subject)."""

    def import_thresholds(self, gallery_id: str, digest: str, versions: Sequence[ThresholdVersion]) -> Future[None]:
        """Versions of the threshold, the oldest first. Errors as of import_subjects()."""

    def finish_import(self, gallery_id: str, digest: str) -> Future[Gallery]:
        """The gallery answers, as the other one did: at the same revision, with the same thresholds, distances and
        order of equal ones. Encodings and negatives have new ids. ImportRefused where not all came; else as
        import_subjects()."""

    # Searching.

    def search_many(self, gallery_id: str, searches: Sequence[Search]) -> list[Found | GalleryError]:
        """Answers several callers' questions, the i-th by the i-th, each as if it had been asked alone; all of them
        from one revision of the gallery.

        A match is a subject with a score <= `within`. A store whose answer says `exact` gives the subjects that are
        nearest, ordered by distance, equal ones by the number of their nearest encoding, oldest first, or where the
        rule of fusion has templates, by which subject was enrolled first. Any other may miss subjects, and by "nearest"
        the nearest encoding of one that it tells, but states true distances of what it tells in ascending order. By
        "margin" scores depend on the other subjects that are there: to enroll or delete one changes the scores of
        others. Candidates that have a nearer negative are additional: of the others there are as many as asked for, if
        there are so many. Negatives are those of the revision, or of a later one. What asks `singly` may be answered
        from another revision than the rest.

        A question that cannot be answered gets its own error in place of an answer: EncoderMismatch, FusionChanged,
        DimensionMismatch, EncodingInvalid, LimitExceeded("max_candidates"), OutOfMemory. What concerns them all is
        raised: GalleryNotFound, StoreClosed, DeviceLost, OutOfMemory, IndexOutOfStep (it will pass).
        """

    def verify(
        self,
        gallery_id: str,
        subject_id: str,
        probes: Vectors,
        *,
        encoder_digest: str | None = None,
        fusion: str | None = None,
        head: PairHead | None = None,
        by_probability: bool = False,
    ) -> Found:
        """How far each probe float32 [q, D] is from one subject: one candidate per probe, by the gallery's rule of
        fusion, which must be `fusion` (None: not checked); `head` and `by_probability` as in Search.

        Always exact, negatives included. By "margin" the others are those of the revision it states, or of a later one.
        Raises GalleryNotFound, SubjectNotFound, EncoderMismatch, FusionChanged, DimensionMismatch, EncodingInvalid, and
        by "margin" IndexOutOfStep.
        """
