"""`oneglance doctor` and `oneglance check-upgrade`: a host and a data directory, looked at without a server."""

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from oneglance_apps.cli import main
from oneglance_index import LocalGalleries, StoreTooNew
from oneglance_server.doctor import machine
from oneglance_server.doctor.checks import directory
from oneglance_server.doctor.disk import disk
from oneglance_server.upgrade import holder_of, upgrade_of

GOLDEN = Path(__file__).parents[1] / "index/golden"


def everything_in(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(one): (one.stat().st_size, one.stat().st_mtime_ns) for one in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("version", sorted(path.name for path in GOLDEN.glob("v*")))
def test_a_rehearsal_tells_and_writes_nothing(version: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    shutil.copytree(GOLDEN / version, data)
    before = everything_in(data)
    assert main(["check-upgrade", str(data)]) == 0
    told = capsys.readouterr().out
    found = upgrade_of(data)
    assert everything_in(data) == before
    assert found.schema == int(version[1:])
    assert found.encodings == 9
    assert ("converted to schema" in told) == (found.schema < found.own)
    assert found.has_room


def test_a_later_version_is_refused_in_words_by_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = max(GOLDEN.glob("v*"), key=lambda path: int(path.name[1:]))
    data = tmp_path / "data"
    shutil.copytree(newest, data)
    db = sqlite3.connect(data / "store.sqlite3")
    db.execute("PRAGMA user_version = 99")  # it is in the log only, as after a crash
    assert upgrade_of(data).schema == 99
    assert main(["check-upgrade", str(data)]) == 1
    assert "a later version wrote it" in capsys.readouterr().out
    assert [finding.verdict for finding in directory(data)][-1] == "bad"
    db.close()
    with pytest.raises(StoreTooNew):
        LocalGalleries.open(data)


def test_want_of_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))  # type: ignore[attr-defined]
    assert main(["check-upgrade", str(GOLDEN / "v1")]) == 1
    assert "There is no room for that" in str(upgrade_of(GOLDEN / "v1"))


@pytest.mark.parametrize("content", [None, b"", b"something else" * 100])
def test_what_is_no_store_is_told(content: bytes | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "store.sqlite3").write_bytes(content)
    assert main(["check-upgrade", str(tmp_path)]) == 1
    assert "store.sqlite3" in capsys.readouterr().err


def test_who_has_it_open(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    galleries = LocalGalleries.open(tmp_path)
    try:
        assert holder_of(tmp_path) == os.getpid()
        assert upgrade_of(tmp_path).encodings == 0
        assert any(f"process {os.getpid()} has it open" in finding.text for finding in directory(tmp_path))
    finally:
        galleries.close()
    assert holder_of(tmp_path) is None


def test_this_host(tmp_path: Path, models: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    command = ["doctor", "--data-dir", str(tmp_path / "data"), "--models", ":".join(map(str, models)), "--json"]
    status = main(command)
    findings = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    about = {finding["about"] for finding in findings}
    assert about >= {
        "versions",
        "processor",
        "instructions",
        "memory",
        "disk",
        "open files",
        "clock",
        "runtimes",
        "data",
    }
    assert [finding["text"].split(":")[0] for finding in findings if finding["about"] == "model"] == [
        "pixels",
        "signal",
    ]
    assert status == any(finding["verdict"] == "bad" for finding in findings)
    assert not list(tmp_path.iterdir())


def test_a_device_that_is_none_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--data-dir", str(tmp_path), "--device", "tpu"]) == 1
    assert 'expected "cpu"' in capsys.readouterr().err


def test_a_model_folder_that_is_none_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--data-dir", str(tmp_path), "--models", str(tmp_path)]) == 1
    assert "bad  model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "verdict", "told"),
    [
        ("fpu sse2", "bad", "no AVX2"),
        ("avx2", "good", "no AVX-512"),
        ("avx2 avx512f avx512_vnni amx_bf16", "good", "AMX"),
        ("fp asimd", "good", "NEON"),
        ("", "note", "can't be told"),
    ],
)
def test_processors(flags: str, verdict: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"model name\t: A\nflags\t\t: {flags}\n" if flags else "")
    found = {finding.about: finding for finding in machine.processor(tmp_path / "cpuinfo", tmp_path)}["instructions"]
    assert (found.verdict, told in found.text) == (verdict, True)


def test_what_a_container_may_use(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("model name : A\nflags : avx2\n")
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "meminfo").write_text("MemAvailable: 16777216 kB\n")
    (tmp_path / "memory.max").write_text(f"{512 << 20}\n")
    assert "may use 0.5" in next(iter(machine.processor(tmp_path / "cpuinfo", tmp_path))).text
    (found,) = machine.memory(tmp_path / "meminfo", tmp_path)
    assert (found.verdict, "0.5 GiB" in found.text) == ("bad", True)
    (tmp_path / "memory.max").write_text("max\n")
    (found,) = machine.memory(tmp_path / "meminfo", tmp_path)
    assert (found.verdict, "16.0 GiB" in found.text) == ("good", True)


@pytest.mark.parametrize(("kind", "verdict"), [("nfs4", "bad"), ("tmpfs", "bad"), ("overlay", "bad"), ("ext4", "good")])
def test_file_systems(kind: str, verdict: str, tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 0 0:1 / / rw - ext4 /dev/a rw\n2 1 0:2 / {tmp_path} rw shared:1 - {kind} b rw\n")
    first = next(iter(disk(tmp_path / "not/there/yet", mounts)))
    if shutil.disk_usage(tmp_path).free > 1 << 30:
        assert (first.verdict, kind in first.text) == (verdict, True)
