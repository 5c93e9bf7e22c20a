"""More galleries than files may be open."""

from __future__ import annotations

import os
import resource
import threading
import traceback
from pathlib import Path

import numpy as np

from oneglance_index import LocalGalleries, check_directory
from oneglance_index.store.descriptors import Descriptors

GALLERIES = [f"g{i:03}" for i in range(200)]
VECTOR = np.eye(3, dtype=np.float32)[:1]


def delete_all(data_dir: Path) -> None:
    with LocalGalleries.open(data_dir) as galleries:
        made = [galleries.create_gallery(name, encoder_digest="e", dimension=3) for name in GALLERIES]
        enrolled = [galleries.enroll(name, subject, VECTOR) for name in GALLERIES for subject in ("a", "b")]
        deleted = [galleries.delete_subject(name, "a") for name in GALLERIES]
        for gallery in made:
            gallery.result()
        for one in enrolled:
            one.result()
        for gone in deleted:
            gone.result()
    with LocalGalleries.open(data_dir) as galleries:
        for name in GALLERIES:
            assert [subject.id for subject in galleries.list_subjects(name).subjects] == ["b"]
        galleries.rotate_keys(GALLERIES[0])
        for gone in [galleries.delete_subject(name, "b") for name in GALLERIES]:
            gone.result()
        galleries.delete_gallery(GALLERIES[0]).result()
        assert galleries.trouble() is None


def test_deletions_and_starts_go_on(tmp_path: Path) -> None:
    if (child := os.fork()) == 0:  # a limit is the process's
        status = 1
        try:
            used = len(os.listdir("/proc/self/fd"))
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (used + 130, most))
            delete_all(tmp_path)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert list(check_directory(tmp_path, "")) == []


def test_a_file_in_use_stays_open_and_few_others_do(tmp_path: Path) -> None:
    for name in "abcdef":
        (tmp_path / name).write_text(name)
    before = len(os.listdir("/proc/self/fd"))
    files = Descriptors(tmp_path, most=2)

    def use(name: str) -> None:
        for _ in range(300):
            with files.using(name) as file:
                assert os.pread(file, 9, 0) == name.encode()
                right.append(name)

    right: list[str] = []
    with files.using("a") as a, files.using("b") as b:
        users = [threading.Thread(target=use, args=(name,)) for name in "bcdef"]
        for user in users:
            user.start()
        for user in users:
            user.join()
        files.forget("b")
        assert (os.pread(a, 9, 0), os.pread(b, 9, 0)) == (b"a", b"b")
    assert len(right) == 1500
    with files.using("c"):
        assert len(os.listdir("/proc/self/fd")) <= before + 3  # with the folder
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before
