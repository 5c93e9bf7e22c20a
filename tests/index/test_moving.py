"""A gallery is taken out of one store while it changes, and brought into another one, where it answers alike."""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oneglance_index import (
    GalleryExists,
    GalleryNotFound,
    GalleryUnfinished,
    ImportConflict,
    ImportRefused,
    KnownSubjects,
    LocalGalleries,
    MovedSubject,
    Note,
    Retention,
)
from tests.index import asking
from tests.index.moving import SUBJECTS, bring, check_alike, ranked, take, vectors


@pytest.fixture(params=["nearest", "mean"])
def source(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path / "a") as opened:
        opened.create_gallery("other", encoder_digest="e", dimension=8).result()
        opened.create_gallery(
            "g", encoder_digest="e", dimension=8, fusion=request.param, target_fpir=0.01, quality="strict", doubt="flag"
        ).result()
        same = vectors()
        for number in range(SUBJECTS):
            opened.enroll("g", f"s{number:02}", vectors(2), labels={"né": f"ü{number}"}).result()
            opened.enroll("other", "x", vectors()).result()  # so that numbers have gaps
        for number in (9, 3, 7, 3):  # equally near, oldest first: whatever their subjects' order
            opened.enroll("g", f"s{number:02}", same, notes=[Note(f"k{random.random()}", "a.png")]).result()
        opened.add_negative("g", "s05", vectors()[0]).result()
        opened.set_retention("g", "s06", Retention(time.time() + 1e6, "a door", "form 7")).result()
        opened.set_threshold("g", 0.5, '{"a": 1}').result()
        opened.set_threshold("g", 0.7).result()
        yield opened


@pytest.fixture
def target(tmp_path: Path) -> Iterator[LocalGalleries]:
    with LocalGalleries.open(tmp_path / "b") as opened:
        opened.create_gallery("there", encoder_digest="e", dimension=8).result()
        opened.enroll("there", "y", vectors(3)).result()
        yield opened


def test_a_gallery_that_was_moved_answers_alike(source: LocalGalleries, target: LocalGalleries, tmp_path: Path) -> None:
    bring(target, take(source))
    check_alike(source, target)
    for galleries, name in ((source, "other"), (target, "there")):  # and so do both go on
        galleries.enroll("g", "s03", np.ones((1, 8), np.float32)).result()
        assert galleries.delete_subject("g", "s04").result().subject_deleted
        galleries.enroll(name, "z", vectors()).result()
    target.close()
    with LocalGalleries.open(tmp_path / "b") as again:
        probe = vectors()
        told = [
            [(c.subject_id, c.distance) for c in asking.nearest(one, "g", probe, SUBJECTS).candidates[0]]
            for one in (source, again)
        ]
        assert told[0] == told[1]


def test_what_changes_during_an_export_is_as_at_its_end(source: LocalGalleries, target: LocalGalleries) -> None:
    def changes() -> Iterator[object]:
        yield source.delete_subject("g", "s00").result()
        yield source.enroll("g", "s01", vectors()).result()
        yield source.update_labels("g", "s02", {"new": "1"}).result()
        yield source.enroll("g", "new", vectors()).result()
        yield source.add_negative("g", "s01", vectors()[0]).result()
        yield source.delete_negative("g", "s05", source.get_subject("g", "s05").negatives[0].id).result()
        yield source.rename_subject("g", "s08", "renamed").result()
        yield source.merge_subjects("g", "s10", "s11").result()
        yield source.set_threshold("g", 0.9).result()
        yield source.delete_subject("g", "s39").result()

    meanwhile = changes()
    taken = take(source, meanwhile)
    assert next(meanwhile, None) is None
    assert "s00" not in {one.id for one in taken[1]}
    assert taken[0].revision == source.get_gallery("g").revision
    bring(target, taken)
    check_alike(source, target)


