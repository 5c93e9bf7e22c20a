"""Of many subjects to be deleted some can't be: who was deleted is told, with the receipts."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

from oneglance_index import Deleted, GalleryError, StoreFull, SubjectFilter, SubjectNotFound
from oneglance_server.calls import Call, Caller
from oneglance_server.service.subjects import DeletedSubjects, SubjectService
from tests.waiting import PATIENCE_SECONDS

AMONG = SubjectFilter(id_prefix="s")


class SomeFail:
    """A store in which the deletion of some subjects fails."""

    def __init__(self, failing: dict[str, GalleryError]) -> None:
        self._failing = failing
        self._gone: set[str] = set()

    def known(self, gallery_id: str) -> SimpleNamespace:
        return SimpleNamespace(move=None, revision=7)

    def subject_ids(self, gallery_id: str, among: SubjectFilter) -> list[str]:
        return [one for one in ("s1", "s2", "s3") if one not in self._gone]

    def delete_subject(self, gallery_id: str, subject_id: str, *, among: SubjectFilter) -> "Future[Deleted]":
        done: Future[Deleted] = Future()
        if subject_id in self._failing:
            done.set_exception(self._failing[subject_id])
        else:
            self._gone.add(subject_id)
            done.set_result(Deleted(1, True, 7, f"receipt of {subject_id}"))
        return done


class Here:
    async def run(self, call: Call, work: Callable[..., Any], *args: Any) -> Any:
        return work(*args)


def delete(failing: dict[str, GalleryError]) -> DeletedSubjects:
    service = SubjectService(SomeFail(failing), Here(), None)  # type: ignore[arg-type]  # what it needs of them
    work = service.delete_many(Call(Caller("test")), "g", AMONG, 0, False)
    return asyncio.run(asyncio.wait_for(work, PATIENCE_SECONDS))


def test_receipts_of_those_who_were_deleted_are_told(tmp_path: Any) -> None:
    done = delete({"s2": StoreFull(tmp_path)})
    assert {name: one.receipt for name, one in done.deleted.items()} == {"s1": "receipt of s1", "s3": "receipt of s3"}
    assert (done.remaining, done.revision) == (1, 7)


def test_where_nobody_could_be_deleted_the_error_is_told(tmp_path: Any) -> None:
    with pytest.raises(StoreFull):
        delete({name: StoreFull(tmp_path) for name in ("s1", "s2", "s3")})


def test_who_was_deleted_by_others_is_no_error() -> None:
    assert delete({name: SubjectNotFound("g", name) for name in ("s1", "s2", "s3")}).deleted == {}
