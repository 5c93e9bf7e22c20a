"""``oneglance enroll-encodings``: files of encodings, enrolled many subjects a message."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client
from oneglance_apps.bulk.encodings import read_encodings
from oneglance_apps.cli.main import main
from oneglance_server.app import Server

D = 64
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(server: Server, capsys: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = main(["enroll-encodings", *map(str, arguments), "--server", server.address])
        told = capsys.readouterr()
        return status, told.out, told.err

    return run


def rows(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(size=(count, D)).astype(np.float32)


@pytest.mark.parametrize("kind", ["npz", "npy", "parquet"])
def test_each_kind_of_file(client: Client, command: Command, tmp_path: Path, kind: str) -> None:
    gallery = f"of-{kind}"
    client.create_gallery(gallery, encoder="pixels", doubt_policy="off")
    digest = client.get_gallery(gallery).encoder_digest
    subjects, encodings = ["ä", "b", "ä", "c"], rows(4)
    file, more = tmp_path / f"people.{kind}", ["--encoder-digest", digest]
    if kind == "npz":
        np.savez(file, subjects=np.array(subjects), encodings=encodings, digest=digest)
        more = []
    elif kind == "npy":
        np.save(file, encodings)
        (tmp_path / "ids.txt").write_text("\n".join(subjects) + "\n")
        more += ["--subjects", str(tmp_path / "ids.txt")]
    else:
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.table({"subject": subjects, "encoding": list(encodings)}), file)
    (tmp_path / "labels.csv").write_text("subject,site\nb,gate\n")
    assert command(gallery, file, *more, "--labels", tmp_path / "labels.csv")[0] == 0
    kept = {one.id: one for one in client.list_subjects(gallery)}
    assert {name: len(one.encodings) for name, one in kept.items()} == {"ä": 2, "b": 1, "c": 1}
    assert dict(kept["b"].labels) == {"site": "gate"}
    status, _, told = command(gallery, file, *more)
    assert (status, "of 3 subjects 0 enrolled, 3 there before, 0 refused" in told) == (0, True)
    assert client.get_gallery(gallery).encoding_count == 4


def test_who_is_refused_gets_a_line(client: Client, command: Command, tmp_path: Path) -> None:
    client.create_gallery("refused", encoder="pixels", doubt_policy="off")
    digest = client.get_gallery("refused").encoder_digest
    encodings = rows(3)
    encodings[1] = np.nan
    np.savez(tmp_path / "x.npz", subjects=np.array(["a", "b", "c"]), encodings=encodings, digest=digest)
    status, out, told = command("refused", tmp_path / "x.npz", "--json")
    assert status == 3
    assert (json.loads(out)["subject"], json.loads(out)["reason"]) == ("b", "ENCODING_INVALID")
    assert "of 3 subjects 2 enrolled, 0 there before, 1 refused" in told
    assert command("nowhere", tmp_path / "x.npz")[0] == 1


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "empty.npz", encodings=rows(2))
    np.savez(tmp_path / "few.npz", encodings=rows(2), subjects=np.array(["a"]))
    np.savez(tmp_path / "flat.npz", encodings=rows(2)[0], subjects=np.array(["a"]))
    np.save(tmp_path / "rows.npy", rows(2))
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1")
    (tmp_path / "latin.txt").write_bytes(b"\xe4\nb\n")
    (tmp_path / "x.csv").write_text("a,b")
    for name, words in (
        ("empty.npz", "expected the arrays"),
        ("few.npz", "1 subjects for 2"),
        ("flat.npz", "expected float"),
        ("damaged.npz", "damaged.npz"),
        ("damaged.parquet", "damaged.parquet"),
        ("rows.npy", "--subjects"),
        ("x.csv", "expected one of"),
    ):
        with pytest.raises(ValueError, match=words):
            read_encodings(tmp_path / name)
    with pytest.raises(ValueError, match=r"latin\.txt: not UTF-8"):
        read_encodings(tmp_path / "rows.npy", tmp_path / "latin.txt")
