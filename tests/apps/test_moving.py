"""A gallery moves from one real server to another, which are killed in between, and answers there as it did."""

import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance import Client
from oneglance.client.errors import OneglanceError
from oneglance.client.requests import encoding
from oneglance.v1.gallery_pb2 import Gallery
from oneglance.v1.model_pb2 import Model
from oneglance_apps.cli.main import main
from oneglance_apps.moving import folder as files
from oneglance_apps.moving.folder import FolderInvalid, GalleryFolder
from oneglance_apps.moving.transfer import export_gallery, import_gallery, partial_of
from oneglance_index import LocalGalleries, Note, Retention
from tests.running import ServerProcess, server_thread

SUBJECTS = 1500


class Killed(Exception):
    pass


def fill(data_dir: Path, model: Model) -> np.ndarray:
    """A gallery with something of everything; returns probes."""
    random = np.random.default_rng(3)

    def vectors(count: int) -> np.ndarray:
        made: np.ndarray = random.normal(size=(count, model.dimension)).astype(np.float32)
        made /= np.linalg.norm(made, axis=1, keepdims=True)
        return made

    with LocalGalleries.open(data_dir) as store:
        store.create_gallery(
            "g", encoder_digest=model.digest, dimension=model.dimension, description="ä", target_fpir=0.01, doubt="off"
        ).result()
        done = [
            store.enroll("g", f"s{number}", vectors(1 + number % 2), labels={"name": f"é{number}"})
            for number in range(SUBJECTS)
        ]
        for one in done:
            one.result()
        same = vectors(1)
        for number in (9, 3, 7, 3):
            store.enroll("g", f"s{number}", same, notes=[Note(f"k{random.random()}", "a.png")]).result()
        store.add_negative("g", "s5", vectors(1)[0]).result()
        store.set_retention("g", "s6", Retention(time.time() + 1e6, "door", "form 7")).result()
        store.set_threshold("g", 0.5).result()
        store.set_threshold("g", 1.2).result()
        return np.concatenate([same, vectors(5), store.list_likenesses("g", page_size=9).subjects[4].vectors])


def told(client: Client, probes: np.ndarray, digest: str, gallery_id: str = "g") -> object:
    """All that an answer tells, but the ids of encodings, and the gallery's history."""
    answer = client.identify(
        gallery_id, *(encoding(one, digest) for one in probes), max_candidates=50, all_matches=True
    )
    results = [
        (r.subject_id, [(c.subject_id, c.distance, c.score) for c in r.candidates], [m.subject_id for m in r.matches])
        for r in answer.results
    ]
    gallery = Gallery()
    gallery.CopyFrom(client.get_gallery(gallery_id))
    gallery.ClearField("uid")
    gallery.ClearField("id")
    gallery.ClearField("drift")
    subjects = [
        (
            *(s.id, dict(s.labels), s.create_time.ToNanoseconds(), s.update_time.ToNanoseconds(), str(s.retention)),
            *((e.key, e.source, e.create_time.ToNanoseconds()) for e in s.encodings),
            len(s.negatives),
        )
        for s in client.list_subjects(gallery_id)
    ]
    versions = [str(one) for one in list(client.list_thresholds(gallery_id))]
    return results, str(answer.threshold), answer.provenance.gallery_revision, str(gallery), subjects, versions


