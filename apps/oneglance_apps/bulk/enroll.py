"""Enroll the photos of a listing, each by a call of its own, several at a time."""

import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeVar

from oneglance.client.errors import (
    AlreadyExistsError,
    DeadlineExceededError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OneglanceError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
)
from oneglance.client.requests import DoubtPolicy, OnExisting, keyed
from oneglance.client.sync_client import Client
from oneglance.v1.common_pb2 import Example
from oneglance.v1.subject_pb2 import EnrollResponse
from oneglance_apps.bulk.listing import Listing, Photo
from oneglance_apps.error_words import why, with_names
from oneglance_apps.side_by_side import side_by_side
from oneglance_apps.text import breach, doubt
from oneglance_core.printable import printable

T = TypeVar("T")

OnKnown = Literal["skip", "add", "replace", "fail"]
Outcome = Literal["enrolled", "planned", "skipped", "refused", "failed"]
PAUSE_SECONDS = 0.5  # before the next try, when no server answered
MAX_SOURCE_CHARACTERS = 1000
BEFORE = "enrolled before"


@dataclass(frozen=True)
class Result:
    """What became of a photo.

    outcome: ``enrolled``; ``planned``, in a dry run; ``skipped``: its content is enrolled as that subject; ``refused``
        by the server; ``failed``: it can't be read, or no answer came in time.
    why: of a photo that is not enrolled. reason: the server's, as docs/errors.md lists them. notes: what is doubtful.
    """

    photo: Photo
    outcome: Outcome
    why: str = ""
    reason: str = ""
    encoding_id: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnrollOptions:
    """Of a run. patience_seconds: how long a server that does not answer is waited for."""

    gallery_id: str
    on_existing: OnKnown
    labels: Mapping[str, Mapping[str, str]]
    accept_breaches: bool
    doubt_policy: DoubtPolicy
    dry_run: bool
    patience_seconds: float


