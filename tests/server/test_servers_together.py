"""Several servers with the galleries of one, real ones on real ports: they agree, and outlive each other's end.

Two rounds of kills by default; for the long run:

    ONEGLANCE_KILL_ROUNDS=100 pytest tests/server/test_servers_together.py -s
"""

import contextlib
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, cast

import pytest
from limits import parse

from oneglance import AlreadyExistsError, Client, OneglanceError
from oneglance.client.errors import UnauthenticatedError
from oneglance.v1.gallery_pb2 import CreateBackupRequest
from oneglance_index import LocalGalleries, StoreClosed, read_trail
from oneglance_server.app import Server
from oneglance_server.errors import StartupError
from oneglance_server.sharing.addresses import Keeping
from oneglance_server.sharing.files import clock
from oneglance_server.sharing.remote import RemoteGalleries, open_remote
from tests.pictures import picture
from tests.running import ServerProcess, server_thread
from tests.server.access.callers import grant, key_of
from tests.server.test_any_style import EMBER
from tests.server.test_kill import MOMENT_SECONDS, Writer
from tests.style_models import any_style_models
from tests.waiting import PATIENCE_SECONDS, until

ROUNDS = int(os.environ.get("ONEGLANCE_KILL_ROUNDS", "2"))
MOST_CALLS = 200


class Together(NamedTuple):
    """A server that keeps galleries, and clients of two others that serve them."""

    keeper: Server
    one: Client
    other: Client


@pytest.fixture(scope="module")
def together(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Together]:
    root = tmp_path_factory.mktemp("together")
    with ExitStack() as opened:
        token = root / "token"
        token.write_text("a secret\n")
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("oneglance_server.app._GRANTED_SECONDS", 60.0)  # machines may be slow
            keeper = opened.enter_context(
                server_thread(data_dir=root / "kept", models=models, share="127.0.0.1:0", share_token=f"file:{token}")
            )
        galleries = f"keeper://{keeper.shared_address}"
        clients = []
        for name in ("one", "other"):
            settings = {"data_dir": root / name, "models": models, "galleries_token": f"file:{token}"}
            server = opened.enter_context(server_thread(galleries=galleries, **settings))
            clients.append(opened.enter_context(Client(server.address)))
        yield Together(keeper, *clients)
    assert not (root / "one" / "store.sqlite3").exists()


def test_what_is_enrolled_by_one_server_is_identified_by_the_other(together: Together) -> None:
    _, one, other = together
    one.create_gallery("g", encoder="pixels")
    other.enroll("g", "s", picture(1), labels={"from": "other"})
    for client in (one, other):
        result = client.identify("g", picture(1), tau=0.01).results[0]
        assert (result.subject_id, result.candidates[0].distance) == ("s", 0)
        assert client.verify("g", "s", picture(1), tau=0.01).same
    one.delete_subject("g", "s")
    assert other.identify("g", picture(1), tau=0.01).results[0].subject_id == ""
    assert [subject.id for subject in other.list_subjects("g")] == []


def test_a_threshold_set_at_one_server_decides_at_the_other_from_then_on(together: Together) -> None:
    _, one, other = together
    one.create_gallery("decides", encoder="pixels")
    one.enroll("decides", "s", picture(1))
    distance = other.identify("decides", picture(2), tau=4.0).results[0].candidates[0].distance
    for i in range(20):
        setting, asked = ((one, other), (other, one))[i % 2]
        setting.set_threshold("decides", distance * (1.1 if i % 3 else 0.9))
        assert asked.identify("decides", picture(2)).results[0].subject_id == ("s" if i % 3 else "")


def test_errors_are_told_as_by_the_server_that_keeps_the_galleries(together: Together) -> None:
    keeper, one, other = together
    calls: list[Callable[[Client], object]] = [
        lambda client: client.get_gallery("nobody's"),
        lambda client: client.enroll("nobody's", "s", picture(1)),
        lambda client: client.identify("nobody's", picture(1)),
        lambda client: client.delete_subject("decides", "nobody"),
        lambda client: client.create_gallery("decides", encoder="pixels"),
        lambda client: client.create_gallery("decides"),
    ]
    with Client(keeper.address) as direct:
        for call in calls:
            told = []
            for client in (direct, one, other):
                with pytest.raises(OneglanceError) as refused:
                    call(client)
                told.append((refused.value.code, refused.value.reason, refused.value.message))
            assert told[0] == told[1] == told[2]


