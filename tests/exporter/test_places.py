"""Where an import can't write: said in one line, and what was there stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from oneglance_core.folder import read_any_model_folder
from oneglance_exporter.errors import WeightsError
from oneglance_exporter.imports.dlib_faces import installed_weights


@pytest.fixture(autouse=True)
def _weights() -> None:
    try:
        installed_weights()
    except WeightsError as error:
        pytest.skip(str(error))


def import_faces(out: Path | str, *, most_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """``most_bytes``: of one file, as if the disk were full then."""
    code = "from oneglance_exporter.cli import main; sys.exit(main())"
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes}, {most_bytes}))" if most_bytes else ""
    command = [
        sys.executable,
        "-c",
        f"import resource, sys\n{limit}\n{code}",
        "import",
        "dlib-faces",
        "--out",
        str(out),
    ]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_full_disk_leaves_what_there_was(tmp_path: Path) -> None:
    out = tmp_path / "faces"
    full = import_faces(out, most_bytes=10_000_000)  # room for detector and landmarks; the encoder has 22 MB
    assert full.returncode == 1
    assert full.stderr.startswith(f"oneglance-exporter: error: {out}/encoder: can't be written: ")
    assert full.stderr.count("\n") == 1
    assert not list(out.iterdir())
    assert import_faces(out).returncode == 0
    before = {name: read_any_model_folder(out / name).digest for name in ("detector", "landmarks", "encoder")}
    assert import_faces(out, most_bytes=10_000_000).returncode == 1
    assert before == {name: read_any_model_folder(out / name).digest for name in before}
    assert sorted(entry.name for entry in out.iterdir()) == ["detector", "encoder", "landmarks", "uprightness"]


@pytest.mark.parametrize("out", ["/proc/nowhere", "FILE/faces", "/" + "x" * 300])
def test_a_place_that_cannot_be_is_told(out: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = import_faces(out.replace("FILE", str(tmp_path / "file")))
    assert ended.returncode == 1
    assert ended.stderr.startswith("oneglance-exporter: error: ")
    assert ended.stderr.count("\n") == 1
