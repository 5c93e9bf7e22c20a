"""What a server tells in its audit trail: decisions, what was read, who was refused; and what it does when it can't."""

import asyncio
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest

from oneglance import Client, OneglanceError, encoded_subject, identify_request
from oneglance_apps.cli import main
from oneglance_index import (
    Actor,
    Event,
    GalleryStore,
    IndexSettings,
    LocalGalleries,
    StoreFull,
    read_trail,
    verify_trail,
)
from oneglance_server.app import Server
from oneglance_server.calls import Call, Caller
from oneglance_server.service.auditing import Audit
from oneglance_server.service.refusals import MOST_KINDS, WINDOW_SECONDS, Refusals
from tests.acting import acting_as
from tests.pictures import picture
from tests.running import ServerProcess, server_thread
from tests.server.access.callers import ADMIN, grant, key_of
from tests.waiting import PATIENCE_SECONDS, until

IT = picture(1)


def told(data_dir: Path, did: str | None = None) -> list[dict[str, Any]]:
    entries = [json.loads(line) for line in read_trail(data_dir)]
    return [one for one in entries if did in (None, one["did"])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    rules = ADMIN + grant(["key:door"], ["g"], ["identify"])
    (folder / "policy.toml").write_text(rules)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, models: tuple[Path, Path]) -> Iterator[Server]:
    with server_thread(
        data_dir=folder / "data",
        models=models[:1],
        policy=str(folder / "policy.toml"),
        backup_dir=str(folder / "backups"),
    ) as running:
        yield running


@pytest.fixture(scope="module")
def admin(server: Server, folder: Path) -> Iterator[Client]:
    key = key_of(folder / "data", "admin")
    until(lambda: server._access is not None and server._access.keys.find(key))
    with Client(server.address, token=key, timeout_seconds=PATIENCE_SECONDS) as client:
        client.create_gallery("g", encoder="pixels")
        client.set_threshold("g", 0.2)
        client.enroll("g", "it", IT)
        yield client


@pytest.fixture(scope="module")
def door(server: Server, folder: Path, admin: Client) -> Iterator[Client]:
    key = key_of(folder / "data", "door")
    until(lambda: server._access is not None and server._access.keys.find(key))
    with Client(server.address, token=key, timeout_seconds=PATIENCE_SECONDS) as client:
        yield client


def newest(folder: Path, did: str, count: int = 1) -> dict[str, Any]:
    until(lambda: len(told(folder / "data", did)) >= count)
    return told(folder / "data", did)[-1]


def test_who_what_from_where_and_with_which_tau(folder: Path, admin: Client, door: Client) -> None:
    door.identify("g", IT, picture(3))
    entry = newest(folder, "identify")
    gallery = admin.get_gallery("g")
    assert entry["who"] == "key:door"
    assert entry["from"].startswith("ipv4:127.0.0.1:")
    assert (entry["gallery"], entry["model"], entry["tau"]) == ("g", gallery.encoder_digest, pytest.approx(0.2))
    assert (entry["tau_source"], entry["tau_version"], entry["revision"]) == ("gallery", 1, gallery.revision)
    same, other = entry["decisions"]
    assert same == {"outcome": "identified", "subject": "it", "score": 0.0}
    assert other == {"outcome": "unknown"}  # the door isn't told how near the nearest is, nor is the trail

    admin.verify("g", "it", picture(3))
    verified = newest(folder, "verify")
    assert (verified["who"], verified["subject"]) == ("key:admin", "it")
    assert [one["outcome"] for one in verified["decisions"]] == ["different"]
    admin.compare(IT, IT, gallery_id="g")
    assert newest(folder, "compare")["decisions"] == [{"outcome": "same", "score": 0.0}]
    for answer in door.identify_stream(iter([identify_request("g", [IT]), identify_request("g", [picture(4)])])):
        assert answer.HasField("response")
    newest(folder, "identify", 3)
    # Items of a stream are answered side by side.
    assert sorted(one["decisions"][0]["outcome"] for one in told(folder / "data", "identify")[1:]) == [
        "identified",
        "unknown",
    ]
    assert verify_trail(folder / "data") == []


