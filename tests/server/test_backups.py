"""Backups that are asked for by a call: by whom, under which name, one at a time."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from oneglance import Client, OneglanceError
from oneglance.v1.gallery_pb2 import CreateBackupRequest
from oneglance_apps.cli import main
from oneglance_index import LocalGalleries, StoreClosed
from oneglance_server.app import Server
from oneglance_server.service.backups import BackupFolder
from oneglance_server.settings import Settings
from tests.pictures import picture
from tests.running import server_thread
from tests.waiting import until


@pytest.fixture(scope="module")
def backing(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("backing")
    backups = str(folder / "backups" / "here")
    with server_thread(models=models, data_dir=folder / "data", backup_dir=backups) as running:
        yield running


@pytest.fixture(scope="module")
def asking(backing: Server) -> Iterator[Client]:
    with Client(backing.address, retry=False) as client:
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "s", picture(1))
        yield client


def folder_of(server: Server) -> Path:
    return Path(server.settings.backup_dir)


def test_it_is_made_told_and_never_replaced(
    asking: Client, backing: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    made = asking.create_backup("nightly-1.backup")
    file = folder_of(backing) / "nightly-1.backup"
    (gallery,) = made.galleries
    assert (gallery.gallery_id, gallery.revision, gallery.subject_count, gallery.encoding_count) == ("g", 1, 1, 1)
    assert made.size_bytes == file.stat().st_size
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert main(["check", str(file), "--master-key", f"file:{backing.settings.data_dir / 'master.key'}"]) == 0
    before = file.read_bytes()
    (folder_of(backing) / "a-folder").mkdir()
    for name in ("nightly-1.backup", "a-folder"):
        with pytest.raises(OneglanceError) as caught:
            asking.create_backup(name)
        assert (caught.value.code.name, caught.value.reason) == ("ALREADY_EXISTS", "BACKUP_EXISTS")
    assert file.read_bytes() == before
    assert main(["create-backup", "by-command", "--server", backing.address]) == 0
    assert "g: revision 1, 1 subject" in capsys.readouterr().out
    assert (folder_of(backing) / "by-command").is_file()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../b", "/tmp/b", "a/b", ".hidden", "-b", "ä", "b\n", "b\0", "b" * 129]
)
def test_a_name_is_that_of_a_file_there(asking: Client, backing: Server, name: str) -> None:
    before = sorted(folder_of(backing).parent.rglob("*"))
    with pytest.raises(OneglanceError) as caught:
        asking.create_backup(name)
    assert caught.value.code.name == "INVALID_ARGUMENT"
    assert [path for path, _ in caught.value.field_violations] == ["name"]
    assert sorted(folder_of(backing).parent.rglob("*")) == before


def test_one_at_a_time_and_given_up_with_its_call(
    asking: Client, backing: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, given_up = threading.Event(), threading.Event()

    def long(self: LocalGalleries, target: Path, ended: Any) -> None:
        begun.set()
        until(ended)
        given_up.set()
        raise StoreClosed(target)

    with monkeypatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setattr(LocalGalleries, "back_up", long)
        call = asking._galleries.CreateBackup.future(CreateBackupRequest(name="long"))
        assert pool.submit(begun.wait).result()
        with pytest.raises(OneglanceError) as caught:
            asking.create_backup("other")
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        asking.enroll("g", "meanwhile", picture(2))
        call.cancel()
        assert pool.submit(given_up.wait).result()

    def made() -> bool:
        try:
            return bool(asking.create_backup("afterwards").size_bytes)
        except OneglanceError as error:
            if error.reason != "QUEUE_FULL":
                raise
            return False

    until(made)


def test_a_folder_that_cannot_be_made_is_the_servers_fault(models: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    backups = str(tmp_path / "file" / "backups")
    with server_thread(models=models, data_dir=tmp_path / "data", backup_dir=backups) as server:
        with Client(server.address) as client, pytest.raises(OneglanceError) as caught:
            client.create_backup("b")
        assert (caught.value.code.name, caught.value.reason) == ("INTERNAL", "STORE_FAILED")


@pytest.mark.parametrize("folder", [".", "data", "data/backups", "other/../data"])
def test_the_data_directory_is_no_place_for_them(tmp_path: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "other").mkdir()
    with pytest.raises(ValueError, match="outside of the data directory"):
        Settings(data_dir=Path("." if folder == "." else "data"), backup_dir=folder)


def test_a_start_removes_what_a_killed_server_left(tmp_path: Path) -> None:
    (tmp_path / ".oneglance-0.part").touch()
    (tmp_path / "whole").touch()
    with ThreadPoolExecutor() as pool:
        BackupFolder(Mock(), tmp_path, pool)
        BackupFolder(Mock(), tmp_path / "no folder", pool)
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
