"""The archives of a release: reproducible, and what is in them can be used."""

import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest

from scripts.build_deb import ROOT
from scripts.release import changelog, images_context, package_chart, write_archive
from scripts.sbom import write_lists

yaml: Any = pytest.importorskip("yaml")


def test_an_archive_is_made_by_its_files_alone(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("content")
        os.utime(tmp_path / name / "file", (len(name), 5 * len(name) + ord(name[0])))
        write_archive(tmp_path / f"{name}.tgz", {"b": tmp_path / name / "file", "a": tmp_path / name / "file"}, 7)
    assert (tmp_path / "one.tgz").read_bytes() == (tmp_path / "two.tgz").read_bytes()


def test_the_packed_chart_is_the_chart(tmp_path: Path) -> None:
    helm: Any = pytest.importorskip("helm_python")
    package_chart(tmp_path, 1700000000)
    (packed,) = tmp_path.glob("*.tgz")
    with helm.Chart.load(str(packed)) as chart:
        assert chart.name == "oneglance"
        assert chart.render({"insecure": True}, name="demo", namespace="n")


def test_the_context_of_the_images_has_what_they_copy(tmp_path: Path) -> None:
    wheel = tmp_path / "oneglance-0-py3-none-any.whl"
    wheel.touch()
    write_archive(tmp_path / "images.tar.gz", images_context(wheel), 0)
    with tarfile.open(tmp_path / "images.tar.gz") as archive:
        archive.extractall(tmp_path / "context", filter="data")
    lines = (tmp_path / "context/deploy/images/Dockerfile").read_text().splitlines()
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            assert list((tmp_path / "context").glob(line.split()[1])), line
    allowed = (ROOT / "deploy/images/Dockerfile.dockerignore").read_text().splitlines()
    assert {line[1:] for line in allowed if line.startswith("!")} >= {
        line.split()[1] for line in lines if line.startswith("COPY ") and "--from" not in line
    }


def test_the_changelog_of_a_version() -> None:
    text = "# Changelog\n\n## 0.2.0\n\nnew\n\n## 0.1.0 (unreleased)\n\nfirst\n"
    assert changelog(text, "0.2.0") == "## 0.2.0\n\nnew\n\n"
    assert changelog(text, "0.1.0") == "## 0.1.0 (unreleased)\n\nfirst\n"
    with pytest.raises(SystemExit, match=r"0\.3\.0"):
        changelog(text, "0.3.0")


def test_what_is_installed_is_listed(tmp_path: Path) -> None:
    pytest.importorskip("cyclonedx_py")
    pytest.importorskip("piplicenses")
    write_lists(sys.executable, tmp_path)
    listed = yaml.safe_load((tmp_path / "sbom.json").read_text())
    assert listed["bomFormat"] == "CycloneDX"
    assert {"grpcio", "numpy", "protobuf"} <= {component["name"] for component in listed["components"]}
    assert "grpcio" in (tmp_path / "licenses.txt").read_text()
    first = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    shutil.rmtree(tmp_path)
    write_lists(sys.executable, tmp_path)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == first
