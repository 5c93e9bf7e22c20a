"""Ids that an earlier version took: composed when the store is opened, and never two made one."""

import sqlite3
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from oneglance_apps.cli.main import main
from oneglance_index import LocalGalleries, SubjectExists, check_directory, same_names_in
from oneglance_index.store import schema
from oneglance_index.store.ledger import Ledger, seal_store, update_gallery
from oneglance_index.store.queries import all_galleries, find_subject
from oneglance_index.store.seals import SUBJECTS
from tests.index import asking

VECTORS = np.eye(4, dtype=np.float32)
JOSE, OTHER = "Jos\u00e9", "Jose\u0301"  # NFC, NFD
# Neither is composed, and both have one composed form.
HANGUL = ("\u1100\u1161\u11a8", "\uac00\u11a8")


def as_version_7(data_dir: Path, names: dict[str, str], gallery: str | None = None) -> None:
    """Gives subjects, and the gallery, other ids, as an earlier version would have taken them."""
    master = bytes.fromhex((data_dir / "master.key").read_text())
    db = schema.connect_writer(data_dir / "store.sqlite3", lambda make: [master])
    db.execute("BEGIN IMMEDIATE")
    (stored,) = all_galleries(db)
    if gallery is not None:
        update_gallery(db, stored.gallery_row, id=gallery)
    ledger = Ledger(db, stored.place)
    for former, name in names.items():
        subject = find_subject(db, stored.place.number, former)
        assert subject is not None
        ledger.update(SUBJECTS, subject, id=name)
    ledger.close()
    seal_store(db)
    for table in ("crops", "mapped", "maps"):  # of a later version
        db.execute(f"DROP TABLE {table}")
    db.execute("PRAGMA user_version = 7")
    db.execute("COMMIT")
    db.close()
    db.keys.close()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with LocalGalleries.open(tmp_path) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=4).result()
        for i, name in enumerate("abcd"):
            galleries.enroll("g", name, VECTORS[i : i + 1], labels={"n": name}).result()
    return tmp_path


def test_an_id_is_composed_where_no_other_is_called_so(old: Path) -> None:
    as_version_7(old, {"a": OTHER}, gallery="cafe\u0301")
    assert same_names_in(old / "store.sqlite3") == []
    with LocalGalleries.open(old) as galleries:
        assert [one.id for one in galleries.list_galleries().galleries] == ["caf\u00e9"]
        assert [one.id for one in galleries.list_subjects("cafe\u0301").subjects] == [JOSE, "b", "c", "d"]
        for gallery in ("caf\u00e9", "cafe\u0301"):
            for name in (JOSE, OTHER):
                assert galleries.get_subject(gallery, name).labels == {"n": "a"}
                assert not galleries.enroll(gallery, name, VECTORS[:1]).result().created
        found = asking.nearest(galleries, "cafe\u0301", VECTORS[:1], 1).candidates[0]
        assert found[0].subject_id == JOSE
    assert list(check_directory(old, "")) == []


def test_two_of_one_name_stay_two_and_are_listed(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_version_7(old, {"a": JOSE, "b": OTHER, "c": HANGUL[0], "d": HANGUL[1]})
    with LocalGalleries.open(old) as galleries:
        for name, label in ((JOSE, "a"), (OTHER, "b"), (HANGUL[0], "c"), (HANGUL[1], "d")):
            subject = galleries.get_subject("g", name)
            assert (subject.id, subject.labels) == (name, {"n": label})
        # A spelling that neither has is the composed one: nobody's, of the last two.
        composed = unicodedata.normalize("NFC", HANGUL[0])
        assert galleries.enroll("g", composed, VECTORS[:1]).result().created
        galleries.delete_subject("g", composed).result()
        galleries.rename_subject("g", OTHER, OTHER + " of Lima").result()
        assert isinstance(galleries.rename_subject("g", OTHER + " of Lima", JOSE).exception(), SubjectExists)
    assert len(same_names_in(old / "store.sqlite3")) == 1
    assert main(["check", str(old)]) == 0
    told = capsys.readouterr().out
    assert "'\\u1100\\u1161\\u11a8', '\\uac00\\u11a8'" in told
    assert "all is there" in told
    with LocalGalleries.open(old) as galleries:
        galleries.merge_subjects("g", *HANGUL).result()
        assert [one.id for one in galleries.list_subjects("g").subjects][:2] == [JOSE, "Jos\u00e9 of Lima"]
    assert same_names_in(old / "store.sqlite3") == []


def test_what_was_read_by_version_7_is_that_version_again_until_it_is_opened(old: Path) -> None:
    as_version_7(old, {"a": OTHER})
    with sqlite3.connect(old / "store.sqlite3") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (7,)
    db.close()
    assert list(check_directory(old, "")) == []
