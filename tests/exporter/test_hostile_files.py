"""Files that were made to do harm: each is a typed error, and takes no more memory or time than an honest one."""

import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance_core import archives
from oneglance_core.array_files import ArrayFileError, array_in, arrays_in, load_array
from oneglance_core.judging.errors import BadEncodings
from oneglance_core.judging.labelled import read_encodings
from oneglance_core.sessions.memory import limited_memory
from oneglance_core.toml_files import TomlError, parse_toml, read_toml
from oneglance_exporter.data import parquet as rows
from oneglance_exporter.data.files import array_of, labelled_files
from oneglance_exporter.errors import DataError
from oneglance_exporter.stylizer.styles import read_styles

ZEROS = bytes(1 << 20)


@pytest.fixture(autouse=True)
def little_memory(request: pytest.FixtureRequest) -> Iterator[None]:
    of_arrow = "table" in request.node.name  # which ends the process, when it gets none
    with limited_memory(0 if of_arrow else 512 << 20):
        yield


def npy(shape: str, dtype: str = "'<f4'", body: bytes = b"") -> bytes:
    header = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}}}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def bomb(path: Path, name: str, megabytes: int = 8) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(name, "w", force_zip64=True) as file:
        for _ in range(megabytes):
            file.write(ZEROS)
    return path


def test_honest_arrays_are_read(tmp_path: Path) -> None:
    for array in (
        np.arange(12.0).reshape(3, 4),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.zeros((0, 3)),
        np.array(3),
    ):
        file = io.BytesIO()
        np.save(file, array)
        (tmp_path / "a.npy").write_bytes(file.getvalue())
        for found in (array_in(file.getvalue()), load_array(tmp_path / "a.npy")):
            assert found.dtype == array.dtype
            assert np.array_equal(found, array)
            assert found.shape == array.shape
        np.savez_compressed(tmp_path / "a.npz", one=array, names=np.array(["x", "yz"]))
        read = arrays_in(tmp_path / "a.npz")
        assert np.array_equal(read["one"], array)
        assert read["names"].tolist() == ["x", "yz"]
        assert list(arrays_in(tmp_path / "a.npz", ["names", "other"])) == ["names"]


@pytest.mark.parametrize(
    "content",
    [
        npy(f"({2**40},)"),
        npy(f"({2**40}, {2**40})"),
        npy("(-1,)", body=bytes(64)),
        npy("(2,)", "'|O'", pickle.dumps([1, 2])),
        npy("(2,)", "[('a', '|O')]", pickle.dumps([1, 2])),
        npy("(1,)", "'<f4'", b"\0"),
        npy("(" + "(" * 2000 + ")" * 2000 + ",)"),
        npy("(1,)" + " " * 20_000, body=bytes(4)),
        b"\x93NUMPY\x03\x00" + bytes(100),
        b"\x93NUMPY",
        b"PK\x03\x04" + bytes(100),
        b"",
    ],
    ids=lambda content: f"{len(content)} bytes",
)
def test_an_array_that_claims_what_it_has_not_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ArrayFileError):
        array_in(content)
    with pytest.raises(ArrayFileError):
        load_array(tmp_path / "a.npy")
    with pytest.raises(ValueError):  # noqa: PT011  (what who reads examples tells)
        array_of(content)


def test_a_bomb_of_arrays_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_BYTES", 1 << 20)
    path = bomb(tmp_path / "a.npz", "inputs.npy")
    with pytest.raises(ArrayFileError, match="too much to be believed"):
        arrays_in(path)
    with pytest.raises(DataError, match="too much to be believed"):
        labelled_files([path], [".npz"])
    with pytest.raises(BadEncodings, match=r"needs the arrays|too much"):
        read_encodings(bomb(tmp_path / "b.npz", "encodings.npy"))


def test_a_bomb_of_pictures_is_refused_when_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "ALWAYS_BYTES", 1 << 20)
    path = bomb(tmp_path / "a.zip", "s/1.png")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("t/1.png", b"honest")
    one, other = labelled_files([path])
    with pytest.raises(DataError, match=r"at most|too much to be believed"):
        one.read()
    assert other.read() == b"honest"


@pytest.mark.parametrize("size", [2**33, 2**60])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_shard_that_claims_endless_members_is_refused(tmp_path: Path, kind: bytes, size: int) -> None:
    member = tarfile.TarInfo("s/1.png")
    member.type, member.size = kind, size
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(DataError):
        [file.read() for file in labelled_files([path])]


def test_a_list_with_an_endless_line_is_refused(tmp_path: Path) -> None:
    for text in ("path,label\n" + "x" * (4 << 20), "x" * (4 << 20), 'path,label\n"' + "a\n" * (1 << 20)):
        (tmp_path / "a.csv").write_text(text)
        with pytest.raises(DataError):
            labelled_files([tmp_path / "a.csv"])


@pytest.mark.parametrize(
    "content",
    [
        b"a = " + b"[" * 100_000,
        b"a = " + b"{a=" * 50_000,
        b"a" + b".a" * 100_000 + b" = 1",
        b"[" + b"'a' . " * 100_000 + b"a]",
        b"x = {" + b'"a".' * 100_000 + b"a = 1}",
        b"#" * (5 << 20),
        b"\xff",
    ],
    ids=range(7),
)
def test_toml_beyond_reason_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(TomlError):
        parse_toml(content)
    (tmp_path / "styles.toml").write_bytes(content)
    with pytest.raises(DataError):
        read_styles([str(tmp_path / "styles.toml")], 64)


def test_toml_of_settings_is_read(tmp_path: Path) -> None:
    assert parse_toml(b'a.b.c = [0.1, 0.2]\n[x."y z".w]\nu = "http://a.b.c.d"') == {
        "a": {"b": {"c": [0.1, 0.2]}},
        "x": {"y z": {"w": {"u": "http://a.b.c.d"}}},
    }
    with pytest.raises(TomlError, match="not a file"):
        read_toml(Path("/dev/zero"))
    with pytest.raises(FileNotFoundError):
        read_toml(tmp_path / "none")


def test_a_table_that_claims_more_than_it_can_hold_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = arrow.table({"label": ["a"], "bytes": [bytes(66 << 20)]})
    parquet.write_table(table, tmp_path / "a.parquet", compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match="too much to be believed"):
        labelled_files([tmp_path / "a.parquet"])
    once = arrow.DictionaryArray.from_arrays(arrow.array([0] * 80, arrow.int32()), arrow.array([bytes(4 << 20)]))
    table = arrow.table({"label": ["a", "b"] * 40, "bytes": once})
    parquet.write_table(table, tmp_path / "c.parquet", compression="none", dictionary_pagesize_limit=1 << 30)
    monkeypatch.setattr(rows, "_MOST_HELD_BYTES", 128 << 20)
    assert rows._rows_at_once(parquet.read_metadata(tmp_path / "c.parquet")) == 31
    (tmp_path / "b.parquet").write_bytes(b"PAR1" + bytes(20) + struct.pack("<I", 2**31) + b"PAR1")
    with pytest.raises(DataError):
        labelled_files([tmp_path / "b.parquet"])
