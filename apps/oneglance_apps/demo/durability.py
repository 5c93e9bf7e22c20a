"""Kill the server (SIGKILL) while clients enroll, restart it, and count what it kept."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from time import monotonic, sleep

from oneglance import Client, OneglanceError
from oneglance_apps.demo.errors import DemoError
from oneglance_apps.demo.pictures import Picture
from oneglance_apps.demo.timed_calls import GALLERY, Progress
from oneglance_apps.server_process import ServerProcess

WRITERS = 4
_WAIT_SECONDS = 30.0  # without another acknowledgement
_SAME_PICTURE = 1e-4  # squared L2: the same picture, encoded twice
_BATCH = 100


@dataclass(frozen=True)
class Durability:
    """What the server kept when it was killed while ``writers`` clients enrolled.

    acknowledged, found: enrollments answered OK before the kill, and how many of them are listed after the restart.
    searchable: how many of them a search with their own picture finds.
    unanswered, unanswered_kept: enrollments without an answer, and how many of them were kept (both is correct).
    earlier, earlier_found: subjects enrolled before, and how many of them are listed after the restart.
    deleted_gone: no subject whose deletion was acknowledged is listed.
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
        """Acknowledged enrollments that are missing in the list or in the index."""
        return self.acknowledged - min(self.found, self.searchable) + self.earlier - self.earlier_found

    @property
    def kept_all(self) -> bool:
        return self.lost == 0 and self.deleted_gone


@dataclass
class _WriteLog:
    """What the writers did: subject ids that they enrolled, and those answered OK."""

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
                client.enroll(GALLERY, subject_id, picture.example(), accept_breaches=True)
            except OneglanceError:
                return
            self.acknowledged.append(subject_id)


def kill_while_enrolling(
    server: ServerProcess, pictures: Sequence[Picture], deleted: Sequence[str], at_least: int, progress: Progress
) -> Durability:
    """Enroll ``pictures`` with several clients, SIGKILL ``server`` after ``at_least`` acknowledgements, restart, count.

    The server must accept ``pictures``. deleted: ids of subjects deleted before. Raises DemoError when no enrollment is
    acknowledged for 30 seconds before there are ``at_least``: a slow machine may take as long as it needs.
    """
    with server.client() as client:
        earlier = {subject.id for subject in client.list_subjects(GALLERY)}
        written = _write_until_killed(server, client, pictures, at_least, progress)
    restart_seconds = server.start()
    with server.client() as client:
        gallery = client.get_gallery(GALLERY)
        there = {subject.id for subject in client.list_subjects(GALLERY)}
        acknowledged = set(written.acknowledged)
        searchable = _searchable(client, {name: written.asked[name] for name in written.acknowledged})
    unanswered = set(written.asked) - acknowledged
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
) -> _WriteLog:
    written = _WriteLog(pictures)
    stop = threading.Event()
    threads = [threading.Thread(target=written.write, args=(client, stop), daemon=True) for _ in range(WRITERS)]
    last, deadline = 0, monotonic() + _WAIT_SECONDS
    try:
        for thread in threads:
            thread.start()
        while len(written.acknowledged) < at_least and any(thread.is_alive() for thread in threads):
            done = len(written.acknowledged)
            if done > last:
                last, deadline = done, monotonic() + _WAIT_SECONDS
            elif monotonic() > deadline:
                break
            progress(done, at_least)
            sleep(0.005)
        server.kill()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if len(written.acknowledged) < at_least:
        raise DemoError(f"only {len(written.acknowledged)} of {at_least} enrollments were acknowledged before the kill")
    return written


def _searchable(client: Client, enrolled: dict[str, Picture]) -> int:
    """How many of ``enrolled`` a search with their own picture finds."""
    names = list(enrolled)
    found = 0
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        probes = [enrolled[name].example() for name in batch]
        answer = client.identify(GALLERY, *probes, tau=_SAME_PICTURE, all_matches=True, max_candidates=1)
        for name, result in zip(batch, answer.results, strict=True):
            found += any(match.subject_id == name for match in result.matches)
    return found
