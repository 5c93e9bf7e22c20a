"""A file is replaced as a whole or stays as it is: with errors, kills, links, permissions and other kinds of files."""

import errno
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from oneglance_core.files import remove_left_parts, replacing, sync_folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def replace(path: Path, content: bytes = b"new") -> None:
    with replacing(path) as fresh:
        fresh.write_bytes(content)


def test_the_old_content_stands_until_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replacing(path) as fresh:
        assert fresh.parent == tmp_path
        assert fresh.name.startswith(".oneglance-")
        assert fresh.suffix == ".part"
        fresh.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_a_file_can_be_new_empty_relative_and_have_a_long_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with replacing("x" * 255) as fresh:
        monkeypatch.chdir(tmp_path / "elsewhere")
        fresh.write_bytes(b"new")
    with replacing(tmp_path / "empty"):
        pass
    assert (tmp_path / ("x" * 255)).read_bytes() == b"new"
    assert (tmp_path / "empty").read_bytes() == b""
    assert names(tmp_path) == ["elsewhere", "empty", "x" * 255]


def fail(fresh: Path, error: type[BaseException]) -> None:
    fresh.write_bytes(b"half")
    raise error


@pytest.mark.parametrize("links", [True, False], ids=["hard links", "none"])
def test_a_new_file_takes_the_place_of_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:

        def link(*_: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", link)
    path = tmp_path / "file"
    with replacing(path, new=True) as fresh:
        fresh.write_bytes(b"new")
    assert (path.read_bytes(), names(tmp_path)) == (b"new", ["file"])
    with pytest.raises(FileExistsError), replacing(path, new=True):
        pass
    assert (path.read_bytes(), names(tmp_path)) == (b"new", ["file"])


def test_nor_of_one_that_comes_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def replace_what_comes() -> None:
        with replacing(path, new=True) as fresh:
            fresh.write_bytes(b"new")
            path.write_bytes(b"another")

    with pytest.raises(FileExistsError):
        replace_what_comes()
    assert (path.read_bytes(), names(tmp_path)) == (b"another", ["file"])


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_changes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    (tmp_path / "file").write_bytes(b"old")
    for name in ("file", "absent"):
        with pytest.raises(error), replacing(tmp_path / name) as fresh:
            fail(fresh, error)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["fsync", "replace", "fchmod"])