def test_without_a_folder_for_backups_all_say_so(together: Together) -> None:
    with Client(together.keeper.address) as direct:
        for client in (direct, together.one):
            with pytest.raises(OneglanceError) as refused:
                client.create_backup("b")
            assert (refused.value.code.name, refused.value.reason) == ("FAILED_PRECONDITION", "BACKUPS_OFF")
            assert "backup" not in client.get_server().capabilities


def test_a_backup_asked_of_any_server_is_made_by_the_keeper(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = f"unix:{tmp_path}/share"
    begun, given_up = threading.Event(), threading.Event()

    def long(self: LocalGalleries, target: Path, ended: Callable[[], bool]) -> None:
        begun.set()
        until(ended)
        given_up.set()
        raise StoreClosed(target)

    monkeypatch.setattr("oneglance_server.app._GRANTED_SECONDS", 60.0)  # machines may be slow
    with (
        server_thread(data_dir=tmp_path / "kept", models=models[:1], share=share, backup_dir=str(tmp_path / "backups")),
        server_thread(data_dir=tmp_path / "one", models=models[:1], galleries=f"keeper+{share}") as server,
        Client(server.address, retry=False) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "s", picture(1))
        assert "backup" in client.get_server().capabilities
        made = client.create_backup("nightly")
        assert made.size_bytes == (tmp_path / "backups/nightly").stat().st_size
        assert [(one.gallery_id, one.subject_count) for one in made.galleries] == [("g", 1)]
        for name, code, reason in (
            ("nightly", "ALREADY_EXISTS", "BACKUP_EXISTS"),
            ("../b", "INVALID_ARGUMENT", "INVALID_REQUEST"),
        ):
            with pytest.raises(OneglanceError) as refused:
                client.create_backup(name)
            assert (refused.value.code.name, refused.value.reason) == (code, reason)
        with monkeypatch.context() as patch:
            patch.setattr(LocalGalleries, "back_up", long)
            call = client._galleries.CreateBackup.future(CreateBackupRequest(name="long"))
            until(begun.is_set)
            with pytest.raises(OneglanceError) as refused:
                client.create_backup("other")
            assert (refused.value.code.name, refused.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
            assert refused.value.metadata["queue"] == "backups"
            call.cancel()
            until(given_up.is_set)
    assert not (tmp_path / "one").exists()
    trail = [event for event in read_trail(tmp_path / "kept", 100) if '"backup"' in event]
    assert "nightly" in trail[0]


def test_keys_and_styles_made_or_ended_at_one_server_are_so_at_all(
    models: tuple[Path, Path], tints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share, policy = f"unix:{tmp_path}/share", tmp_path / "policy.toml"
    policy.write_text(grant(["key:*"], ["*"], ["*"]))
    monkeypatch.setattr("oneglance_server.app._GRANTED_SECONDS", 60.0)  # machines may be slow
    settings = {"models": (models[0], tints, any_style_models(tmp_path / "any")), "policy": str(policy)}
    admin = key_of(tmp_path / "kept", "admin")
    with ExitStack() as opened:
        servers = [opened.enter_context(server_thread(data_dir=tmp_path / "kept", share=share, **settings))]
        for name in ("one", "other"):
            of = {"data_dir": tmp_path / name, "galleries": f"keeper+{share}", **settings}
            servers.append(opened.enter_context(server_thread(**of)))
        admins = [opened.enter_context(Client(server.address, token=admin)) for server in servers]
        for maker, user, ender in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (1, 0, 2)):
            made = admins[maker].create_api_key("door")
            with Client(servers[user].address, token=made.secret) as door:
                assert door.get_identity().name == "key:door"
                admins[ender].revoke_api_key(made.key.id)
                with pytest.raises(UnauthenticatedError):
                    door.get_identity()
            admins[maker].create_style("fire", EMBER)
            assert "fire" in [style.name for style in admins[user].list_styles()]
            with pytest.raises(AlreadyExistsError):
                admins[ender].create_style("fire", EMBER)
            admins[ender].delete_style("fire")
            assert "fire" not in [style.name for style in admins[user].list_styles()]
        assert [key.name for key in admins[1].list_api_keys()] == ["admin"]
    assert not (tmp_path / "one").exists()


def test_a_keeper_that_knows_no_callers_keeps_the_keys_of_servers_that_do(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    share, policy = f"unix:{tmp_path}/share", tmp_path / "policy.toml"
    policy.write_text(grant(["key:*"], ["*"], ["*"]))
    of = {"models": models, "galleries": f"keeper+{share}", "policy": str(policy)}
    with ExitStack() as opened:
        opened.enter_context(server_thread(data_dir=tmp_path / "kept", share=share, models=models))
        servers = [opened.enter_context(server_thread(data_dir=tmp_path / name, **of)) for name in ("one", "other")]
        admin = key_of(tmp_path / "kept", "admin")  # while it serves
        one, other = (opened.enter_context(Client(server.address, token=admin)) for server in servers)
        until(lambda: lets_in(one) and lets_in(other))
        made = one.create_api_key("door")
        with Client(servers[1].address, token=made.secret) as door:
            assert door.get_identity().name == "key:door"
            other.revoke_api_key(made.key.id)
            with pytest.raises(UnauthenticatedError):
                door.get_identity()


@pytest.mark.parametrize(
    ("token", "told"), [("env:ONEGLANCE_TEST_TOKEN", "another token"), ("env:NO_SUCH", "can't be read")]
)
def test_who_shows_another_token_is_refused(
    together: Together, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, token: str, told: str
) -> None:
    monkeypatch.setenv("ONEGLANCE_TEST_TOKEN", "a guess")
    address = f"keeper://{together.keeper.shared_address}"
    settings = {"data_dir": tmp_path, "models": (), "galleries": address, "galleries_token": token}
    with pytest.raises(StartupError, match=told), server_thread(**settings):
        pass


def write_from(
    writers: list[Writer], addresses: list[str], digest: str, seed: int, rng: random.Random
) -> Iterator[None]:
    """While it is left open they write, some by each server; it goes on at some moment, and ends once all noticed."""
    threads = [
        threading.Thread(target=one.write_until_killed, args=(addresses[one.number % len(addresses)], digest, seed))
        for one in writers
    ]
    for thread in threads:
        thread.start()
    enough = sum(one.calls for one in writers) + rng.randrange(1, MOST_CALLS)
    until(lambda: sum(one.calls for one in writers) >= enough)
    time.sleep(rng.uniform(0, MOMENT_SECONDS))
    yield
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
        assert not thread.is_alive()


def check_all(writers: list[Writer], client: Client, digest: str) -> None:
    stored = {subject.id: len(subject.encodings) for subject in client.list_subjects("g")}
    for writer in writers:
        writer.check(client, stored, digest)
    gallery = client.get_gallery("g")
    assert (gallery.subject_count, gallery.encoding_count) == (len(stored), sum(stored.values()))


def lets_in(client: Client) -> bool:
    with contextlib.suppress(UnauthenticatedError):
        client.get_identity()
        return True
    return False


def answers(client: Client) -> bool:
    with contextlib.suppress(OneglanceError):
        client.identify("g", picture(1), tau=0.1)
        return True
    return False


def test_what_was_acknowledged_survives_kill_9_of_the_keeper(models: tuple[Path, Path], tmp_path: Path) -> None:
    rng, writers = random.Random(1), [Writer(number) for number in range(4)]
    share = tmp_path / "share.socket"

    def keeper() -> ServerProcess:
        return ServerProcess(tmp_path / "kept", models=models[0], share=f"unix:{share}", log_level="error")

    with ExitStack() as opened:
        kept = keeper()
        opened.callback(lambda: kept.kill())
        servers = [
            opened.enter_context(
                server_thread(data_dir=tmp_path / name, models=models, galleries=f"keeper+unix:{share}")
            )
            for name in ("one", "other")
        ]
        clients = [opened.enter_context(Client(server.address)) for server in servers]
        clients[0].create_gallery("g", encoder="pixels", fusion="nearest")
        digest = clients[0].get_gallery("g").encoder_digest
        without: list[float] = []
        for round_number in range(ROUNDS):
            for _ in write_from(writers, [server.address for server in servers], digest, round_number, rng):
                kept.kill()
                killed = time.perf_counter()
            kept = keeper()
            for client in clients:
                until(lambda client=client: answers(client))  # type: ignore[misc]
            without.append(time.perf_counter() - killed)
            check_all(writers, clients[round_number % 2], digest)
    print(f"\n{ROUNDS} kills of the keeper, {sum(one.calls for one in writers)} acknowledged calls, all there")
    middle, longest = statistics.median(without), max(without)
    print(f"seconds without answers, until its process has started again: {middle:.2f}, at most {longest:.2f}")


def test_what_was_acknowledged_survives_kill_9_of_a_server(models: tuple[Path, Path], tmp_path: Path) -> None:
    rng, writers = random.Random(2), [Writer(number) for number in range(4)]
    share = tmp_path / "share.socket"
    with (
        server_thread(data_dir=tmp_path / "kept", models=models, share=f"unix:{share}") as kept,
        Client(kept.address) as client,
    ):
        client.create_gallery("g", encoder="pixels", fusion="nearest")
        digest = client.get_gallery("g").encoder_digest
        for round_number in range(ROUNDS):
            with ServerProcess(tmp_path / "one", models=models[0], galleries=f"keeper+unix:{share}") as server:
                for _ in write_from(writers, [server.address], digest, round_number, rng):
                    server.kill()
            client.set_threshold("g", 0.5 + round_number)  # waits for nobody for ever
            check_all(writers, client, digest)


def test_a_keeper_that_shares_no_more_waits_for_who_decides_by_what_it_told(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share, note = tmp_path / "share.socket", tmp_path / "kept" / "shared"
    first = "from oneglance_server import app; app._GRANTED_SECONDS = 20.0"
    with ServerProcess(tmp_path / "kept", models=models[0], share=f"unix:{share}", first=first) as kept:
        with Client(kept.address) as client:
            client.create_gallery("g", encoder="pixels")
        user = cast(RemoteGalleries, open_remote(Keeping(f"keeper+unix:{share}")))
        session = user._here()  # cut off by the kill, it would decide on, wherever no connection tells it
        kept.kill()
    user.close()
    monkeypatch.setattr("oneglance_server.app._GRANTED_SECONDS", 20.0)
    with server_thread(data_dir=tmp_path / "kept", models=models[:1]) as alone, Client(alone.address) as client:
        client.set_threshold("g", 0.5)
        assert clock() > session.until
        assert note.exists()
        client.set_threshold("g", 0.6)
    assert not note.exists()


def test_where_nobody_decides_any_more_the_next_start_waits_for_nobody(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("oneglance_server.app._GRANTED_SECONDS", 10 * PATIENCE_SECONDS)
    share, note = f"unix:{tmp_path}/share", tmp_path / "kept" / "shared"
    for number in range(2):
        with (
            server_thread(data_dir=tmp_path / "kept", models=models[:1], share=share) as kept,
            Client(kept.address) as client,
        ):
            assert note.exists()
            client.create_gallery(f"g{number}", encoder="pixels")
            with server_thread(data_dir=tmp_path / "one", models=models[:1], galleries=f"keeper+{share}") as one:
                assert one.address
        assert not note.exists()


def test_a_quota_is_one_at_all_servers(models: tuple[Path, Path], tmp_path: Path) -> None:
    policy, share = tmp_path / "policy.toml", tmp_path / "share.socket"
    policy.write_text(grant(["key:*"], ["*"], ["*"]) + '[[quota]]\nto = ["key:few"]\nprobes = "6/day"\n')
    settings = {"data_dir": tmp_path / "data", "models": models[:1], "policy": str(policy)}
    key = key_of(tmp_path / "data", "few")
    with ExitStack() as opened:
        servers = [opened.enter_context(server_thread(share=f"unix:{share}", **settings))]
        for _ in range(2):
            servers.append(opened.enter_context(server_thread(galleries=f"keeper+unix:{share}", **settings)))
        callers = [opened.enter_context(Client(server.address, token=key, retry=False)) for server in servers]
        callers[0].create_gallery("g", encoder="pixels")
        for count, caller in enumerate(callers, 1):
            caller.identify("g", *[picture(1)] * count, tau=0.1)
        for server, caller in zip(servers, callers, strict=True):
            until(lambda server=server: left(server, "key:few", "probes", "6/day") == 0)  # type: ignore[misc]
            with pytest.raises(OneglanceError, match="and has used them"):
                caller.identify("g", picture(1), tau=0.1)


def left(server: Server, name: str, kind: str, rate: str) -> int:
    access = server._access
    assert access is not None
    return access.quotas._limiter.get_window_stats(parse(rate), kind, name).remaining
