"""Galleries that one process keeps and others use: all are answered alike, and none decides by what is over."""

from __future__ import annotations

import inspect
import json
import threading
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pytest

from oneglance_core.mapping import EncodingMap
from oneglance_index import (
    Doubt,
    DoubtKind,
    EngineUnavailable,
    EngineUnsupported,
    GalleryError,
    GalleryNotFound,
    GalleryStore,
    HoldsMapped,
    KnownSubjects,
    MapLoss,
    StoreClosed,
    SubjectExists,
    SubjectNotFound,
    export_trail,
)
from oneglance_server.sharing import messages, remote
from oneglance_server.sharing.addresses import check_keeper
from oneglance_server.sharing.remote import RemoteGalleries, open_remote
from tests.acting import acting_as
from tests.index import asking
from tests.index.holding import Hold
from tests.server.sharing import Kept, kept
from tests.waiting import PATIENCE_SECONDS, until

VECTORS = np.eye(8, dtype=np.float32)
Users = tuple[GalleryStore, GalleryStore]


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Kept]:
    keeper = Kept(tmp_path)
    yield keeper
    keeper.close()


@pytest.fixture
def users(keeper: Kept) -> Iterator[Users]:
    one, other = open_remote(keeper.keeping), open_remote(keeper.keeping)
    one.create_gallery("g", encoder_digest="e", dimension=8).result()
    yield one, other
    one.close()
    other.close()


def test_what_one_is_told_is_done_the_other_finds(users: Users) -> None:
    one, other = users
    for i in range(8):
        (one, other)[i % 2].enroll("g", f"s{i}", VECTORS[i : i + 1]).result()
        found = asking.nearest((other, one)[i % 2], "g", VECTORS[i : i + 1], 1)
        assert [c.subject_id for c in found.candidates[0]] == [f"s{i}"]
    one.delete_subject("g", "s7").result()
    assert {c.subject_id for c in asking.nearest(other, "g", VECTORS[7:8], 8).candidates[0]} == {
        f"s{i}" for i in range(7)
    }
    with pytest.raises(SubjectNotFound):
        other.delete_subject("g", "s7").result()


def test_of_those_who_enroll_the_same_subject_at_once_one_is_first(users: Users) -> None:
    for i in range(40):
        written = [user.enroll("g", f"s{i}", VECTORS[:1], on_existing="fail") for user in users]
        outcomes = [type(future.exception()) for future in written]
        assert sorted(map(str, outcomes)) == sorted(map(str, [type(None), SubjectExists]))
    assert [user.get_gallery("g").subjects for user in users] == [40, 40]


def test_writes_of_one_are_carried_out_in_the_order_of_its_calls(users: Users) -> None:
    one, other = users
    written = [one.enroll("g", "s", VECTORS[i % 8 : i % 8 + 1], on_existing="replace") for i in range(200)]
    assert [future.result().revision for future in written] == list(range(1, 201))
    assert asking.nearest(other, "g", VECTORS[199 % 8 : 199 % 8 + 1], 1).candidates[0][0].distance == 0


