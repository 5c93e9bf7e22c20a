"""A gallery moves between encoders of different dimensions on a real server, while it is asked, enrolled in and deleted
from: no answer is wrong, before, during and after each cut-over and roll-back."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from oneglance import (
    Client,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    PermissionDeniedError,
    encoding,
)
from oneglance.v1.common_pb2 import SubjectFilter
from oneglance.v1.succession_pb2 import LiveComparison
from oneglance_core.manifests import InputSpec
from oneglance_index import EncoderMismatch, LikenessPage
from oneglance_server.app import Server
from oneglance_server.service.retrying import though_cut_over
from tests.models import SIDE, pixels_model, values_model
from tests.pictures import picture, png
from tests.running import measured, server_thread
from tests.server.access.callers import ADMIN, grant, key_of
from tests.waiting import PATIENCE_SECONDS, until

SUBJECTS = 6
SWAPS = 6
HALF = SIDE // 2


def small_model(folder: Path) -> Path:
    spec = InputSpec(kind="image", shape=(HALF, HALF, 1), dtype="uint8", color="gray", resize="box")
    return values_model(folder, spec, name="small")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("succession")
    models = (pixels_model(folder / "pixels"), small_model(folder / "small"))
    with server_thread(data_dir=folder / "data", models=models) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


@pytest.fixture
def gallery(client: Client) -> Iterator[str]:
    client.create_gallery("g", encoder="pixels", quality_policy="off", doubt_policy="off")
    client.set_threshold("g", 1e-6)
    for i in range(SUBJECTS):
        client.enroll("g", f"s{i}", png(picture(i)), labels={"n": str(i)})
    yield "g"
    for one in list(client.list_galleries()):
        if one.id in ("g", "s"):
            with suppress(NotFoundError):  # it went with the other
                client.delete_gallery(one.id)


def start(client: Client) -> None:
    client.start_move("g", "s", "small")
    client.set_threshold("s", 1e-3)


def fill(client: Client, *names: int) -> None:
    for i in names or range(SUBJECTS):
        client.enroll("s", f"s{i}", png(picture(i)))


def who(client: Client, seed: int, gallery_id: str = "g") -> str:
    return client.identify(gallery_id, png(picture(seed))).results[0].subject_id


def test_no_answer_is_wrong_while_a_gallery_moves_there_and_back(server: Server, client: Client, gallery: str) -> None:
    ended = threading.Event()
    done: dict[str, int] = {}
    failures: list[BaseException] = []
    encoders: set[str] = set()

    def asking(own: Client) -> None:
        for i in range(SUBJECTS):
            answer = own.identify("g", png(picture(i)), png(picture(900 + i)))
            assert [one.subject_id for one in answer.results] == [f"s{i}", ""]
            encoders.add(answer.provenance.encoder_digest)
            assert own.verify("g", f"s{i}", png(picture(i))).same
            done["asked"] = done.get("asked", 0) + 1

    def enrolling(own: Client) -> None:
        count = done["enrolled"] = done.get("enrolled", 0) + 1
        subject, seed = f"new{count}", 1000 + count
        request = f"request-{count}"
        assert own.enroll("g", subject, png(picture(seed)), request_id=request).created
        assert own.enroll("g", subject, png(picture(seed)), request_id=request).replayed
        assert who(own, seed) == subject
        own.delete_subject("g", subject)
        assert who(own, seed) == ""

    def again(act: Callable[[Client], None]) -> None:
        try:
            with Client(server.address) as own:
                while not ended.is_set():
                    act(own)
        except BaseException as error:
            failures.append(error)
            ended.set()

    threads = [threading.Thread(target=again, args=(act,)) for act in (asking, asking, enrolling)]
    for thread in threads:
        thread.start()
    try:
        start(client)
        fill(client)
        for _ in range(SWAPS):
            swap_when(client, ended, lambda: client.cut_over("g"))
            asked_again(done, ended)
            swap_when(client, ended, lambda: client.roll_back("g"))
            asked_again(done, ended)
        swap_when(client, ended, lambda: client.cut_over("g"))
        client.end_move("g")
        asked_again(done, ended)
    finally:
        ended.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
    assert failures == []
    assert len(encoders) == 2
    assert client.get_gallery("g").dimension == HALF * HALF
    assert [one.id for one in client.list_galleries() if one.id in ("g", "s")] == ["g"]


def swap_when(client: Client, ended: threading.Event, swap: Callable[[], object]) -> None:
    """Once nobody is left: whoever was enrolled as the move began may be."""
    while not ended.is_set():
        try:
            swap()
            return
        except FailedPreconditionError as error:
            if error.reason != "MOVE_INCOMPLETE":
                raise


def asked_again(done: dict[str, int], ended: threading.Event) -> None:
    enough = done.get("asked", 0) + 2 * SUBJECTS
    until(lambda: ended.is_set() or done.get("asked", 0) >= enough)


def test_the_way_of_a_move_is_told(client: Client, gallery: str) -> None:
    assert not client.get_gallery("g").HasField("move")
    successor = client.start_move("g", "s", "small", compare_share=0.5)
    assert (successor.id, successor.dimension, successor.subject_count) == ("s", HALF * HALF, 0)
    assert (successor.move.other_gallery_id, successor.move.answers, successor.move.origin) == ("g", False, False)
    origin = client.get_gallery("g").move
    assert (origin.other_gallery_id, origin.answers, origin.origin, origin.compare_share) == ("s", True, True, 0.5)
    assert origin.HasField("start_time")
    assert not origin.HasField("cut_over_time")
    fill(client, 0, 1)
    client.add_negative("g", "s2", png(picture(50)))
    fill(client, 2)
    report = client.get_move("s")
    assert (report.gallery.id, report.waiting.id) == ("g", "s")
    assert (report.left_count, report.lacking_negatives_count) == (SUBJECTS - 3, 1)
    left = [(one.subject_id, one.lacks_negatives) for one in client.list_left("g")]
    assert left == [("s2", True), *((f"s{i}", False) for i in range(3, SUBJECTS))]
    assert dict(client.get_subject("s", "s0").labels) == {"n": "0"}
    client.set_threshold("s", 1e-3)
    with pytest.raises(FailedPreconditionError) as caught:
        client.cut_over("g")
    assert caught.value.reason == "MOVE_INCOMPLETE"
    assert (caught.value.metadata["left"], caught.value.metadata["without_negatives"]) == (str(SUBJECTS - 3), "1")
    assert client.cut_over("g", leave=True).dimension == HALF * HALF
    assert (who(client, 0), who(client, 4)) == ("s0", "")
    assert client.get_gallery("g").move.HasField("cut_over_time")
    assert client.roll_back("g").dimension == SIDE * SIDE
    assert (who(client, 0), who(client, 4)) == ("s0", "s4")
    assert client.end_move("g", keep_waiting=True).id == "g"
    assert not client.get_gallery("s").HasField("move")


def test_new_examples_go_to_both_and_those_that_are_encodings_leave_their_subject(client: Client, gallery: str) -> None:
    start(client)
    fill(client)
    client.enroll("g", "new", png(picture(70)), labels={"a": "b"})
    assert who(client, 70, "s") == "new"
    client.add_negative("g", "new", png(picture(71)))
    assert len(client.get_subject("s", "new").negatives) == 1
    digest = client.get_gallery("g").encoder_digest
    made = np.eye(SIDE * SIDE, dtype=np.float32)[0]
    client.enroll("g", "s1", encoding(made, digest))
    assert [one.subject_id for one in client.list_left("g")] == ["s1"]
    client.cut_over("g", leave=True)
    client.enroll("g", "newer", png(picture(72)))
    assert who(client, 72, "s") == "newer"


def test_who_goes_by_a_filter_goes_from_both(client: Client, gallery: str) -> None:
    """Those, too, who were left at a cut-over."""
    start(client)
    fill(client, 0, 1, 2)
    client.cut_over("g", leave=True)
    assert client.delete_subjects("g", SubjectFilter(labels={"n": "4"}), dry_run=True).remaining == 1
    for n in ("1", "4"):
        answer = client.delete_subjects("g", SubjectFilter(labels={"n": n}))
        assert ([one.subject_id for one in answer.deleted], answer.remaining) == ([f"s{n}"], 0)
    client.roll_back("g")
    assert [who(client, i) for i in range(SUBJECTS)] == ["s0", "", "s2", "s3", "", "s5"]


def test_live_probes_are_held_against_the_one_that_waits(server: Server, client: Client, gallery: str) -> None:
    client.start_move("g", "s", "small", compare_share=1.0)
    client.set_threshold("s", 1e-3)
    fill(client, 0, 1)

    def compared(probes: int) -> LiveComparison:
        """Once so many are; what comes while one is under way is dropped."""
        until(lambda: client.get_move("g").comparison.probes >= probes)
        return client.get_move("g").comparison

    client.identify("g", png(picture(0)), png(picture(1)))
    first = compared(2)
    assert (first.probes, first.decided_otherwise, first.same_nearest) == (2, 0, 2)
    assert first.seconds > 0
    assert first.waiting_seconds > 0
    client.identify("g", png(picture(4)))
    second = compared(3)
    assert (second.probes, second.decided_otherwise, second.same_nearest) == (3, 1, 2), "who is left is unknown there"
    client.identify("g", png(picture(4)), tau=1.0)
    client.identify("g", encoding(np.eye(SIDE * SIDE, dtype=np.float32)[0], client.get_gallery("g").encoder_digest))
    client.identify("g", png(picture(0)))  # is compared, as the former two were not: else it was dropped, or the fifth
    third = compared(4)
    assert (third.probes, third.decided_otherwise, third.dropped) == (4, 1, 0)
    assert measured(server, "oneglance_move_compared_probes_total", gallery="g", decided="otherwise") == 1
    client.cut_over("g", leave=True)
    assert client.get_move("g").comparison == LiveComparison(), "of the other one it begins anew"


@pytest.mark.parametrize("end", [Client.end_move, lambda client, _: client.delete_gallery("s")])
def test_live_probes_of_one_move_are_none_of_the_next(
    client: Client, gallery: str, end: Callable[[Client, str], object]
) -> None:
    for _ in range(2):
        client.start_move("g", "s", "small", compare_share=1.0)
        client.set_threshold("s", 1e-3)
        assert client.get_move("g").comparison == LiveComparison()
        client.identify("g", png(picture(0)))
        until(lambda: client.get_move("g").comparison.probes == 1)
        end(client, "g")


def test_what_is_wrong_says_what_to_change(client: Client, gallery: str) -> None:
    with pytest.raises(FailedPreconditionError) as not_moving:
        client.get_move("g")
    assert not_moving.value.reason == "NOT_MOVING"
    for changes in ({"encoder": "pixels"}, {"encoder": "small", "compare_share": 1.5}):
        with pytest.raises(InvalidArgumentError) as wrong:
            client.start_move("g", "s", **changes)
        ((field, _),) = wrong.value.field_violations
        assert field == ("compare_share" if "compare_share" in changes else "encoder")
    client.start_move("g", "s", "small")
    with pytest.raises(InvalidArgumentError) as unknown:
        client.enroll("s", "nobody", png(picture(3)))
    assert unknown.value.reason == "SUBJECT_NOT_MOVING"
    assert [field for field, _ in unknown.value.field_violations] == ["subject_id"]
    for refused in (lambda: client.rename_subject("s", "s0", "other"), lambda: client.set_keep_crops("s", True)):
        with pytest.raises(FailedPreconditionError) as waits:
            refused()
        assert waits.value.reason == "GALLERY_WAITS"
    assert waits.value.metadata["other_gallery_id"] == "g"
    with pytest.raises(FailedPreconditionError) as conflict:
        client.roll_back("g")
    assert conflict.value.reason == "MOVE_CONFLICT"
    fill(client)
    with pytest.raises(FailedPreconditionError) as without:
        client.cut_over("g")
    assert without.value.reason == "THRESHOLD_MISSING"
    assert without.value.metadata["gallery_id"] == "s"


def fill_by_map_in_vain(client: Client, gallery_id: str) -> None:
    """Whoever may do it is told that nobody is enrolled."""
    with pytest.raises(FailedPreconditionError, match="0 subjects"):
        list(client.fill_by_map(gallery_id))


def test_who_has_a_right_in_one_of_the_two_only_may_do_nothing_to_the_move(tmp_path: Path) -> None:
    calls: dict[str, Callable[[Client, str], object]] = {
        "GetMove": lambda one, g: one.get_move(g),
        "ListLeft": lambda one, g: list(one.list_left(g)),
        "FillByMap": fill_by_map_in_vain,
        "FillFromCrops": lambda one, g: list(one.fill_from_crops(g)),
        "CutOver": lambda one, g: one.cut_over(g, leave=True),
        "RollBack": lambda one, g: one.roll_back(g, leave=True),
        "EndMove": lambda one, g: one.end_move(g),
    }
    data_dir = tmp_path / "data"
    keys = {name: key_of(data_dir, name) for name in ("admin", "of-g", "of-s", "of-both")}
    rules = [grant([f"key:of-{g}"], [g], ["administer", "export"]) for g in ("g", "s")]
    policy = "".join([ADMIN, *rules, grant(["key:of-both"], ["g", "s"], ["administer", "export"])])
    (tmp_path / "policy.toml").write_text(policy)
    models = (pixels_model(tmp_path / "pixels"), small_model(tmp_path / "small"))
    with server_thread(data_dir=data_dir, models=models, policy=str(tmp_path / "policy.toml")) as server:

        def of(name: str) -> Client:
            return Client(server.address, token=keys[name])

        with of("admin") as admin, of("of-g") as of_g, of("of-s") as of_s, of("of-both") as of_both:
            admin.create_gallery("g", encoder="pixels")
            for gallery_id, one in (("g", of_g), ("s", of_s)):
                with pytest.raises(PermissionDeniedError):
                    one.start_move("g", "s", "small")
                with pytest.raises(PermissionDeniedError):
                    one.start_move(gallery_id, "other", "small")
            of_both.start_move("g", "s", "small")
            admin.set_threshold("s", 1e-3)
            for gallery_id, one in (("g", of_g), ("s", of_s)):
                for call in calls.values():
                    with pytest.raises(PermissionDeniedError):
                        call(one, gallery_id)
            for call in calls.values():
                call(of_both, "g")


def test_what_is_never_of_the_gallerys_encoder_is_refused_in_the_end() -> None:
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1
        raise EncoderMismatch("g", "a", "b")

    with pytest.raises(EncoderMismatch):
        asyncio.run(though_cut_over(ask))
    assert asked > 10


def test_look_alikes_are_those_of_one_gallery_though_it_is_cut_over_meanwhile(
    server: Server, client: Client, gallery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start(client)
    fill(client)
    galleries = server._galleries
    assert galleries is not None
    read = galleries.list_likenesses

    def cutting_over(gallery_id: str, *, page_size: int = 100, after: str | None = None) -> LikenessPage:
        page = read(gallery_id, page_size=page_size, after=after)
        monkeypatch.undo()
        client.cut_over("g")
        return page

    monkeypatch.setattr(galleries, "list_likenesses", cutting_over)
    meanwhile, afterwards = (client.list_look_alikes("g", within=1e9).pairs for _ in range(2))
    assert meanwhile == afterwards
    assert meanwhile
