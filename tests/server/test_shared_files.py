"""API keys that the keeper of galleries keeps, and servers elsewhere let callers in by."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from oneglance_index import EngineUnavailable, GalleryStore, StoreIOError
from oneglance_server.access.api_keys import FILE, ApiKeys
from oneglance_server.errors import ApiKeyNotFound, ApiKeysBusy
from oneglance_server.shared_files import LocalFiles
from oneglance_server.sharing import files as shared
from oneglance_server.sharing.beside import Beside
from oneglance_server.sharing.files import RemoteFiles
from oneglance_server.sharing.remote import open_remote
from tests.server.sharing import Kept
from tests.waiting import PATIENCE_SECONDS, until


class Elsewhere(NamedTuple):
    files: RemoteFiles
    keys: ApiKeys
    store: GalleryStore


def elsewhere(keeper: Kept) -> Elsewhere:
    files = RemoteFiles()
    keys = ApiKeys(files)  # as a server does, before it reaches the keeper
    with pytest.raises(EngineUnavailable):
        keys.find("og_")
    return Elsewhere(files, keys, open_remote(keeper.keeping, files=files))


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[Kept]:
    keeper = Kept(tmp_path / "kept")
    yield keeper
    keeper.close()


@pytest.fixture
def users(keeper: Kept) -> Iterator[list[Elsewhere]]:
    ApiKeys(keeper.files)
    users = [elsewhere(keeper) for _ in range(2)]
    yield users
    for user in users:
        user.store.close()


def test_what_one_revokes_no_other_takes_from_then_on(keeper: Kept, users: list[Elsewhere]) -> None:
    one, other = users
    for i in range(20):
        made, secret = one.keys.create(f"door{i}")
        assert other.keys.find(secret) == made
        assert ApiKeys(LocalFiles(keeper.data_dir)).find(secret) == made
        other.keys.revoke(made.id)
        assert one.keys.find(secret) is None
        assert not one.keys.holds(made)
        with pytest.raises(ApiKeyNotFound):
            one.keys.revoke(made.id)


def test_what_no_server_could_read_again_is_not_written(keeper: Kept, users: list[Elsewhere]) -> None:
    made, secret = users[0].keys.create("door")
    asked = cast(Beside, users[0].store)
    before = (keeper.data_dir / FILE).read_bytes()
    for text in ("no keys", "[" * 100_000, '{"keys": []}' + " " * (5 << 20)):
        with pytest.raises((ValueError, StoreIOError)):
            asked.replace_file(FILE, users[0].keys.sha256, text)
    assert (keeper.data_dir / FILE).read_bytes() == before
    assert users[1].keys.find(secret) == made


def test_of_keys_that_many_make_at_once_none_is_lost(users: list[Elsewhere]) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda i: users[i % 2].keys.create(f"k{i}"), range(12)))
    assert {key.id for key, _ in made} == {key.id for key in users[0].keys.all()} == {k.id for k in users[1].keys.all()}


def test_a_key_made_beside_the_keeper_comes_to_all(keeper: Kept, users: list[Elsewhere]) -> None:
    """By oneglance first-key, in the keeper's directory."""
    keys = ApiKeys(keeper.files)
    made, secret = ApiKeys(LocalFiles(keeper.data_dir)).create("admin")
    assert keys.look()
    until(lambda: users[0].keys.find(secret) == made)
    assert users[0].keys.look()
    assert not users[0].keys.look()


def test_one_that_hears_nothing_takes_no_key_once_a_revocation_is_acknowledged(tmp_path: Path) -> None:
    keeper = Kept(tmp_path / "kept", seconds=1.0)
    keys = ApiKeys(keeper.files)
    user = elsewhere(keeper)
    made, secret = keys.create("door")
    until(lambda: user.keys.find(secret) == made)
    deaf = threading.Event()
    hear = RemoteFiles.hear
    with pytest.MonkeyPatch.context() as patch:

        def waits(self: RemoteFiles, told: dict[str, bytes], *, anew: bool) -> None:
            deaf.wait(PATIENCE_SECONDS)
            hear(self, told, anew=anew)

        patch.setattr(RemoteFiles, "hear", waits)
        keys.revoke(made.id)
        with pytest.raises(EngineUnavailable):
            user.keys.find(secret)
        with pytest.raises(EngineUnavailable):
            user.keys.holds(made)
        deaf.set()
    until(lambda: not _finds(user.keys, secret))
    keeper.close()
    user.store.close()


