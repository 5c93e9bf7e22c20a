"""kill -9 in the middle of writing, and what is there after the restart."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from time import monotonic, sleep

from oneglance import Client, OneglanceError
from oneglance_apps.demo.calls import GALLERY, Progress
from oneglance_apps.demo.errors import DemoError
from oneglance_apps.demo.pictures import Picture
from oneglance_apps.demo.process import ServerProcess

WRITERS = 4
_WAIT_SECONDS = 30.0
_SAME_PICTURE = 1e-4  # squared L2: the same picture, encoded twice
_BATCH = 100


@dataclass(frozen=True)
class Durability:
    """What a hard kill among ``writers`` concurrent writers left.

    acknowledged, found: enrollments answered OK before the kill, and those of them listed after the restart.
    searchable: those of them that the index finds by their own picture.
    unanswered, unanswered_kept: enrollments cut off by the kill (either outcome is right), and those that were kept.
    earlier, earlier_found: subjects enrolled, and not deleted, before the writers began.
    deleted_gone: no subject whose deletion was acknowledged came back.
    """

    writers: int
    acknowledged: int
    found: int
    searchable: int
    unanswered: int
    unanswered_kept: int
    earlier: int
    earlier_found: int
    deleted_gone: bool
    revision: int
    restart_seconds: float

    @property
    def lost(self) -> int:
        """Acknowledged enrollments that are not there, in the list or in the index."""
        return self.acknowledged - min(self.found, self.searchable) + self.earlier - self.earlier_found

    @property
    def kept_all(self) -> bool:
        return self.lost == 0 and self.deleted_gone


@dataclass
class _Diary:
    """What the writers know: ids asked for, and those answered OK."""

    pictures: Sequence[Picture]
    numbers: "count[int]" = field(default_factory=lambda: count(1))
    asked: dict[str, Picture] = field(default_factory=dict)
    acknowledged: list[str] = field(default_factory=list)

    def write(self, client: Client, stop: threading.Event) -> None:
        while not stop.is_set():
            number = next(self.numbers)
            subject_id, picture = f"late-{number:05d}", self.pictures[number % len(self.pictures)]
            self.asked[subject_id] = picture
            try:
                client.enroll(GALLERY, subject_id, picture.read())
            except OneglanceError:
                return
            self.acknowledged.append(subject_id)


def kill_while_enrolling(
    server: ServerProcess, pictures: Sequence[Picture], deleted: Sequence[str], at_least: int, progress: Progress
) -> Durability:
    """Let writers enroll ``pictures``, SIGKILL ``server`` after ``at_least`` acknowledgements, start it again, look.

    ``pictures`` must be ones that the server takes. Raises DemoError when the writers get nowhere.
    """
    with server.client() as client:
        earlier = {subject.id for subject in client.list_subjects(GALLERY)}
        diary = _write_until_killed(server, client, pictures, at_least, progress)
    restart_seconds = server.start()
    with server.client() as client:
        gallery = client.get_gallery(GALLERY)
        there = {subject.id for subject in client.list_subjects(GALLERY)}
        acknowledged = set(diary.acknowledged)
        searchable = _searchable(client, {name: diary.asked[name] for name in diary.acknowledged})
    unanswered = set(diary.asked) - acknowledged
    return Durability(
        writers=WRITERS,
        acknowledged=len(acknowledged),
        found=len(acknowledged & there),
        searchable=searchable,
        unanswered=len(unanswered),
        unanswered_kept=len(unanswered & there),
        earlier=len(earlier),
        earlier_found=len(earlier & there),
        deleted_gone=there.isdisjoint(deleted),
        revision=gallery.revision,
        restart_seconds=restart_seconds,
    )


def _write_until_killed(
    server: ServerProcess, client: Client, pictures: Sequence[Picture], at_least: int, progress: Progress
) -> _Diary:
    diary = _Diary(pictures)
    stop = threading.Event()
    threads = [threading.Thread(target=diary.write, args=(client, stop), daemon=True) for _ in range(WRITERS)]
    deadline = monotonic() + _WAIT_SECONDS
    try:
        for thread in threads:
            thread.start()
        while len(diary.acknowledged) < at_least and any(thread.is_alive() for thread in threads):
            if monotonic() > deadline:
                break
            progress(len(diary.acknowledged), at_least)
            sleep(0.005)
        server.kill()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if len(diary.acknowledged) < at_least:
        raise DemoError(f"only {len(diary.acknowledged)} of {at_least} enrollments were acknowledged before the kill")
    return diary


def _searchable(client: Client, enrolled: dict[str, Picture]) -> int:
    """How many of ``enrolled`` are among the subjects that their own picture matches."""
    names = list(enrolled)
    found = 0
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        probes = [enrolled[name].read() for name in batch]
        answer = client.identify(GALLERY, *probes, tau=_SAME_PICTURE, all_matches=True, max_candidates=1)
        for name, result in zip(batch, answer.results, strict=True):
            found += any(match.subject_id == name for match in result.matches)
    return found