def test_a_failing_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    (tmp_path / "file").write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(OSError, match="No space left") as caught:
            replace(tmp_path / "file")
    assert caught.value.errno == errno.ENOSPC
    assert (tmp_path / "file").read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_the_content_is_synced_before_the_name_and_the_name_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    fsync, rename = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        calls.append("sync folder" if is_folder else f"sync {os.fstat(descriptor).st_size} bytes")
        fsync(descriptor)

    def replaced(old: str, new: str) -> None:
        calls.append("replace")
        rename(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    replace(tmp_path / "file", b"seven b")
    assert calls == ["sync 7 bytes", "replace", "sync folder"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_only_a_file_system_that_cannot_sync_folders_is_excused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fsync = os.fsync

    def refused(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    if number == errno.EIO:
        with pytest.raises(OSError, match="Input/output"):
            replace(tmp_path / "file")
        with pytest.raises(OSError, match="Input/output"):
            sync_folder(tmp_path)
    else:
        replace(tmp_path / "file")
        sync_folder(tmp_path)
    assert (tmp_path / "file").read_bytes() == b"new"  # in place in either case, and nothing beside it
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("permissions", [0o600, 0o640, 0o755, 0o444])
def test_permissions_are_kept(tmp_path: Path, permissions: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(permissions)
    with replacing(path) as fresh:
        assert mode(fresh) == 0o600  # not readable by more than the old one while it is written
        fresh.write_bytes(b"new")
    assert (mode(path), path.read_bytes()) == (permissions, b"new")


def test_a_new_file_gets_the_usual_permissions(tmp_path: Path) -> None:
    replace(tmp_path / "file")
    (tmp_path / "usual").touch()
    assert mode(tmp_path / "file") == mode(tmp_path / "usual")


@pytest.mark.parametrize("there", [True, False], ids=["to a file", "to nothing yet"])
def test_of_a_link_its_file_is_replaced(tmp_path: Path, there: bool) -> None:
    (tmp_path / "a").mkdir()
    real, link, again = tmp_path / "a" / "real", tmp_path / "link", tmp_path / "again"
    if there:
        real.write_bytes(b"old")
        real.chmod(0o640)
    link.symlink_to(Path("a", "real"))
    again.symlink_to("link")
    replace(again)
    assert again.is_symlink()
    assert link.readlink() == Path("a", "real")
    assert not real.is_symlink()
    assert real.read_bytes() == b"new"
    assert not there or mode(real) == 0o640
    assert (names(tmp_path), names(tmp_path / "a")) == (["a", "again", "link"], ["real"])


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "to folder").symlink_to("folder")
    (tmp_path / "circle").symlink_to("circle")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
    before = names(tmp_path)
    for name, number in (
        ("folder", errno.EISDIR),
        ("to folder", errno.EISDIR),
        ("circle", errno.ELOOP),
        ("pipe", errno.EINVAL),
        ("socket", errno.EINVAL),
        ("/dev/null", errno.EINVAL),
        ("no folder/file", errno.ENOENT),
    ):
        with pytest.raises(OSError, match=r".+") as caught, replacing(tmp_path / name):
            pytest.fail("the block was entered")
        assert caught.value.errno == number, name
    assert names(tmp_path) == before
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    assert (tmp_path / "to folder").is_symlink()


def test_a_folder_that_cannot_be_written_to_is_an_oserror() -> None:
    with pytest.raises(OSError, match="oneglance-"):  # nobody can make a file in /proc, root neither
        replace(Path("/proc/file"))


def test_of_two_writers_the_one_that_ends_last_wins(tmp_path: Path) -> None:
    with replacing(tmp_path / "file") as first:
        first.write_bytes(b"first")
        replace(tmp_path / "file", b"second")
        assert (tmp_path / "file").read_bytes() == b"second"
    assert (tmp_path / "file").read_bytes() == b"first"
    assert names(tmp_path) == ["file"]


CHILD = """
import os, sys
from oneglance_core.files import replacing
moment = sys.argv[2]
def pause(*_):
    print("now", flush=True)
    sys.stdin.read()
if moment == "before the sync":
    os.fsync = pause
elif moment == "before the replacing":
    os.replace = pause
elif moment == "after the replacing":
    replace = os.replace
    os.replace = lambda *both: (replace(*both), pause())
with replacing(sys.argv[1]) as fresh:
    with fresh.open("wb") as file:
        file.write(b"n" * 500_000)
        if moment == "while writing":
            pause()
        file.write(b"n" * 500_000)
"""


@pytest.mark.parametrize("moment", ["while writing", "before the sync", "before the replacing", "after the replacing"])
def test_a_kill_at_any_moment_leaves_the_old_or_the_new(tmp_path: Path, moment: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(path), moment],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "now\n"
        child.kill()
    assert child.returncode == -signal.SIGKILL
    if moment == "after the replacing":
        assert path.read_bytes() == b"n" * 1_000_000
        assert names(tmp_path) == ["file"]
    else:
        assert path.read_bytes() == b"old"
        assert [name for name in names(tmp_path) if not name.startswith(".oneglance-")] == ["file"]
    replace(path, b"later")  # what was left does not stand in the way
    assert path.read_bytes() == b"later"


def test_parts_that_nobody_writes_are_removed_and_no_others(tmp_path: Path) -> None:
    (tmp_path / ".oneglance-0.part").write_bytes(b"left")
    (tmp_path / "other").touch()
    with replacing(tmp_path / "file") as fresh:
        fresh.write_bytes(b"new")
        remove_left_parts(tmp_path)
        assert names(tmp_path) == sorted([fresh.name, "other"])
    assert (tmp_path / "file").read_bytes() == b"new"
    remove_left_parts(tmp_path / "no folder")


def test_a_private_file_is_so_before_it_has_content(tmp_path: Path) -> None:
    with replacing(tmp_path / "file", private=True) as fresh:
        assert mode(fresh) == 0o600
    assert mode(tmp_path / "file") == 0o600
