"""Subjects that are managed: renamed, relabelled, merged, filtered, counted, deleted by filter, on a real server."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, OneglanceError, keyed, subject_filter
from oneglance_server.app import Server
from tests.pictures import picture, png
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS


def pictures(*seeds: int) -> list[bytes]:
    return [png(picture(seed)) for seed in seeds]


def reason(ask: Callable[[], object]) -> str:
    with pytest.raises(OneglanceError) as refused:
        ask()
    return refused.value.reason


def who(client: Client, gallery: str, seed: int, **how: object) -> str:
    """Whom a probe is identified as, at distance 0 or not at all."""
    (result,) = client.identify(gallery, png(picture(seed)), tau=0.0, **how).results  # type: ignore[arg-type]
    return result.subject_id


def test_a_subject_is_renamed(client: Client, gallery: str) -> None:
    first = client.enroll(gallery, "tmp-17", *pictures(1), labels={"a": "b"}, request_id="form-1")
    client.enroll(gallery, "another", *pictures(2))
    before = client.get_subject(gallery, "tmp-17")
    client.rename_subject(gallery, "tmp-17", "Ada")
    after = client.get_subject(gallery, "Ada")
    assert (after.labels, after.encodings, after.create_time) == (before.labels, before.encodings, before.create_time)
    assert who(client, gallery, 1) == "Ada"
    assert client.verify(gallery, "Ada", png(picture(1))).same
    assert reason(lambda: client.get_subject(gallery, "tmp-17")) == "SUBJECT_NOT_FOUND"
    assert reason(lambda: client.rename_subject(gallery, "tmp-17", "Ada")) == "SUBJECT_NOT_FOUND"
    assert reason(lambda: client.rename_subject(gallery, "Ada", "another")) == "SUBJECT_EXISTS"
    # A retry of the request that enrolled it doesn't bring the former id back.
    again = client.enroll(gallery, "tmp-17", *pictures(1), labels={"a": "b"}, request_id="form-1")
    assert (again.replayed, again.subject_id, again.encoding_ids) == (True, "Ada", first.encoding_ids)
    revision = client.get_gallery(gallery).revision
    assert client.rename_subject(gallery, "Ada", "Ada").gallery_revision == revision
    client.enroll(gallery, "tmp-17", *pictures(3))  # the id is free
    assert {one.id for one in client.list_subjects(gallery)} == {"Ada", "another", "tmp-17"}


def test_labels_change_without_a_photo(client: Client, gallery: str) -> None:
    client.enroll(gallery, "ada", *pictures(1), labels={"site": "berlin", "role": "guest"})
    client.update_labels(gallery, "ada", {"site": "paris", "team": "x"}, remove=["role", "nothing"])
    assert client.get_subject(gallery, "ada").labels == {"site": "paris", "team": "x"}
    revision = client.get_gallery(gallery).revision
    assert client.update_labels(gallery, "ada", {"site": "paris"}).gallery_revision == revision
    client.update_labels(gallery, "ada", {"only": "this"}, clear=True)
    assert client.get_subject(gallery, "ada").labels == {"only": "this"}
    client.update_labels(gallery, "ada", {str(i): "𝄞" * 1000 for i in range(64)}, clear=True)  # as many as there may be
    client.update_labels(gallery, "ada", {"only": "this"}, clear=True)
    many = {str(i): "" for i in range(64)}
    assert reason(lambda: client.update_labels(gallery, "ada", many)) == "LIMIT_EXCEEDED"
    assert reason(lambda: client.update_labels(gallery, "ada", {"a": ""}, remove=["a"])) == "INVALID_REQUEST"
    assert reason(lambda: client.update_labels(gallery, "nobody", {"a": ""})) == "SUBJECT_NOT_FOUND"
    assert client.get_subject(gallery, "ada").labels == {"only": "this"}


@pytest.mark.parametrize("fusion", ["nearest", "mean", "margin"])
def test_two_become_one(client: Client, gallery: str, fusion: str) -> None:
    client.set_fusion(gallery, fusion)  # type: ignore[arg-type]
    client.enroll(
        gallery, "j.doe", keyed(png(picture(1)), "front", "1.png"), labels={"a": "1", "b": "2"}, request_id="r"
    )
    client.enroll(gallery, "jane", *pictures(2), labels={"b": "3"})
    client.add_negative(gallery, "j.doe", png(picture(7)))
    merged = client.merge_subjects(gallery, "j.doe", "jane")
    jane = client.get_subject(gallery, "jane")
    assert jane.labels == {"a": "1", "b": "3"}
    (new,) = merged.encoding_ids.values()
    assert [one.id for one in jane.encodings][1:] == [new]
    assert (jane.encodings[1].key, jane.encodings[1].source, len(jane.negatives)) == ("front", "1.png", 1)
    counted = client.get_gallery(gallery)
    assert (counted.subject_count, counted.encoding_count, counted.negative_count) == (1, 2, 1)
    assert counted.revision == merged.gallery_revision
    found = client.identify(gallery, png(picture(1)), png(picture(7)), tau=0.1)
    assert [one.subject_id for one in found.results[0].candidates] == ["jane"]
    assert found.results[1].candidates[0].HasField("negative")
    again = client.enroll(
        *(gallery, "j.doe", keyed(png(picture(1)), "front", "1.png")), labels={"a": "1", "b": "2"}, request_id="r"
    )
    assert (again.replayed, again.subject_id, list(again.encoding_ids)) == (True, "jane", [new])
    assert reason(lambda: client.merge_subjects(gallery, "j.doe", "jane")) == "SUBJECT_NOT_FOUND"


def test_a_merge_that_would_break_a_limit_changes_nothing(client: Client, gallery: str) -> None:
    client.enroll(gallery, "a", *pictures(1), labels={str(i): "" for i in range(40)})
    client.enroll(gallery, "b", *pictures(2), labels={str(i): "" for i in range(30, 65)})
    before = [*client.list_subjects(gallery)]
    with pytest.raises(OneglanceError) as refused:
        client.merge_subjects(gallery, "a", "b")
    assert refused.value.metadata["limit"] == "max_labels_per_subject"
    assert [*client.list_subjects(gallery)] == before
    client.add_negative(gallery, "b", png(picture(1)))
    client.update_labels(gallery, "a", clear=True)
    for ask in (
        lambda: client.merge_subjects(gallery, "a", "b"),
        lambda: client.merge_subjects(gallery, "b", "a"),
        lambda: client.move_encoding(gallery, "a", client.get_subject(gallery, "a").encodings[0].id, "b"),
    ):
        with pytest.raises(OneglanceError) as refused:
            ask()
        assert (refused.value.reason, refused.value.metadata["subject_id"]) == ("NEGATIVE_ENROLLED", "b")
    client.delete_negative(gallery, "b", client.get_subject(gallery, "b").negatives[0].id)
    client.merge_subjects(gallery, "a", "b")
    assert len(client.get_subject(gallery, "b").encodings) == 2


def test_an_encoding_moves(client: Client, gallery: str) -> None:
    client.set_fusion(gallery, "nearest")
    ids = client.enroll(gallery, "a", *pictures(1, 2)).encoding_ids
    client.enroll(gallery, "b", *pictures(3))
    assert who(client, gallery, 2) == "a"
    moved = client.move_encoding(gallery, "a", ids[1], "b")
    assert (who(client, gallery, 2), moved.subject_deleted) == ("b", False)
    assert moved.encoding_ids.keys() == {ids[1]}
    assert reason(lambda: client.move_encoding(gallery, "a", ids[1], "b")) == "ENCODING_NOT_FOUND"
    assert reason(lambda: client.move_encoding(gallery, "a", ids[0], "nobody")) == "SUBJECT_NOT_FOUND"
    assert client.move_encoding(gallery, "a", ids[0], "b").subject_deleted
    assert {one.id: len(one.encodings) for one in client.list_subjects(gallery)} == {"b": 3}


def test_encodings_have_keys_of_their_owners(client: Client, gallery: str) -> None:
    client.set_fusion(gallery, "nearest")
    client.enroll(gallery, "a", keyed(png(picture(1)), "front", "a/1.png"), keyed(png(picture(2)), "side"))
    told = [(one.key, one.source) for one in client.get_subject(gallery, "a").encodings]
    assert told == [("front", "a/1.png"), ("side", "")]
    assert reason(lambda: client.enroll(gallery, "a", keyed(png(picture(3)), "side"))) == "ENCODING_KEY_EXISTS"
    client.enroll(gallery, "a", keyed(png(picture(3)), "side"), on_existing="replace")
    assert [one.key for one in client.get_subject(gallery, "a").encodings] == ["side"]
    client.enroll(gallery, "b", *pictures(4))
    client.move_encoding(gallery, "a", "", "b", encoding_key="side")
    assert [one.key for one in client.get_subject(gallery, "b").encodings] == ["", "side"]
    assert reason(lambda: client.delete_encoding(gallery, "b", encoding_key="front")) == "ENCODING_NOT_FOUND"
    client.delete_encoding(gallery, "b", encoding_key="side")
    assert (who(client, gallery, 3), who(client, gallery, 4)) == ("", "b")


def test_lists_and_answers_are_filtered(client: Client, gallery: str) -> None:
    for i in range(6):
        labels = {"site": "berlin" if i % 2 else "paris"} | ({"vip": ""} if i == 3 else {})
        client.enroll(gallery, f"{'ab'[i // 3]}-{i}", *pictures(i), labels=labels)
    berlin, b = subject_filter({"site": "berlin"}), subject_filter(id_prefix="b-")

    def listed(filter: object) -> list[str]:
        return [one.id for one in client.list_subjects(gallery, filter)]  # type: ignore[arg-type]

    assert listed(berlin) == ["a-1", "b-3", "b-5"]
    assert listed(b) == ["b-3", "b-4", "b-5"]
    assert listed(subject_filter({"site": "berlin", "vip": ""}, "b")) == ["b-3"]
    assert listed(subject_filter({"vip": "no"})) == listed(subject_filter(id_prefix="b-33")) == []
    answer = client.identify(gallery, png(picture(0)), filter=berlin, with_labels=True, max_candidates=9, tau=0.0)
    (result,) = answer.results
    assert ({one.subject_id for one in result.candidates}, result.subject_id) == ({"a-1", "b-3", "b-5"}, "")
    assert {one.labels["site"] for one in result.candidates} == {"berlin"}
    assert (answer.provenance.gallery_size, answer.provenance.filtered_size) == (6, 3)
    assert answer.provenance.exact
    everybody = client.identify(gallery, png(picture(0)), tau=0.0)
    assert not everybody.provenance.HasField("filtered_size")
    assert not everybody.results[0].candidates[0].labels
    assert who(client, gallery, 3, filter=b) == who(client, gallery, 3) == "b-3"
    counts = client.count_subjects(gallery, "site", b)
    assert [(one.value, one.subjects) for one in counts.values] == [("berlin", 2), ("paris", 1)]
    assert (counts.subjects, counts.without) == (3, 0)
    counts = client.count_subjects(gallery, "vip")
    assert ([(one.value, one.subjects) for one in counts.values], counts.without) == ([("", 1)], 5)
    assert client.count_subjects(gallery).subjects == 6


def test_many_are_deleted_by_a_filter(client: Client, gallery: str) -> None:
    for i in range(7):
        client.enroll(gallery, f"s{i}", *pictures(i), labels={"visit": "monday" if i < 5 else "tuesday"})
    monday = subject_filter({"visit": "monday"})
    assert client.delete_subjects(gallery, monday, dry_run=True).remaining == 5
    assert client.get_gallery(gallery).subject_count == 7
    some = client.delete_subjects(gallery, monday, max_subjects=3)
    assert ([one.subject_id for one in some.deleted], some.remaining) == (["s0", "s1", "s2"], 2)
    assert all(one.receipt and one.encodings == 1 for one in some.deleted)
    rest = client.delete_subjects(gallery, monday)
    assert ([one.subject_id for one in rest.deleted], rest.remaining) == (["s3", "s4"], 0)
    assert client.delete_subjects(gallery, monday).deleted == []
    assert {one.id for one in client.list_subjects(gallery)} == {"s5", "s6"}


def test_all_of_it_is_there_after_a_restart(models: tuple[Path, Path], tmp_path: Path) -> None:
    def serve() -> object:
        return server_thread(data_dir=tmp_path, models=models)

    with serve() as server, Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:  # type: ignore[attr-defined]
        client.create_gallery("g", encoder="pixels", fusion="nearest")
        for i in range(4):
            client.enroll("g", f"s{i}", keyed(png(picture(i)), f"k{i}"), labels={"n": str(i)})
        client.merge_subjects("g", "s0", "s1")
        client.rename_subject("g", "s2", "zoë")
        client.update_labels("g", "s3", {"n": "x"})
        before = [*client.list_subjects("g")]
    with serve() as server, Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:  # type: ignore[attr-defined]
        assert [*client.list_subjects("g")] == before
        assert [one.id for one in before] == ["s1", "s3", "zoë"]
        assert [who(client, "g", i) for i in range(4)] == ["s1", "s1", "zoë", "s3"]
        assert [one.id for one in client.list_subjects("g", subject_filter({"n": "x"}))] == ["s3"]
        assert who(client, "g", 3, filter=subject_filter({"n": "x"})) == "s3"
        assert who(client, "g", 3, filter=subject_filter({"n": "2"})) == ""


def test_a_filtered_answer_is_that_of_those_who_pass(server: Server, client: Client, gallery: str) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((60, 64)).astype(np.float32)
    digest = client.get_gallery(gallery).encoder_digest
    from oneglance import encoding

    for i, vector in enumerate(vectors):
        client.enroll(gallery, f"s{i:02}", encoding(vector, digest), labels={"third": str(i % 3)})
    probe = rng.standard_normal(64).astype(np.float32)
    distances = ((vectors.astype(np.float64) - probe) ** 2).sum(axis=1)
    for third in "012":
        found = client.identify(
            gallery, encoding(probe, digest), filter=subject_filter({"third": third}), max_candidates=60
        )
        expected = sorted((i for i in range(60) if i % 3 == int(third)), key=lambda i: distances[i])
        assert [one.subject_id for one in found.results[0].candidates] == [f"s{i:02}" for i in expected]


@pytest.mark.parametrize("prefix", ["a" + " " * 1000, "a\n", "a\u2028", "   ", "a" * 129])
def test_a_beginning_that_no_name_has_is_refused(client: Client, gallery: str, prefix: str) -> None:
    assert reason(lambda: list(client.list_subjects(gallery, subject_filter(id_prefix=prefix)))) == "ID_INVALID"


def test_a_beginning_may_end_in_a_space(client: Client, gallery: str) -> None:
    client.enroll(gallery, "Ada Lovelace", *pictures(1))
    client.enroll(gallery, "Adam", *pictures(2))
    found = [one.id for one in client.list_subjects(gallery, subject_filter(id_prefix="Ada "))]
    assert found == ["Ada Lovelace"]


def test_a_retry_knows_where_an_encoding_went_however_often(client: Client, gallery: str) -> None:
    for number, name in enumerate("abc"):
        client.enroll(gallery, name, picture(number))
    first = client.enroll(gallery, "a", picture(7), request_id="twice")
    (once,) = client.move_encoding(gallery, "a", first.encoding_ids[0], "b").encoding_ids.values()
    again = client.enroll(gallery, "a", picture(7), request_id="twice")
    assert (again.replayed, again.subject_id, list(again.encoding_ids)) == (True, "b", [once])
    (twice,) = client.move_encoding(gallery, "b", once, "c").encoding_ids.values()
    again = client.enroll(gallery, "a", picture(7), request_id="twice")
    assert (again.replayed, again.subject_id, list(again.encoding_ids)) == (True, "c", [twice])
    client.delete_encoding(gallery, "c", twice)
    assert client.enroll(gallery, "a", picture(7), request_id="twice").replayed