@pytest.mark.parametrize("layout", ["npy", "parquet"])
def test_a_gallery_moves_though_servers_are_killed(tmp_path: Path, models: tuple[Path, Path], layout: str) -> None:
    a, b, folder = tmp_path / "a", tmp_path / "b", tmp_path / "moved"

    def killing(server: ServerProcess, at: int) -> Callable[[int, int], None]:
        def progress(done: int, total: int) -> None:
            if at <= done < total and server.process.poll() is None:
                server.kill()

        return progress

    with ServerProcess(a, models=models[0]) as server, Client(server.address) as client:
        (model,) = client.list_models()
        server.terminate()
    probes = fill(a, model)
    with (
        ServerProcess(a, models=models[0]) as server,
        Client(server.address) as client,
        pytest.raises((OneglanceError, ConnectionError)),
    ):
        export_gallery(client, "g", folder, layout, killing(server, 500))  # type: ignore[arg-type]
    assert not folder.exists()
    with ServerProcess(a, models=models[0]) as server, Client(server.address) as client:
        client.delete_subject("g", "s0")  # that came already
        client.update_labels("g", "s1", {"name": "new"})
        sent: list[int] = []
        export_gallery(client, "g", folder, layout, lambda done, _: sent.append(done))  # type: ignore[arg-type]
        assert min(sent) >= 499  # it went on
        before = told(client, probes, model.digest)
    assert not partial_of(folder).exists()
    assert [name for name in folder.iterdir() if name.stat().st_mode & 0o077] == []
    moved = GalleryFolder(folder)
    moved.check()
    assert "s0" not in {one.id for one in moved.subjects()}
    with (
        ServerProcess(b, models=models[0]) as server,
        Client(server.address) as client,
        pytest.raises((OneglanceError, ConnectionError)),
    ):
        import_gallery(client, moved, "h", killing(server, 300))
    with ServerProcess(b, models=models[0]) as server, Client(server.address) as client:
        assert client.get_gallery("h").unfinished
        with pytest.raises(OneglanceError) as caught:
            client.identify("h", encoding(probes[0], model.digest))
        assert caught.value.reason == "GALLERY_UNFINISHED"
        done: list[int] = []
        import_gallery(client, moved, "h", lambda count, _: done.append(count))
        assert done[0] >= 300  # it went on
        assert told(client, probes, model.digest, "h") == before
        with pytest.raises(OneglanceError) as caught:
            import_gallery(client, moved, "h", lambda *_: None)
        assert caught.value.reason == "GALLERY_EXISTS"


def command(address: str, *words: str) -> "subprocess.Popen[bytes]":
    run = [sys.executable, "-m", "oneglance_apps.cli", *words, "--server", address]
    return subprocess.Popen(run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_commands_that_are_killed_go_on(
    tmp_path: Path, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "moved"
    with ExitStack() as stack:
        a = stack.enter_context(server_thread(data_dir=tmp_path / "empty", models=(models[0],)))
        with Client(a.address) as client:
            (model,) = client.list_models()
    probes = fill(tmp_path / "a", model)
    with (
        server_thread(data_dir=tmp_path / "a", models=(models[0],)) as a,
        server_thread(data_dir=tmp_path / "b", models=(models[0],)) as b,
        Client(a.address) as at_a,
        Client(b.address) as at_b,
    ):
        process = command(a.address, "export-gallery", "g", str(folder))
        log = partial_of(folder) / "log"
        while process.poll() is None and not (log.exists() and log.stat().st_size):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert main(["export-gallery", "g", str(folder), "--server", a.address]) == 0 or folder.exists()
        assert "NOT encrypted" in capsys.readouterr().err
        process = command(b.address, "import-gallery", str(folder), "--as", "there")
        while process.poll() is None and not any(one.id == "there" for one in at_b.list_galleries()):
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        status = main(["import-gallery", str(folder), "--as", "there", "--server", b.address])
        assert status == 0 or not at_b.get_gallery("there").unfinished
        assert told(at_b, probes, model.digest, "there") == told(at_a, probes, model.digest)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path]) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    with server_thread(data_dir=folder / "a", models=(models[0],)) as server, Client(server.address) as client:
        (model,) = client.list_models()
        client.create_gallery("g")
        rows = np.eye(model.dimension, dtype=np.float32)[:3]
        for number, row in enumerate(rows):
            client.enroll("g", f"s{number}", encoding(row, model.digest), doubt_policy="off")
        export_gallery(client, "g", folder / "moved", "npy", lambda *_: None)
    return folder / "moved"


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("encodings.npy", lambda content: content[:-1], "cut off"),
        ("encodings.npy", lambda content: content[:-1] + bytes([content[-1] ^ 1]), "SHA-256"),
        ("subjects.jsonl", lambda content: content.replace(b"s1", b"s2"), "SHA-256"),
        ("thresholds.jsonl", lambda content: content + b"\n", "cut off"),
        ("manifest.json", lambda content: content.replace(b'"version": 1', b'"version": 2'), "version 2"),
        ("manifest.json", lambda content: content.replace(b'"dimension"', b'"dimensions"'), "digest"),
        ("manifest.json", lambda content: content[: len(content) // 2], "JSON"),
        ("manifest.json", lambda _: b"{}", "exported gallery"),
    ],
)
def test_files_that_were_harmed_are_refused(
    exported: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes], words: str
) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / name).write_bytes(change((copy / name).read_bytes()))
    with pytest.raises(FolderInvalid, match=words):
        GalleryFolder(copy)