def test_changes_name_who_made_them(folder: Path, admin: Client) -> None:
    entries = told(folder / "data")
    created = next(one for one in entries if one["did"] == "create-gallery")
    enrolled = next(one for one in entries if one["did"] == "enroll")
    assert created["who"] == enrolled["who"] == "key:admin"
    assert (enrolled["gallery"], enrolled["subject"], enrolled["examples"]) == ("g", "it", 1)
    assert enrolled["model"] == created["model"]
    assert entries[0]["did"] == "serve"
    assert entries[0]["models"] == [created["model"]]


def test_of_many_who_are_enrolled_at_once_each_is_told(folder: Path, admin: Client) -> None:
    digest = admin.get_gallery("g").encoder_digest
    before = len(told(folder / "data", "enroll"))
    new = [encoded_subject(f"many {i}", np.eye(64)[i]) for i in range(3)]
    assert len(list(admin.bulk_enroll_encodings("g", new, encoder_digest=digest, doubt_policy="off"))) == 3
    newest(folder, "enroll", before + 3)
    entries = told(folder / "data", "enroll")[before:]
    assert [(one["who"], one["subject"], one["created"]) for one in entries] == [
        ("key:admin", f"many {i}", True) for i in range(3)
    ]
    for one in new:
        admin.delete_subject("g", one.subject_id)


def test_what_was_read_and_what_was_done_outside_the_store(folder: Path, admin: Client) -> None:
    admin.get_subject("g", "it")
    list(admin.list_subjects("g"))
    list(admin.list_expired())
    admin.encode(IT, encoder="pixels")
    admin.create_backup("b")
    admin.rotate_key("g")
    key = admin.create_api_key("guest").key
    admin.revoke_api_key(key.id)
    newest(folder, "revoke-api-key")
    done = {one["did"]: one for one in told(folder / "data") if one["who"] == "key:admin"}
    assert done["read-subject"]["subject"] == "it"
    assert done["list-subjects"]["count"] == 1
    assert done["encode"]["examples"] == 1
    assert done["backup"]["name"] == "b"
    assert done["rotate-key"]["gallery"] == "g"
    assert done["create-api-key"]["name"] == "guest"
    assert done["revoke-api-key"]["key"] == key.id
    assert "list-expired" in done


def test_what_decides_who_may_call_is_told_when_it_changes(models: tuple[Path, Path], tmp_path: Path) -> None:
    policy, data = tmp_path / "policy.toml", tmp_path / "data"
    policy.write_text(ADMIN)
    main(["first-key", str(data), "ops"])

    def sha256() -> str:
        return hashlib.sha256(policy.read_bytes()).hexdigest()

    first = sha256()
    with server_thread(data_dir=data, models=models[:1], policy=str(policy)) as server:
        serve = newest(tmp_path, "serve")
        assert serve["policy"] == first
        assert [name.split()[0] for name in serve["keys"]] == ["ops"]
        policy.write_text(ADMIN + grant(["key:door"], ["g"], ["identify"]))
        assert newest(tmp_path, "access")["policy"] == sha256() != first
        key_of(data, "door")  # by somebody with the folder in his hands
        entry = newest(tmp_path, "access", 2)
        assert [name.split()[0] for name in entry["keys"]] == ["door", "ops"]
        assert "policy" not in entry
        policy.write_text("nonsense")  # isn't followed, so it isn't told
        key_of(data, "gate")
        entry = newest(tmp_path, "access", 3)
        assert entry["key_count"] == 3
        assert "policy" not in entry
        assert server.store_closed is False
    assert verify_trail(data) == []


def test_who_was_refused_what(folder: Path, server: Server, door: Client) -> None:
    for _ in range(50):
        with pytest.raises(OneglanceError):
            door.delete_gallery("g")
    with pytest.raises(OneglanceError):
        door.get_gallery("x" * 10_000)
    with Client(server.address, token="og_wrong") as stranger, pytest.raises(OneglanceError):
        stranger.identify("g", IT)
    newest(folder, "refused", 3)
    refused = told(folder / "data", "refused")
    assert [(one["who"], one["right"], one.get("gallery", "")[:1]) for one in refused] == [
        ("key:door", "administer", "g"),
        ("key:door", "see", "x"),
        ("anonymous", "credential", ""),
    ]
    assert len(refused[1]["gallery"]) == 128