def test_one_that_comes_back_takes_no_key_that_was_revoked_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what it was granted before, it decides until it hears the first message."""
    back, deaf, hear = threading.Event(), threading.Event(), RemoteFiles.hear

    def waits(self: RemoteFiles, told: dict[str, bytes], *, anew: bool) -> None:
        back.set()
        deaf.wait(PATIENCE_SECONDS)
        hear(self, told, anew=anew)

    with ExitStack() as opened:
        keeper = opened.enter_context(closing(Kept(tmp_path / "kept", seconds=3.0)))
        keys = ApiKeys(keeper.files)
        user = elsewhere(keeper)
        opened.callback(user.store.close)
        opened.callback(deaf.set)
        made, secret = keys.create("door")
        until(lambda: user.keys.find(secret) == made)
        monkeypatch.setattr(RemoteFiles, "hear", waits)
        monkeypatch.setattr(keeper.news, "grant", lambda follower: False)  # not yet
        vars(user.store)["_session"].cancel()
        assert back.wait(PATIENCE_SECONDS)
        keys.revoke(made.id)
        with pytest.raises(EngineUnavailable):
            user.keys.find(secret)
        monkeypatch.undo()
        deaf.set()
        until(lambda: not _finds(user.keys, secret))


def test_that_a_key_is_gone_is_told_once_it_is_refused_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To who asks again, say, because the first answer didn't come."""
    deaf, hear = threading.Event(), RemoteFiles.hear

    def waits(self: RemoteFiles, told: dict[str, bytes], *, anew: bool) -> None:
        if self is late.files:
            deaf.wait(PATIENCE_SECONDS)
        hear(self, told, anew=anew)

    with ExitStack() as opened:
        keeper = opened.enter_context(closing(Kept(tmp_path / "kept", seconds=3.0)))
        keys = ApiKeys(keeper.files)
        one, late = users = [elsewhere(keeper) for _ in range(2)]
        for user in users:
            opened.callback(user.store.close)
        opened.callback(deaf.set)
        made, secret = one.keys.create("door")
        until(lambda: late.keys.find(secret) == made)
        monkeypatch.setattr(RemoteFiles, "hear", waits)
        ApiKeys(LocalFiles(keeper.data_dir)).revoke(made.id)  # and the keeper isn't told
        assert keys.look()
        until(lambda: one.keys.find(secret) is None)
        with pytest.raises(ApiKeyNotFound):
            one.keys.revoke(made.id)
        with pytest.raises(EngineUnavailable):
            late.keys.find(secret)


def _finds(keys: ApiKeys, secret: str) -> bool:
    try:
        return keys.find(secret) is not None
    except EngineUnavailable:
        return True


def test_keys_outlive_a_moment_without_the_keeper_and_not_more(tmp_path: Path) -> None:
    keeper = Kept(tmp_path / "kept", seconds=2.0)
    made, secret = ApiKeys(keeper.files).create("door")
    user = elsewhere(keeper)
    until(lambda: user.keys.find(secret) == made)
    keeper.close()
    assert user.files.until > 0

    def is_away() -> bool:
        try:
            return user.keys.find(secret) != made
        except EngineUnavailable:
            return True

    until(is_away)
    assert shared.clock() > user.files.until
    with pytest.raises(EngineUnavailable):
        user.keys.create("another")
    with pytest.raises(EngineUnavailable):
        user.keys.all()
    user.store.close()


def test_a_file_that_cannot_be_written_is_told_as_here(keeper: Kept, users: list[Elsewhere]) -> None:
    (keeper.data_dir / FILE).mkdir()
    for keys in (users[0].keys, users[1].keys):
        with pytest.raises(ApiKeysBusy):
            keys.create("door")