class FolderEnrollment:
    """``make_example``: of a photo and its bytes."""

    def __init__(self, client: Client, options: EnrollOptions, make_example: Callable[[Photo, bytes], Example]) -> None:
        self._client, self._options, self._make_example = client, options, make_example
        self._first: dict[tuple[str, str], Photo] = {}
        self._enrolled: dict[str, Mapping[str, str]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()

    def results(self, listing: Listing, at_once: int) -> Iterator[Result]:
        """Of every photo, as they come.

        Raises OneglanceError for what concerns all photos (no server, no such gallery, no right). What had an answer
        until then stays enrolled.
        """
        subjects = listing.by_subject()
        if self._options.on_existing in ("skip", "add"):
            tasks = [[photo] for photos in subjects.values() for photo in photos]
        else:  # the first that is enrolled decides about what there is, the others are added to it
            tasks = list(subjects.values())
        try:
            for results in side_by_side(self._enroll_in_turn, tasks, at_once):
                yield from results
        finally:
            self._stopped.set()

    def _enroll_in_turn(self, photos: list[Photo]) -> list[Result]:
        """Photos of one subject."""
        first = self._options.on_existing
        on_existing: OnExisting = "add" if first == "skip" else first
        results = []
        for photo in photos:
            if self._stopped.is_set():
                break
            results.append(self._enroll(photo, on_existing))
            if results[-1].outcome in ("enrolled", "planned"):
                on_existing = "add"
        return results

    def _enroll(self, photo: Photo, on_existing: OnExisting) -> Result:
        try:
            content = photo.path.read_bytes()
        except OSError as error:
            return Result(photo, "failed", f"can't be read: {error.strerror}")
        digest = hashlib.sha256(content).hexdigest()
        if known := self._known(photo, digest):
            return known
        if self._options.dry_run:
            return self._planned(photo, on_existing)
        try:
            answer = self._send(photo, content, digest, on_existing)
        except OneglanceError as error:
            return _refused(photo, error)
        (encoding_id,) = answer.encoding_ids
        notes = [*map(breach, answer.breaches), *(with_names(doubt(one), ["it"]) for one in answer.doubts)]
        return Result(photo, "enrolled", encoding_id=encoding_id, notes=tuple(notes))

    def _known(self, photo: Photo, digest: str) -> Result | None:
        """Skipped, where its content is enrolled as its subject, or was in this folder before."""
        if self._options.on_existing == "add":
            return None
        with self._lock:
            first = self._first.setdefault((photo.subject, digest), photo)
        if first is not photo:
            return Result(photo, "skipped", f"the same content as {first.name}")
        if self._options.on_existing != "skip":
            return None
        encoding_id = self._encodings_of(photo.subject).get(key_of(digest))
        return Result(photo, "skipped", BEFORE, encoding_id=encoding_id) if encoding_id else None

    def _planned(self, photo: Photo, on_existing: OnExisting) -> Result:
        if on_existing == "fail" and self._encodings_of(photo.subject):
            return Result(photo, "refused", "the subject is enrolled", "SUBJECT_EXISTS")
        return Result(photo, "planned")

    def _encodings_of(self, subject: str) -> Mapping[str, str]:
        """Ids by key; none for a caller who may not see them, to whom the server says so when the photo is sent."""
        if subject not in self._enrolled:
            try:
                asked = self._options.gallery_id, subject
                found = self._patiently(lambda: self._client.get_subject(*asked), DeadlineExceededError)
                self._label(subject, found.labels)
                known = () if found.mapped else found.encodings  # the photos are to take the place of mapped ones
                self._enrolled[subject] = {one.key or one.id: one.id for one in known}
            except (NotFoundError, InvalidArgumentError, PermissionDeniedError):
                self._enrolled[subject] = {}
        return self._enrolled[subject]

    def _label(self, subject: str, present: Mapping[str, str]) -> None:
        """Who is enrolled already gets the labels that are new."""
        wanted = self._options.labels.get(subject, {})
        new = {key: value for key, value in wanted.items() if present.get(key) != value}
        if new and not self._options.dry_run:
            self._patiently(lambda: self._client.update_labels(self._options.gallery_id, subject, new))

    def _send(self, photo: Photo, content: bytes, digest: str, on_existing: OnExisting) -> EnrollResponse:
        key = "" if self._options.on_existing == "add" else key_of(digest)
        example = keyed(self._make_example(photo, content), key, printable(photo.name)[:MAX_SOURCE_CHARACTERS])
        request_id = f"bulk-enroll-{uuid.uuid4()}"  # makes it safe to send it again
        return self._patiently(
            lambda: self._client.enroll(
                self._options.gallery_id,
                photo.subject,
                example,
                labels=self._options.labels.get(photo.subject),
                on_existing=on_existing,
                request_id=request_id,
                accept_breaches=self._options.accept_breaches,
                doubt_policy=self._options.doubt_policy,
            )
        )

    def _patiently(self, call: Callable[[], T], *more: type[OneglanceError]) -> T:
        """Again and again where no server answers: one that is started again, say; or with `more` errors."""
        until: float | None = None
        passing: tuple[type[OneglanceError], ...] = (UnavailableError, *more)
        while True:
            try:
                return call()
            except passing:
                until = until or time.monotonic() + self._options.patience_seconds
                if time.monotonic() >= until or self._stopped.wait(PAUSE_SECONDS):
                    raise


def key_of(digest: str) -> str:
    """What an encoding is called that was made of a file with this SHA-256, hexadecimal."""
    return f"sha256:{digest}"


def _refused(photo: Photo, error: OneglanceError) -> Result:
    """The result of a photo that was refused. Raises ``error`` where it concerns all photos."""
    if error.reason == "ENCODING_KEY_EXISTS":
        return Result(photo, "skipped", BEFORE)
    if isinstance(error, (DeadlineExceededError, InternalError)):
        return Result(photo, "failed", f"{error.message}: run it again", error.reason)
    if not _concerns_one_photo(error):
        raise error
    return Result(photo, "refused", why(error, ["the photo"]).removeprefix("the photo: "), error.reason)


def _concerns_one_photo(error: OneglanceError) -> bool:
    if isinstance(error, InvalidArgumentError):
        return all(field != "gallery_id" for field, _ in error.field_violations)
    if isinstance(error, FailedPreconditionError):
        return error.reason in ("UNLIKE_OWN", "LIMIT_EXCEEDED")
    if isinstance(error, ResourceExhaustedError):
        return not error.reason  # larger than a message may be
    return isinstance(error, AlreadyExistsError)
