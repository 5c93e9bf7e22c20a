"""Who may import whom, read from the sources; and what the light installs must never load."""
# ruff: noqa: E501

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What each package must not import, wherever in its files.
FORBIDDEN = {
    "proto/oneglance": {"oneglance_index", "oneglance_exporter", "oneglance_server", "torch", "onnx", "onnxruntime", "faiss"},
    "index/oneglance_index": {"grpc", "onnxruntime", "torch", "onnx", "oneglance", "oneglance_exporter", "oneglance_server"},
    "exporter/oneglance_exporter": {"grpc", "faiss", "oneglance.v1", "oneglance.client", "oneglance_index", "oneglance_server"},
    "server/oneglance_server": {"torch", "onnx", "oneglance_exporter"},
    "server/oneglance_server/service": {"grpc", "google", "oneglance.v1", "oneglance.client", "oneglance_server.servicers", "oneglance_server.app"},
    "server/oneglance_server/engines": {"grpc", "google", "oneglance.v1", "oneglance.client", "oneglance_server.service", "oneglance_server.servicers"},
    "server/oneglance_server/servicers": {"faiss", "onnxruntime", "oneglance_server.app", "oneglance_server.cli"},
    "server/oneglance_server/watch": {"faiss", "onnxruntime", "oneglance_index", "oneglance_server.service", "oneglance_server.engines", "oneglance_server.servicers", "oneglance_server.cli"},
    "server/oneglance_server/repaint": {"faiss", "onnxruntime", "oneglance_index", "oneglance_server.service", "oneglance_server.engines", "oneglance_server.servicers", "oneglance_server.cli"},
    "server/oneglance_server/console": {"faiss", "onnxruntime", "oneglance_index", "oneglance_server.service", "oneglance_server.engines", "oneglance_server.servicers", "oneglance_server.app"},
    "server/oneglance_server/demo": {"faiss", "onnxruntime", "oneglance_index", "oneglance_server.service", "oneglance_server.engines", "oneglance_server.servicers"},
}  # fmt: skip


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", FORBIDDEN)
def test_layers_point_one_way(package: str) -> None:
    files = list((ROOT / package).rglob("*.py"))
    assert files
    for file in files:
        for name in imports(file):
            bad = [f for f in FORBIDDEN[package] if name == f or name.startswith(f + ".")]
            assert not bad, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import oneglance", {"grpc", "google.protobuf", "numpy", "torch", "pydantic"}),
        ("import oneglance.model_folder", {"grpc", "google.protobuf", "torch"}),
        ("from oneglance import Client, AsyncClient", {"torch", "pydantic", "faiss", "onnxruntime", "PIL"}),
        ("import oneglance_server.cli as c; c.main(['identify', '-h'])", {"torch", "pydantic", "faiss", "onnxruntime", "PIL"}),
        ("import oneglance_server.cli as c; c.main(['stylize', 'a.png', 'b.png', '--style', 'a', '--server', '127.0.0.1:1'])", {"torch", "pydantic", "faiss", "onnxruntime", "PIL", "av", "rich", "structlog"}),
        ("import oneglance_server.app", {"torch", "onnx"}),
        ("import oneglance_server.app, oneglance_server.cli.serve as s", {"torch", "sklearn", "scipy"}),
        ("import oneglance_index", {"torch", "grpc", "onnxruntime", "google.protobuf"}),
        ("import oneglance_exporter.cli", {"grpc"}),
    ],
)  # fmt: skip
def test_what_is_not_loaded(code: str, absent: set[str]) -> None:
    check = (
        f"try:\n    exec({code!r})\nexcept SystemExit: pass\n"
        f"import sys; print([n for n in {sorted(absent)!r} if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