def test_who_is_refused_again_and_again_can_not_fill_the_disk() -> None:
    now = 0.0
    refusals = Refusals(lambda: now)
    told_at_once = [refusals.add(Actor("key:x", f"ipv4:10.0.0.1:{i}"), "erase", f"g{i % 100}") for i in range(10_000)]
    assert sum(one is not None for one in told_at_once) == MOST_KINDS
    assert refusals.over() == []
    now += WINDOW_SECONDS
    summed = refusals.over()
    assert len(summed) == MOST_KINDS + 1
    times = [int(str(one.details["times"])) for one in summed]
    assert sum(times) + MOST_KINDS == 10_000
    assert refusals.over(end=True) == []
    assert refusals.add(Actor("key:x", "ipv4:10.0.0.1:1"), "erase", "g1") is not None


def test_one_who_was_refused_twice_is_told_when_the_server_ends(models: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(ADMIN)
    with (
        server_thread(data_dir=tmp_path / "data", models=models[:1], policy=str(tmp_path / "policy.toml")) as server,
        Client(server.address) as nobody,
    ):
        for _ in range(3):
            with pytest.raises(OneglanceError):
                nobody.get_gallery("g")
    assert [one.get("times") for one in told(tmp_path / "data", "refused")] == [None, 2]


def full(self: LocalGalleries, events: object) -> None:
    raise StoreFull(self.data_dir, "full")


def test_without_its_entry_no_decision_is_answered(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models[:1], audit="fail-closed", audit_subjects="hashed") as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        client.set_threshold("g", 0.2)
        client.enroll("g", "it", IT)
        client.identify("g", IT)
        entry = told(tmp_path, "identify")[-1]  # there already
        assert entry["decisions"][0]["subject"] == told(tmp_path, "enroll")[-1]["subject"] != "it"
        with monkeypatch.context() as patch:
            patch.setattr(LocalGalleries, "record", full)
            for ask in (
                lambda: client.identify("g", IT),
                lambda: client.verify("g", "it", IT),
                lambda: client.get_subject("g", "it"),
                lambda: client.encode(IT, encoder="pixels"),
            ):
                with pytest.raises(OneglanceError, match="audit trail") as failed:
                    ask()
                assert (failed.value.code, failed.value.reason) == (grpc.StatusCode.UNAVAILABLE, "AUDIT_FAILED")
        client.identify("g", IT)
    assert verify_trail(tmp_path) == []


def test_what_can_not_be_written_waits_and_what_is_too_much_is_told(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oneglance_server.service import auditing

    monkeypatch.setattr(auditing, "MOST_WAITING", 6)  # each has a decision
    with (
        server_thread(data_dir=tmp_path, models=models[:1]) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        client.set_threshold("g", 0.2)
        assert server._audit is not None
        with monkeypatch.context() as patch:
            patch.setattr(LocalGalleries, "record", full)
            for _ in range(5):
                client.identify("g", IT)
            until(lambda: server._metrics.registry.get_sample_value("oneglance_audit_entries_lost_total") == 2)
        until(lambda: told(tmp_path, "lost"))
    assert len(told(tmp_path, "identify")) == 3
    assert told(tmp_path, "lost")[0]["entries"] == 2
    assert verify_trail(tmp_path) == []


async def test_whoever_stops_waiting_loses_no_entry() -> None:
    class Slow:
        """Records what it is given, once it may."""

        def __init__(self) -> None:
            self.recorded: list[list[Event]] = []
            self.futures: list[Future[None]] = []

        def record(self, events: Sequence[Event]) -> Future[None]:
            self.recorded.append([*events])
            self.futures.append(Future())
            return self.futures[-1]

    store = Slow()
    audit = Audit(cast(GalleryStore, store), "on", lambda count: None)
    await audit.did(Call(Caller("it")), "read", "g")
    flushing = asyncio.create_task(audit.flush())
    while not store.futures:
        await asyncio.sleep(0)
    flushing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await flushing
    closing = asyncio.create_task(audit.close())
    store.futures[0].set_exception(StoreFull(Path("store")))
    await closing
    assert len(store.recorded) == 1
    closing = asyncio.create_task(audit.close())
    while len(store.futures) == 1:
        await asyncio.sleep(0)
    store.futures[1].set_result(None)
    await closing
    assert [[event.did for event in events] for events in store.recorded] == [["read"], ["read"]]


def test_a_kill_costs_no_decision_of_long_ago_and_the_chain_is_whole(models: tuple[Path, Path], tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, models=models[0])
    with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
        client.create_gallery("g", encoder="pixels")
        client.set_threshold("g", 0.2)
        for _ in range(20):
            client.identify("g", IT)
        until(lambda: len(told(tmp_path, "identify")) == 20)
        client.identify("g", IT)
        server.kill()
    server.process.wait()
    assert verify_trail(tmp_path) == []
    assert len(told(tmp_path, "identify")) >= 20


def test_off_is_off(models: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        server_thread(data_dir=tmp_path, models=models[:1], audit="off") as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        client.identify("g", IT, tau=0.2)
    assert told(tmp_path) == []


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data_dir = tmp_path / "data"
    with acting_as("key:x"), LocalGalleries.open(data_dir, settings=IndexSettings()) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=3).result()
        for i in range(3):
            galleries.enroll("g", f"s\u202e\x1b{i}", np.eye(3, dtype=np.float32)[:1]).result()
    assert main(["audit", "tail", str(data_dir), "-n", "2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["number"] for line in lines] == [3, 4]
    assert all(line.isprintable() and line.isascii() for line in lines)
    assert main(["audit", "export", str(data_dir)]) == 0
    export = tmp_path / "export.jsonl"
    export.write_text(capsys.readouterr().out)
    key = str(data_dir / "receipts.pub")
    assert main(["audit", "verify", str(data_dir)]) == 0
    assert main(["audit", "verify", str(data_dir), "--head", str(export), "--public-key", key]) == 0
    assert main(["audit", "verify", str(export), "--public-key", key]) == 0
    assert main(["audit", "verify", str(export)]) == 1
    export.write_text(export.read_text().replace("enroll", "unroll", 1))
    capsys.readouterr()
    assert main(["audit", "verify", str(export), "--public-key", key]) == 1
    assert "entry 2 " in capsys.readouterr().out
    os.remove(data_dir / "store.sqlite3")
    for command in ("tail", "export", "verify"):
        assert main(["audit", command, str(data_dir)]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_files_are_their_owners_alone(models: tuple[Path, Path], tmp_path: Path) -> None:
    mask = os.umask(0o022)
    try:
        (tmp_path / "policy.toml").write_text(ADMIN)
        data_dir = tmp_path / "made" / "data"
        data_dir.parent.mkdir()
        key = key_of(data_dir, "admin")
        with (
            server_thread(data_dir=data_dir, models=models[:1], policy=str(tmp_path / "policy.toml")) as server,
            Client(server.address, token=key, timeout_seconds=PATIENCE_SECONDS) as admin,
        ):
            admin.create_gallery("g", encoder="pixels")
            admin.enroll("g", "it", IT)
            open_now = list(data_dir.rglob("*"))
            modes = {path.name: path.stat().st_mode & 0o777 for path in (data_dir, *open_now)}
        modes |= {path.name: path.stat().st_mode & 0o777 for path in data_dir.rglob("*")}
    finally:
        os.umask(mask)
    assert {
        "store.sqlite3",
        "store.sqlite3-wal",
        "api-keys.json",
        "api-keys.lock",
        "master.key",
        "lock",
    } <= modes.keys()
    assert modes.pop("receipts.pub") == 0o644
    assert {name: oct(mode) for name, mode in modes.items() if mode & 0o077} == {}