def forged(exported: Path, copy: Path, change: Callable[..., None]) -> Path:
    """A copy with other settings, subjects or encodings, and checksums that fit: what other programs may get wrong."""
    shutil.copytree(exported, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    lines = [json.loads(line) for line in (copy / "subjects.jsonl").read_text().splitlines()]
    rows = np.load(copy / "encodings.npy")
    change(manifest["gallery"], lines, rows)
    (copy / "subjects.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    np.save(copy / "encodings.npy", rows)
    for name, known in manifest["files"].items():
        content = (copy / name).read_bytes()
        known.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    manifest["digest"] = files._digest(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def _twice(_: object, lines: list[dict[str, object]], __: object) -> None:
    lines[1]["id"] = lines[0]["id"]


def _nan(_: object, __: object, rows: np.ndarray) -> None:
    rows[1, 0] = np.nan


def _longer(gallery: dict[str, object], _: object, rows: np.ndarray) -> None:
    gallery["unit_norm"] = True
    rows[1] *= 2


def _fewer(_: object, lines: list[dict[str, object]], __: object) -> None:
    del lines[1]


def _same_row(_: object, lines: list[dict[str, object]], __: object) -> None:
    lines[1]["encodings"] = lines[0]["encodings"]


@pytest.mark.parametrize(
    ("change", "words"),
    [(_twice, "twice"), (_nan, "NaN"), (_longer, "length 2"), (_fewer, "2 subjects"), (_same_row, "row 0")],
)
def test_contents_that_are_wrong_are_refused(
    exported: Path, tmp_path: Path, change: Callable[..., None], words: str
) -> None:
    copy = forged(exported, tmp_path / "copy", change)
    with pytest.raises(FolderInvalid, match=words):
        GalleryFolder(copy).check()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("manifest.json", {"layout": "tar"}),
        ("manifest.json", {"layout": ["npy"]}),
        ("manifest.json", {"files": {}}),
        ("manifest.json", {"files": []}),
        ("manifest.json", {"gallery": {"dimension": "many"}}),
        ("manifest.json", {"gallery": 3}),
        ("thresholds.jsonl", b"[\n"),
        ("thresholds.jsonl", b'{"version": {}}\n'),
        ("subjects.jsonl", b"3\n"),
        ("subjects.jsonl", b'{"id": "it"}\n'),
        ("subjects.jsonl", b'{"id": "it", "encodings": [{"row": "first"}], "negatives": []}\n'),
        ("subjects.jsonl", b'{"id": "it", "encodings": [], "negatives": [{"row": 1}]}\n'),
        ("subjects.jsonl", b"[" * 100_000),
        ("subjects.jsonl", b"\xff\n"),
        ("encodings.npy", b""),
        ("encodings.npy", b"\x93NUMPY"),
        ("negatives.npy", b"nothing"),
    ],
)
def test_files_of_another_make_are_refused(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: Any
) -> None:
    copy = shutil.copytree(exported, tmp_path / "copy")
    manifest = json.loads((copy / "manifest.json").read_text())
    if isinstance(content, dict):
        manifest |= content
    else:
        (copy / name).write_bytes(content)
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["digest"] = files._digest(manifest)
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FolderInvalid, match=name):
        GalleryFolder(copy).check()
    # Nothing listens there: it is told before a server is asked.
    assert main(["import-gallery", str(copy), "--server", "127.0.0.1:1"]) == 2
    assert f"oneglance: {copy / name}: " in capsys.readouterr().err


