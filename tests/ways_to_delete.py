"""Ways to delete, each after something that can happen to a store: see erasing.py."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import shutil
import signal
import sqlite3
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_core.mapping import EncodingMap
from oneglance_index import Filling, GalleryError, LocalGalleries, MapLoss, Retention
from tests.thief import Thief, recording
from tests.waiting import until

DIMENSION = 8
GOLDEN = Path(__file__).with_name("index") / "golden"
# What must be nowhere, by subject, once that is deleted.
Secrets = dict[str, tuple[bytes, ...]]


def vectors_of(name: str) -> NDArray[np.float32]:
    """The encodings of a subject, made of its name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    return rng.standard_normal((1 + len(name) % 3, DIMENSION), dtype=np.float32)


def labels_of(name: str) -> dict[str, str]:
    return {"secret": f"the label of {name}, {zlib.crc32(name.encode()):08x}"}


def secrets_of(*names: str) -> Secrets:
    """The bytes of their vectors, of their negatives, of their labels."""
    found = {}
    for name in names:
        vectors = vectors_of(name)
        texts = [text.encode() for text in labels_of(name).values()]
        found[name] = (*(vector.tobytes() for vector in vectors), (-vectors[0]).tobytes(), *texts)
    return found


def request_of(name: str) -> dict[str, object]:
    return {"request_id": f"request of {name}", "request_digest": hashlib.sha256(name.encode()).digest()}


def answers_of(name: str) -> Secrets:
    """What is remembered of the request that enrolled somebody."""
    digest = hashlib.sha256(name.encode()).digest()
    return {f"request of {name}": (digest, digest.hex().encode())}


def enroll(galleries: LocalGalleries, gallery: str, *names: str, on_existing: str = "add") -> None:
    for name in names:
        galleries.enroll(
            *(gallery, name, vectors_of(name)),
            labels=labels_of(name),
            on_existing=on_existing,  # type: ignore[arg-type]
            **request_of(name),  # type: ignore[arg-type]
        ).result()
        galleries.add_negative(gallery, name, -vectors_of(name)[0]).result()


@contextlib.contextmanager
def opened(data_dir: Path, *names: str) -> Iterator[LocalGalleries]:
    """A store with a gallery "g" that has these subjects, and a snapshot."""
    with LocalGalleries.open(data_dir) as galleries:
        if names:
            galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION).result()
            enroll(galleries, "g", *names)
            galleries.snapshot()
        yield galleries


# Each yields what was done, and what must be nowhere then.
Way = Callable[[Path, Thief], Iterator[tuple[str, Secrets]]]