def test_an_unfinished_gallery_answers_nobody_and_goes_on_after_a_restart(
    source: LocalGalleries, target: LocalGalleries, tmp_path: Path
) -> None:
    gallery, subjects, thresholds = take(source)
    listed = ranked(subjects)
    target.begin_import("g", gallery, "d").result()
    assert target.import_subjects("g", "d", 0, listed[:7]).result() == 7
    target.close()
    with LocalGalleries.open(tmp_path / "b") as again:
        assert again.get_gallery("g").unfinished
        assert again.get_gallery("g").subjects == 7
        asks: list[Callable[[], object]] = [
            lambda: asking.nearest(again, "g", vectors(), 1),
            lambda: again.verify("g", "s00", vectors()),
            lambda: again.get_subject("g", "s00"),
            lambda: again.list_subjects("g"),
            lambda: again.count_label("g", ""),
            lambda: again.export_step("g", KnownSubjects.none(), 1),
            lambda: again.enroll("g", "n", vectors()).result(),
            lambda: again.delete_subject("g", "s00").result(),
            lambda: again.set_threshold("g", 1.0).result(),
            lambda: again.set_target_fpir("g", 0.5).result(),
            lambda: again.set_fusion("g", "margin").result(),
            lambda: again.set_doubt("g", "off").result(),
            lambda: again.update_labels("g", "s00", {}).result(),
            lambda: again.set_retention("g", "s00", Retention()).result(),
        ]
        for ask in asks:
            with pytest.raises(GalleryUnfinished, match="being imported"):
                ask()
        with pytest.raises(ImportConflict):
            again.begin_import("g", gallery, "another").result()
        with pytest.raises(ImportRefused):
            again.finish_import("g", "d").result()
        assert again.import_subjects("g", "d", 0, listed[:7]).result() == 7  # retried
        with pytest.raises(ImportConflict):
            again.import_subjects("g", "d", 9, listed[9:12]).result()
        bring(again, (gallery, subjects, thresholds))
        check_alike(source, again)
        for again_begun in ("d", "another"):
            with pytest.raises(GalleryExists):
                again.begin_import("g", gallery, again_begun).result()


def test_an_unfinished_gallery_can_be_deleted(source: LocalGalleries, target: LocalGalleries) -> None:
    taken = take(source)
    target.begin_import("g", taken[0], "d").result()
    target.import_subjects("g", "d", 0, ranked(taken[1])[:5]).result()
    target.delete_gallery("g").result()
    with pytest.raises(GalleryNotFound):
        target.import_subjects("g", "d", 5, ranked(taken[1])[5:9]).result()
    bring(target, taken)
    check_alike(source, target)


def test_what_cant_be_imported_is_refused_whole(source: LocalGalleries, target: LocalGalleries) -> None:
    gallery, subjects, _ = take(source)
    listed = ranked(subjects)
    first = listed[0]
    target.begin_import("g", gallery, "d").result()
    target.import_subjects("g", "d", 0, listed[:3]).result()
    encoding = listed[3].encodings[0]

    def with_encoding(**changes: object) -> MovedSubject:
        return replace(listed[3], encodings=(replace(encoding, **changes), *listed[3].encodings[1:]))  # type: ignore[arg-type]

    for bad, field in (
        (replace(listed[3], id=first.id), "subjects.id"),
        (with_encoding(number=first.encodings[0].number), "subjects.encodings.number"),
        (with_encoding(number=-1), "subjects[1].encodings[0].number"),
        (with_encoding(number=10_000), "subjects[1].encodings[0].number"),
        (with_encoding(vector=np.full(8, np.nan, np.float32)), "subjects[1].encodings[0].values"),
        (with_encoding(vector=np.zeros(8, np.float32)), "subjects[1].encodings[0].values"),
        (with_encoding(vector=np.ones(7, np.float32)), "subjects[1].encodings[0].values"),
        (replace(listed[3], encodings=()), "subjects[1].encodings"),
    ):
        with pytest.raises(ImportRefused) as caught:
            target.import_subjects("g", "d", 3, [listed[4], bad]).result()
        assert caught.value.field == field
        assert target.get_gallery("g").subjects == 3
    with pytest.raises(ImportRefused):
        target.import_subjects("g", "d", 3, [*listed[3:], replace(first, id="more")]).result()
