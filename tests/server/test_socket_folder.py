"""Folders of sockets: none outlives the next start, and none is taken from a process that lives."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from oneglance_server.socket_folder import socket_folder

KILLED = """
import os
from oneglance_server.socket_folder import socket_folder
made = socket_folder()
print(made.__enter__(), flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.fixture(autouse=True)
def tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def left_by_kill_9(tmp: Path) -> Path:
    done = subprocess.run(
        [sys.executable, "-c", KILLED],
        env={**os.environ, "TMPDIR": str(tmp)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == -9
    folder = Path(done.stdout.strip())
    assert folder.parent == tmp
    assert folder.is_dir()
    return folder


def test_what_a_killed_process_left_is_gone_with_the_next_one(tmp: Path) -> None:
    with socket_folder() as alive:
        dead = left_by_kill_9(tmp)
        (dead / "share").touch()
        with socket_folder() as another:
            assert sorted(tmp.iterdir()) == sorted([alive, another])
            assert another.stat().st_mode & 0o777 == 0o700
    assert list(tmp.iterdir()) == []


def test_what_is_none_of_ours_stays(tmp: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    dead = left_by_kill_9(tmp)
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "folder"
    dead.rename(elsewhere)
    (tmp / "oneglance-sockets-link").symlink_to(elsewhere)
    (tmp / "oneglance-sockets-empty").mkdir()
    (tmp / "oneglance-sockets-file").touch()
    (tmp / "oneglance-sockets-strange").mkdir()
    (tmp / "oneglance-sockets-strange/lock").symlink_to(elsewhere / "lock")
    before = sorted(tmp.iterdir())
    with socket_folder():
        pass
    assert sorted(tmp.iterdir()) == before
    assert (elsewhere / "lock").is_file()