class Deaf:
    """One that doesn't hear what the keeper says, as long as it is so."""

    def __init__(self, user: GalleryStore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.begun, self.over = threading.Event(), threading.Event()
        deaf = cast(RemoteGalleries, user)._session
        assert deaf is not None
        hear = remote._Session.hear

        def held(session: remote._Session, told: messages.Told) -> None:
            if session is deaf:
                self.begun.set()
                assert self.over.wait(PATIENCE_SECONDS)
            hear(session, told)

        monkeypatch.setattr(remote._Session, "hear", held)


def test_a_setting_is_done_once_all_who_decide_by_it_know_it(
    keeper: Kept, users: Users, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = users
    deaf = Deaf(other, monkeypatch)
    changed = one.set_threshold("g", 0.25)
    until(deaf.begun.is_set)
    assert keeper.store.get_gallery("g").active.threshold == 0.25  # it is committed
    assert not changed.done()
    deaf.over.set()
    assert changed.result().active.threshold == 0.25
    assert [user.known("g").active.threshold for user in users] == [0.25, 0.25]


def test_one_that_does_not_hear_holds_nobody_up_for_long_and_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept(tmp_path, 2, seconds=0.5) as (_, (one, other)):
        one.create_gallery("g", encoder_digest="e", dimension=8).result()
        deaf = Deaf(other, monkeypatch)
        assert one.set_threshold("g", 0.25).result().active.threshold == 0.25
        assert deaf.begun.is_set()
        with pytest.raises(EngineUnavailable):
            other.known("g")
        assert other.trouble()
        deaf.over.set()
        until(lambda: other.trouble() is None)  # it begins anew
        assert other.known("g").active.threshold == 0.25


def test_all_settings_and_names_are_known_to_all(users: Users) -> None:
    one, other = users
    made = one.create_gallery("h", encoder_digest="e", dimension=4, fusion="mean").result()
    assert replace(other.known("h"), revision=0) == made
    other.set_quality("h", "{}").result()
    one.set_fusion("h", "nearest").result()
    one.set_target_fpir("h", 0.01).result()
    known = other.known("h")
    assert (known.active.quality, known.active.fusion, known.target_fpir) == ("{}", "nearest", 0.01)
    one.start_move("h", "h2", encoder_digest="f", dimension=4).result()
    assert [other.known(name).active.encoder_digest for name in ("h", "h2")] == ["e", "f"]
    other.cut_over("h").result()
    assert [one.known(name).active.encoder_digest for name in ("h", "h2")] == ["f", "e"]
    other.delete_gallery("h").result()
    for user in users:
        for name in ("h", "h2"):
            with pytest.raises(GalleryNotFound):
                user.known(name)


def test_a_map_goes_to_the_keeper_and_what_it_made_is_told_to_all(users: Users) -> None:
    one, other = users
    for i in range(3):
        one.enroll("g", f"s{i}", VECTORS[i : i + 1]).result()
    one.start_move("g", "g2", encoder_digest="f", dimension=4).result()
    others = {"f": VECTORS[3:4, :4]}
    one.enroll("g", "s2", VECTORS[3:4], encoder_digest="e", on_existing="replace", others=others).result()
    (pair,) = other.list_pairs("g2").subjects
    assert (pair.subject_id, pair.old.tolist(), pair.new.tolist()) == (
        "s2",
        VECTORS[3:4].tolist(),
        VECTORS[3:4, :4].tolist(),
    )
    made = EncodingMap("ridge", 1.0, np.eye(8, 4), np.zeros(4), unit_norm=False)
    loss = MapLoss("ridge", "e", "f", "digest", 100, 200, 50, 80, 8, 2, 1, 0, 0.5)
    step = other.fill_by_map("g", made, loss, most=1).result()
    assert (step.mapped, step.refused, step.next_after) == (1, 0, "s0")
    assert other.fill_by_map("g", made, loss, after=step.next_after).result().mapped == 1
    for user in users:
        known = user.known("g2").mapped
        assert known is not None
        assert (known.subjects, known.loss) == (2, loss)
        found = asking.nearest(user, "g2", VECTORS[:1, :4], 3, encoder_digest="f")
        assert [(near.subject_id, near.mapped) for near in found.candidates[0]] == [
            ("s0", True),
            ("s2", False),
            ("s1", True),
        ], "of equally near ones the one that was enrolled first"
        assert found.mapped == known
        assert user.verify("g2", "s1", VECTORS[:1, :4]).candidates[0][0].mapped
    with pytest.raises(HoldsMapped, match="2 subjects"):
        other.export_step("g2", KnownSubjects.none(), 1 << 20)
    for i in range(2):
        one.enroll("g2", f"s{i}", VECTORS[i : i + 1, :4]).result()
    assert [user.known("g2").mapped for user in users] == [None, None]


def test_while_the_keeper_is_away_all_say_so_and_then_go_on(tmp_path: Path) -> None:
    keeper = Kept(tmp_path)
    user = open_remote(keeper.keeping)
    user.create_gallery("g", encoder_digest="e", dimension=8).result()
    user.enroll("g", "s", VECTORS[:1]).result()
    keeper.close()
    until(user.trouble)
    for call in (lambda: user.known("g"), lambda: user.get_gallery("g"), lambda: asking.nearest(user, "g", VECTORS, 1)):
        with pytest.raises(EngineUnavailable, match=r"keeper\.socket"):
            call()
    assert isinstance(user.enroll("g", "t", VECTORS[:1]).exception(), EngineUnavailable)
    keeper = Kept(tmp_path)
    until(lambda: user.trouble() is None)
    assert user.known("g").id == "g"
    assert asking.nearest(user, "g", VECTORS[:1], 1).candidates[0][0].subject_id == "s"
    user.close()
    with pytest.raises(StoreClosed):
        user.known("g")
    keeper.close()


def test_what_is_under_way_as_the_keeper_goes_ends(tmp_path: Path) -> None:
    keeper = Kept(tmp_path)
    user = open_remote(keeper.keeping)
    user.create_gallery("g", encoder_digest="e", dimension=8).result()
    hold = Hold(keeper.store)
    enrolled: Future[Any] = user.enroll("g", "s", VECTORS[:1])
    until(lambda: keeper.store.queued_writes() == 1)
    keeper._run(keeper._server.stop(0))
    assert isinstance(enrolled.exception(), EngineUnavailable)
    hold.end.set()
    user.close()
    keeper.close()


def test_what_was_cancelled_in_time_never_happens(keeper: Kept, users: Users) -> None:
    one, other = users
    hold = Hold(keeper.store)
    enrolled = one.enroll("g", "s", VECTORS[:1])
    until(lambda: keeper.store.queued_writes() == 1)
    enrolled.cancel()
    with pytest.raises(CancelledError):
        enrolled.result()
    hold.end.set()
    one.enroll("g", "t", VECTORS[:1]).result()
    assert other.subject_ids("g") == ["t"]


def test_who_acts_is_in_the_audit_trail(keeper: Kept, users: Users, tmp_path: Path) -> None:
    with acting_as("anna"):
        users[0].enroll("g", "s", VECTORS[:1]).result()
    entries = [json.loads(line) for line in export_trail(keeper.store.data_dir)]
    assert [(one["who"], one["did"]) for one in entries if one.get("subject") == "s"] == [("anna", "enroll")]


def test_backups_are_made_where_the_galleries_are_kept(users: Users, tmp_path: Path) -> None:
    with pytest.raises(EngineUnsupported, match="backups"):
        users[0].back_up(tmp_path / "b", lambda: False)


def test_another_version_is_refused(keeper: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "code", lambda: "another")
    with pytest.raises(EngineUnavailable, match="another version"):
        open_remote(keeper.keeping, patience_seconds=1.0)


@pytest.mark.parametrize("address", ["keeper:1", "keeper://:1", "keeper://a", "keeper+unix:x", "milvus://a:1", "a:1"])
def test_what_is_no_address_of_a_keeper_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="expected keeper://"):
        check_keeper(address)


def all_errors(kind: type[GalleryError] = GalleryError) -> Iterator[type[GalleryError]]:
    yield kind
    for one in kind.__subclasses__():
        yield from all_errors(one)


def own_error(kind: type[GalleryError]) -> GalleryError:
    """One of this class, with something of each kind that its fields are of."""
    own: dict[str, Any] = {
        "str": "a word",
        "int": 3,
        "float": 0.25,
        "Path": Path("/a/path"),
        "tuple[int, ...]": (2, 3),
        "tuple[str, ...]": ("a",),
        "Sequence[Doubt]": [Doubt(doubted, 1, "other", 0.2, 0.3) for doubted in get_args(DoubtKind)],
    }
    if "__init__" not in vars(kind) and kind is GalleryError:
        return kind("a word")
    wanted = {name: text for name, text in inspect.get_annotations(kind.__init__).items() if name != "return"}
    if "gravest" in wanted:
        doubts = own["Sequence[Doubt]"]
        return kind("g", "s", "a word", doubts[0], doubts)
    return kind(*[own[text] for text in wanted.values()])


@pytest.mark.parametrize("kind", list(all_errors()), ids=lambda kind: kind.__name__)
def test_errors_keep_their_fields_on_the_way(kind: type[GalleryError]) -> None:
    error = own_error(kind)
    fault = (
        messages.read_told(
            messages.encoded(
                messages.Told(
                    [], {}, 0, [messages.Answer(1, messages.raw(None), messages.fault_of(error))], None, False, []
                )
            )
        )
        .answers[0]
        .fault
    )
    assert fault is not None
    again = messages.error_of(fault)
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
