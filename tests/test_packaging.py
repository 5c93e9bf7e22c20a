"""One distribution, installable by role: the wheel's content, the extras, the floors, a bare client."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from oneglance_server.settings import BUNDLED_STYLIZER

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def floor(requirement: str) -> Version:
    return Version(next(s.version for s in Requirement(requirement).specifier if s.operator == ">="))


def test_declared_floors_cover_the_generated_code() -> None:
    generated = list((ROOT / "proto/oneglance/v1").glob("*_pb2*.py"))
    assert generated
    floors = {Requirement(r).name: floor(r) for r in PROJECT["dependencies"]}
    text = "\n".join(file.read_text() for file in generated)
    protobuf = {Version(v) for v in re.findall(r"^# Protobuf Python Version: (\S+)", text, re.MULTILINE)}
    grpcio = {Version(v) for v in re.findall(r"GRPC_GENERATED_VERSION = '(.+)'", text)}
    assert protobuf == {floors["protobuf"]}
    assert grpcio == {floors["grpcio"]}
    for extra in PROJECT["optional-dependencies"]["serve"]:
        if Requirement(extra).name.startswith("grpcio"):
            assert floor(extra) == floors["grpcio"]


def test_the_bare_install_is_the_client() -> None:
    bare = {Requirement(r).name for r in requires("oneglance") or [] if not Requirement(r).marker}
    assert bare == {"argcomplete", "grpcio", "numpy", "platformdirs", "protobuf"}


def test_cpu_and_gpu_differ_only_in_the_two_wheels() -> None:
    extras = PROJECT["optional-dependencies"]
    assert {Requirement(r).name for r in extras["cpu"]} == {"oneglance", "faiss-cpu", "onnxruntime"}
    assert {Requirement(r).name for r in extras["gpu"]} == {"oneglance", "faiss-gpu", "onnxruntime-gpu"}


def test_constraints_pin_everything_development_installs() -> None:
    pins = {
        Requirement(line).name.lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    direct = set()
    for extra in ("cpu", "serve", "exporter", "dev"):
        direct |= {Requirement(r).name.lower().replace("_", "-") for r in PROJECT["optional-dependencies"][extra]}
    assert direct - {"oneglance"} <= pins
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)
    if ended.returncode and re.search(r"connect|resolve host|network|timed out|dns", ended.stderr, re.IGNORECASE):
        pytest.skip(f"no package index within reach: {ended.stderr.strip().splitlines()[-1]}")
    assert ended.returncode == 0, ended.stderr
    return ended


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "uv", "build", "-q", "--wheel", "--out-dir", str(out), str(ROOT), cwd=out)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_packages_their_types_and_the_bundled_models(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in ("oneglance", "oneglance_index", "oneglance_exporter", "oneglance_server"):
        assert f"{package}/__init__.py" in names
        assert f"{package}/py.typed" in names
    assert "oneglance/v1/subject.proto" in names
    assert "oneglance/v1/subject_pb2_grpc.pyi" in names
    for model in ("characters", "glyphs", *(("stylizer",) if BUNDLED_STYLIZER.exists() else ())):
        assert {f"oneglance_server/models/{model}/{file}" for file in ("model.onnx", "manifest.json")} <= names
    assert {f"oneglance_exporter/models/uprightness/{file}" for file in ("model.onnx", "manifest.json")} <= names
    assert not [n for n in names if n.split("/")[0] in ("tests", "benchmarks", "proto", "docs")]


def test_a_bare_install_has_a_working_client_and_says_what_serve_needs(wheel: Path, tmp_path: Path) -> None:
    uv = sys.executable, "-m", "uv"
    python = str(tmp_path / "venv/bin/python")
    run(*uv, "venv", "-q", "--python", sys.executable, str(tmp_path / "venv"), cwd=tmp_path)
    constraints = str(ROOT / "constraints.txt")
    run(*uv, "pip", "install", "-q", "--python", python, "-c", constraints, str(wheel), cwd=tmp_path)
    run(python, "-c", "from oneglance import Client, AsyncClient; Client('127.0.0.1:1')", cwd=tmp_path)
    oneglance = str(tmp_path / "venv/bin/oneglance")
    assert "identify" in run(oneglance, "--help", cwd=tmp_path).stdout
    assert "--max-candidates" in run(oneglance, "identify", "--help", cwd=tmp_path).stdout
    assert "--keep-colors" in run(oneglance, "stylize", "--help", cwd=tmp_path).stdout
    for command in ("serve", "demo"):
        refused = subprocess.run([oneglance, command], cwd=tmp_path, capture_output=True, text=True)
        assert refused.returncode == 1
        assert "oneglance[cpu]" in refused.stderr
        assert "Traceback" not in refused.stderr


def test_the_gpu_extra_resolves(tmp_path: Path) -> None:
    resolved = run(
        sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--extra", "gpu",
        str(ROOT / "pyproject.toml"), cwd=tmp_path,
    ).stdout  # fmt: skip
    names = set(re.findall(r"^([a-z0-9-]+)==", resolved, re.MULTILINE))
    assert {"faiss-gpu", "onnxruntime-gpu", "grpcio-health-checking"} <= names
    assert not {"faiss-cpu", "onnxruntime", "torch"} & names


def test_make_tells_what_it_installs_and_pip_how_far_it_is() -> None:
    told = run("make", "--dry-run", "--always-make", "demo", cwd=ROOT).stdout.splitlines()
    installs = [at for at, line in enumerate(told) if "pip install" in line]
    assert installs
    for at in installs:
        assert "--quiet" not in told[at]
        assert re.search(r"echo .*MB to download.*minute", told[at - 1])