def in_every_way(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    with opened(data_dir, "whole", "renewed", "relabelled", "part", "kept", "merged", "into", "moved") as galleries:
        galleries.create_gallery("other", encoder_digest="e", dimension=DIMENSION, fusion="mean").result()
        enroll(galleries, "other", "elsewhere")
        galleries.snapshot()
        thief.look()
        galleries.delete_subject("g", "whole").result()
        yield "a subject", secrets_of("whole") | answers_of("whole")
        new = vectors_of("new")
        galleries.enroll("g", "renewed", new, labels=labels_of("new"), on_existing="replace").result()
        negative = galleries.get_subject("g", "renewed").negatives[0]
        galleries.delete_negative("g", "renewed", negative.id).result()
        yield "what was replaced, and its negative", secrets_of("renewed")
        thief.look()
        galleries.delete_gallery("other").result()
        yield "a gallery", secrets_of("elsewhere") | answers_of("elsewhere")
        for encoding in galleries.get_subject("g", "part").encodings[1:]:
            galleries.delete_encoding("g", "part", encoding.id).result()
        yield "encodings", {"part": tuple(vector.tobytes() for vector in vectors_of("part")[1:])}
        galleries.enroll("g", "relabelled", vectors_of("more"), labels=labels_of("more")).result()
        yield "labels", {"relabelled": (labels_of("relabelled")["secret"].encode(),)}
        thief.look()
        galleries.update_labels("g", "moved", {"secret": "another"}).result()
        yield "labels alone", {"moved": (labels_of("moved")["secret"].encode(),)}
        (one, *_) = galleries.get_subject("g", "moved").encodings
        galleries.move_encodings("g", "moved", "into", encoding_id=one.id).result()
        galleries.merge_subjects("g", "merged", "into").result()
        galleries.rename_subject("g", "into", "called otherwise").result()
        thief.look()
        galleries.snapshot()
        thief.look()
        galleries.delete_subject("g", "called otherwise").result()
        yield "those who were merged", secrets_of("merged", "into") | answers_of("merged") | answers_of("into")
        yield "an encoding that was moved", {"moved": (vectors_of("moved")[0].tobytes(),)}
        galleries.set_fusion("g", "mean").result()
        galleries.compact()
        yield "another rule, compacted", secrets_of("whole", "renewed", "elsewhere")
    yield "closed", secrets_of("whole", "renewed", "elsewhere")
    with opened(data_dir) as galleries:
        assert galleries.get_subject("g", "kept").labels == labels_of("kept")
        yield "opened again", secrets_of("whole", "renewed", "elsewhere")


def while_the_gallery_moves_to_another_encoder(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    """Under the name that moves: of the gallery that waits, too, whose vectors are halves of the others'."""

    def by_both(*names: str) -> Secrets:
        halves = {name: tuple(half.tobytes() for half in _halves_of(name)) for name in names}
        return {name: (*secrets, *halves[name]) for name, secrets in secrets_of(*names).items()}

    names = ("whole", "part", "expired", "back", "renamed", "merged", "into", "mapped", "left")
    with opened(data_dir, *names) as galleries:
        galleries.start_move("g", "new", encoder_digest="half", dimension=DIMENSION // 2).result()
        for name in names[:-2]:
            galleries.enroll("new", name, _halves_of(name)).result()
        made = EncodingMap("ridge", 1.0, np.eye(DIMENSION, DIMENSION // 2), np.full(DIMENSION // 2, 0.5), False)
        loss = MapLoss("ridge", "e", "half", "map", 100, 200, 50, 80, 8, 2, 1, 0, 0.5)
        galleries.fill_by_map("g", made, loss).result()
        galleries.delete_subject("new", "left").result()
        galleries.snapshot()
        thief.look()
        galleries.delete_subject("g", "whole").result()
        yield "a subject", by_both("whole")
        (_, *others) = galleries.get_subject("g", "part").encodings
        for one in others:
            galleries.delete_encoding("g", "part", one.id).result()
        galleries.enroll("new", "mapped", _halves_of("mapped")).result()
        yield "mapped encodings", {"mapped": tuple(one.tobytes() for one in made(vectors_of("mapped")))}
        gone = (*vectors_of("part")[1:], *_halves_of("part"))
        yield "encodings: the subject of the other gallery goes", {"part": tuple(one.tobytes() for one in gone)}
        galleries.set_retention("g", "expired", Retention(1.0)).result()
        galleries._sweeper.sweep()
        yield "whose time is over", by_both("expired")
        galleries.cut_over("g", leave=True).result()
        galleries.snapshot()
        thief.look()
        galleries.delete_subject("g", "back").result()
        galleries.delete_subject("g", "left").result()
        galleries.merge_subjects("g", "merged", "into").result()
        galleries.delete_subject("g", "into").result()
        yield "after the cut-over", by_both("back", "left", "merged", "into")
        galleries.roll_back("g", leave=True).result()
        galleries.end_move("g").result()
        yield "the one that waited", {"renamed": tuple(half.tobytes() for half in _halves_of("renamed"))}


def _halves_of(name: str) -> NDArray[np.float32]:
    return np.ascontiguousarray(vectors_of(name)[:, : DIMENSION // 2]) + np.float32(1)


def of_pictures(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    """Of a gallery that keeps crops of the pictures, and of the one that waits, which has them, too."""

    def crops_of(name: str) -> list[bytes]:
        return [f"{place} of the pictures of {name}, ".encode() * 500 for place in range(len(vectors_of(name)))]

    names = ("whole", "part", "renewed", "moved", "merged", "into", "expired", "stays", "left")
    with LocalGalleries.open(data_dir) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=DIMENSION, keep_crops=True).result()
        for name in names:
            galleries.enroll("g", name, vectors_of(name), crops=crops_of(name)).result()
        galleries.start_move("g", "new", encoder_digest="half", dimension=DIMENSION // 2).result()
        for left in galleries.list_left_crops("g").subjects:
            if left.subject_id != "left":
                crops = [one.crop for one in left.encodings]
                made_of = Filling(tuple(one.encoding_id for one in left.encodings), left.beside)
                galleries.enroll(
                    "new", left.subject_id, _halves_of(left.subject_id), crops=crops, filling=made_of
                ).result()
        thief.look()
        galleries.delete_subject("g", "whole").result()
        yield "a subject", {"whole": tuple(crops_of("whole"))}
        (_, *others) = galleries.get_subject("g", "part").encodings
        for one in others:
            galleries.delete_encoding("g", "part", one.id).result()
        yield "encodings", {"part": tuple(crops_of("part")[1:])}
        galleries.enroll("g", "renewed", vectors_of("renewed"), on_existing="replace").result()
        yield "what was replaced", {"renewed": tuple(crops_of("renewed"))}
        thief.look()
        (one, *_) = galleries.get_subject("g", "moved").encodings
        galleries.move_encodings("g", "moved", "into", encoding_id=one.id).result()
        galleries.merge_subjects("g", "merged", "into").result()
        thief.look()
        galleries.delete_subject("g", "into").result()
        yield "what was moved and merged", {"into": (*crops_of("into"), *crops_of("merged"), crops_of("moved")[0])}
        galleries.set_retention("g", "expired", Retention(1.0)).result()
        galleries._sweeper.sweep()
        yield "whose time is over", {"expired": tuple(crops_of("expired"))}
        assert thief.of({"stays": tuple(crops_of("stays"))})
        galleries.set_keep_crops("g", False).result()
        yield "all of both galleries", {name: tuple(crops_of(name)) for name in names}
        assert galleries.get_gallery("g").subjects == 5


def after_a_conversion(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    """Of a store that an earlier version wrote in the clear."""
    shutil.copytree(GOLDEN / "v5", data_dir, dirs_exist_ok=True)
    vector = np.array([1, 3, 0.5], np.float32)
    with opened(data_dir) as galleries:
        thief.look()
        galleries.delete_subject("people", "s3").result()
        yield "a subject", {"s3": (vector.tobytes(), "Zoë 3".encode(), b"Zo\\u00eb 3")}


def of_a_write_that_is_undone(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    with opened(data_dir, "s", "t") as galleries:

        def fail(_: object) -> None:
            raise MemoryError

        prepare, galleries._opened.prepare = galleries._opened.prepare, fail  # type: ignore[method-assign, assignment]
        undone = galleries.enroll("g", "s", vectors_of("undone"), labels=labels_of("undone"), on_existing="replace")
        assert undone.exception() is not None
        galleries._opened.prepare = prepare  # type: ignore[method-assign]
        thief.look()
        galleries.delete_subject("g", "t").result()  # the next commit, and its keys go after those
        yield "undone", secrets_of("undone")


def on_a_full_disk(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    with opened(data_dir, "s", "t") as galleries:
        galleries._upkeep.close(0)
        log = data_dir / "store.sqlite3-wal"
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (log.stat().st_size + 8192, before[1]))
            refused = galleries.enroll("g", "refused", np.repeat(vectors_of("refused"), 60, axis=0)).exception()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
            signal.signal(signal.SIGXFSZ, handler)
        assert isinstance(refused, GalleryError)
        thief.look()
        galleries.delete_subject("g", "t").result()
        yield "refused", {"refused": secrets_of("refused")["refused"][:1]}


def on_a_disk_that_fails(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    with opened(data_dir, "s", "t") as galleries:
        thief.look()
        sync, fails = os.fdatasync, [True]

        def fail(descriptor: int) -> None:
            if fails.pop() if fails else False:
                raise OSError(errno.EIO, "the disk failed")
            sync(descriptor)

        os.fdatasync = fail  # type: ignore[assignment]
        try:
            galleries.delete_subject("g", "t").exception()  # it may be committed, and not answered for
            until(lambda: galleries.trouble() is None)
        finally:
            os.fdatasync = sync
        yield "tried again", secrets_of("t")


def from_the_cells_of_a_disk(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    """What was overwritten may be there yet; it is worth nothing once the key above was rotated."""
    thief.cells = {"slots"}
    with opened(data_dir, "s", "t") as galleries:
        galleries.create_gallery("other", encoder_digest="e", dimension=DIMENSION).result()
        enroll(galleries, "other", "elsewhere")
        thief.look()
        galleries.delete_subject("g", "t").result()
        galleries.rotate_keys("g")
        yield "a subject, and the gallery's key rotated", secrets_of("t")
        thief.cells = {"slots", "records"}
        galleries.delete_gallery("other").result()
        galleries.rotate_keys()
        yield "a gallery, and the master key rotated", secrets_of("elsewhere", "t")
        assert galleries.get_subject("g", "s").labels == labels_of("s")


def after_a_rotation_that_was_killed(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    from oneglance_index.store import database

    rotate = LocalGalleries.rotate_keys
    with opened(data_dir, "s", "t"):
        thief.look()

    def die() -> None:
        galleries = LocalGalleries.open(data_dir)
        galleries.delete_subject("g", "t").result()
        database.settle_master_key = lambda *_: os._exit(9)  # type: ignore[attr-defined]
        rotate(galleries)
        os._exit(9)

    _in_a_process(die)
    yield "killed", secrets_of("t")
    with opened(data_dir) as galleries:
        assert galleries.get_subject("g", "s").labels == labels_of("s")
    yield "opened again", secrets_of("t")


def after_a_restore(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    from oneglance_index import restore
    from oneglance_index.store import backup

    copy = data_dir.with_name(data_dir.name + "-copy")
    with opened(data_dir, "s", "t", "u"):
        backup.back_up(data_dir / "store.sqlite3", copy)
        thief.look()

    def die() -> None:
        backup._try_keys = lambda *_: os._exit(9)
        restore(copy, data_dir)

    _in_a_process(die)
    with opened(data_dir) as galleries:
        galleries.delete_subject("g", "t").result()
        yield "one that was killed", secrets_of("t")
    former = restore(copy, data_dir)
    assert former is not None
    shutil.rmtree(former)  # as the documents say
    with opened(data_dir) as galleries:
        galleries.delete_subject("g", "t").result()
        galleries.delete_subject("g", "u").result()
        assert galleries.get_subject("g", "s").labels == labels_of("s")
        yield "one that was done", secrets_of("t", "u")


def after_a_repair(data_dir: Path, thief: Thief) -> Iterator[tuple[str, Secrets]]:
    from oneglance_index import repair

    with opened(data_dir, "s", "t", "u") as galleries:
        thief.look()
        galleries.delete_subject("g", "t").result()
    with sqlite3.connect(data_dir / "store.sqlite3") as db:
        db.execute("UPDATE encodings SET created = 5 WHERE number = 1")
    db.close()
    former, _ = repair(data_dir, "")
    with opened(data_dir) as galleries:
        galleries.delete_subject("g", "u").result()
        assert former.exists()
        yield "what it moved aside is there", secrets_of("t", "u")


WAYS: tuple[Way, ...] = (
    in_every_way,
    while_the_gallery_moves_to_another_encoder,
    of_pictures,
    after_a_conversion,
    of_a_write_that_is_undone,
    on_a_full_disk,
    on_a_disk_that_fails,
    from_the_cells_of_a_disk,
    after_a_rotation_that_was_killed,
    after_a_restore,
    after_a_repair,
)


def _in_a_process(work: Callable[[], None]) -> None:
    """That dies in the middle of it."""
    if (child := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def found_by(way: Way, folder: Path) -> dict[str, set[str]]:
    """After each step of a way, of whom anything could be rebuilt of all who were deleted."""
    (folder / "data").mkdir(parents=True)
    thief = Thief(folder / "data", folder / "ciphertexts")
    with recording(folder / "ciphertexts"):
        return {step: thief.of(gone) for step, gone in way(folder / "data", thief)}