def test_a_full_disk_is_told_and_nothing_is_half_there(
    exported: Path, tmp_path: Path, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with server_thread(data_dir=tmp_path / "b", models=(models[0],)) as server, Client(server.address) as client:
        import_gallery(client, GalleryFolder(exported), "g", lambda *_: None)
        again = ["export-gallery", "g", str(tmp_path / "out"), "--server", server.address]
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            assert main(again) == 1
        assert not (tmp_path / "out").exists()
        assert main(again) == 0
        assert (tmp_path / "out/encodings.npy").read_bytes() == (exported / "encodings.npy").read_bytes()


def test_a_server_names_what_it_cant_import(exported: Path, tmp_path: Path, models: tuple[Path, Path]) -> None:
    with server_thread(data_dir=tmp_path / "b", models=(models[0],)) as server, Client(server.address) as client:
        copy = forged(exported, tmp_path / "nan", _nan)
        with pytest.raises(OneglanceError) as caught:
            import_gallery(client, GalleryFolder(copy), "g", lambda *_: None)
        assert caught.value.reason == "IMPORT_INVALID"
        assert [field for field, _ in caught.value.field_violations] == ["subjects[1].encodings[0].values"]
        assert client.get_gallery("g").unfinished
        other = forged(exported, tmp_path / "other", lambda gallery, *_: gallery.update(description="x"))
        with pytest.raises(OneglanceError) as caught:
            import_gallery(client, GalleryFolder(other), "g", lambda *_: None)
        assert caught.value.reason == "IMPORT_CONFLICT"
        client.delete_gallery("g")
        assert import_gallery(client, GalleryFolder(exported), "g", lambda *_: None) == 3


def test_what_answers_may_lose_comes_along(exported: Path, tmp_path: Path, models: tuple[Path, Path]) -> None:
    with server_thread(data_dir=tmp_path / "b", models=(models[0],)) as server, Client(server.address) as client:
        for wrong in ("few", "", "approximate:0.5", "approximate:nan", "approximate:x", "approximate:0.9:always"):
            copy = forged(exported, tmp_path / "copy", lambda gallery, *_: gallery.update(kind=wrong))  # noqa: B023
            with pytest.raises(OneglanceError) as caught:
                import_gallery(client, GalleryFolder(copy), "g", lambda *_: None)
            assert (caught.value.reason, caught.value.field_violations[0][0]) == (
                "IMPORT_INVALID",
                "settings.gallery.kind",
            )
            shutil.rmtree(copy)
        assert list(client.list_galleries()) == []
        import_gallery(client, GalleryFolder(exported), "g", lambda *_: None)
        client.set_approximation("g", 0.995, exact_on_alarm=True)
        export_gallery(client, "g", tmp_path / "lossy", "npy", lambda *_: None)
        import_gallery(client, GalleryFolder(tmp_path / "lossy"), "h", lambda *_: None)
        came, was = client.get_gallery("h"), client.get_gallery("g")
        assert (came.approximation, came.approximation_state) == (was.approximation, was.approximation_state)
        assert (came.approximation.mates_found, came.approximation.exact_on_alarm) == (0.995, True)


def test_an_export_of_a_gallery_that_was_made_anew_doesnt_go_on(tmp_path: Path, models: tuple[Path, Path]) -> None:
    with server_thread(data_dir=tmp_path / "a", models=(models[0],)) as server, Client(server.address) as client:
        (model,) = client.list_models()
        client.create_gallery("g")
        client.enroll("g", "s", encoding(np.eye(model.dimension, dtype=np.float32)[0], model.digest))

        def end(*_: object) -> None:
            raise Killed

        with pytest.raises(Killed):
            export_gallery(client, "g", tmp_path / "f", "npy", end)
        uid = client.get_gallery("g").uid
        client.delete_gallery("g")
        client.create_gallery("g")
        assert client.get_gallery("g").uid != uid
        with pytest.raises(OneglanceError) as caught:
            export_gallery(client, "g", tmp_path / "f", "npy", lambda *_: None)
        assert caught.value.reason == "GALLERY_NOT_FOUND"
        os.rename(partial_of(tmp_path / "f"), tmp_path / "old")
        assert export_gallery(client, "g", tmp_path / "f", "npy", lambda *_: None).subject_count == 0
