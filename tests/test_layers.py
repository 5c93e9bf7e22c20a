"""Who may import whom, read from the sources; and what the light installs must never load."""
# ruff: noqa: E501

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "oneglance": "proto",
    "oneglance_core": "core",
    "oneglance_index": "index",
    "oneglance_exporter": "exporter",
    "oneglance_server": "server",
    "oneglance_apps": "apps",
}
OURS = set(PACKAGES)
# The rooms of the apps: below cli, none imports another; what they share stands beside them.
APP_ROOMS = ("bulk", "cli", "console", "demo", "repaint", "watch")


def app_rooms(*, but: str = "") -> set[str]:
    return {f"oneglance_apps.{room}" for room in APP_ROOMS if room != but}


# What each folder, or file, must not import anywhere in it.
FORBIDDEN = {
    "proto/oneglance": OURS - {"oneglance"} | {"torch", "onnx", "onnxruntime", "faiss", "pydantic"},
    "core/oneglance_core": OURS - {"oneglance_core"} | {"grpc", "google", "torch", "faiss"},
    "index/oneglance_index": OURS - {"oneglance_core", "oneglance_index"} | {"grpc", "google", "onnxruntime", "torch", "onnx"},
    "exporter/oneglance_exporter": OURS - {"oneglance_core", "oneglance_exporter"} | {"grpc", "google", "faiss"},
    "server/oneglance_server": {"torch", "onnx", "oneglance_exporter", "oneglance_apps"},
    "server/oneglance_server/service": {"grpc", "google", "oneglance", "oneglance_server.servicers", "oneglance_server.app", "oneglance_server.composition", "oneglance_index.LocalGalleries", "oneglance_index.local", "oneglance_index.store", "oneglance_index.search"},
    "server/oneglance_server/engines": {"grpc", "google", "oneglance", "oneglance_server.service", "oneglance_server.servicers", "oneglance_server.app", "oneglance_server.composition"},
    "server/oneglance_server/servicers": {"faiss", "onnxruntime", "oneglance_server.app", "oneglance_server.composition"},
    "apps/oneglance_apps": {"torch", "onnx", "faiss", "onnxruntime", "oneglance_exporter", "oneglance_index"},
    "apps/oneglance_apps/bulk": app_rooms(but="bulk"),
    "apps/oneglance_apps/console": app_rooms(but="console"),
    "apps/oneglance_apps/demo": app_rooms(but="demo"),
    "apps/oneglance_apps/repaint": app_rooms(but="repaint"),
    "apps/oneglance_apps/watch": app_rooms(but="watch"),
    "apps/oneglance_apps/frames": app_rooms(),
    **{f"apps/oneglance_apps/{file.name}": app_rooms() for file in (ROOT / "apps/oneglance_apps").glob("*.py")},
}  # fmt: skip


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """(module, module or its attribute) of every import, ``import a`` as (a, a)."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.module or "", f"{node.module}.{alias.name}") for alias in node.names)


def sources(place: str) -> list[Path]:
    path = ROOT / place
    files = [path] if path.is_file() else [file for file in path.rglob("*.py") if "_pb2" not in file.name]
    assert files
    return files


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_layers_point_one_way(folder: str) -> None:
    for file in sources(folder):
        for _, name in imports(file):
            bad = [f for f in FORBIDDEN[folder] if name == f or name.startswith(f + ".")]
            assert not bad, f"{file.relative_to(ROOT)} imports {name}"


def test_two_files_of_the_apps_import_the_server() -> None:
    """The one that starts it, and the one that looks after its data directory; the demo starts it as a process."""
    importers = {
        file.relative_to(ROOT).as_posix()
        for file in sources("apps/oneglance_apps")
        for module, _ in imports(file)
        if module.split(".")[0] == "oneglance_server"
    }
    assert importers == {"apps/oneglance_apps/cli/keeping.py", "apps/oneglance_apps/cli/serve.py"}


def test_no_import_runs_in_a_circle() -> None:
    """Neither between packages nor between the files of one; imports inside functions and for types count, too."""
    files = {
        ".".join(file.relative_to(ROOT / folder).with_suffix("").parts).removesuffix(".__init__"): file
        for package, folder in PACKAGES.items()
        for file in sources(f"{folder}/{package}")
    }
    graph = {
        name: {
            most_specific for imported in imports(file) if (most_specific := _file(*imported, files)) not in ("", name)
        }
        for name, file in files.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def _file(module: str, name: str, files: dict[str, Path]) -> str:
    """Which file ``from module import ...`` reads: that of the name, if it is a module itself; "" if not ours."""
    return next((found for found in (name, module) if found in files), "")


def test_one_module_opens_sessions_of_onnx_runtime() -> None:
    """It keeps ONNX Runtime from collecting usage data, before it imports it. The quantiser needs a part of its own."""
    importing = {
        str(file.relative_to(ROOT))
        for package, folder in PACKAGES.items()
        for file in sources(f"{folder}/{package}")
        if any(name.split(".")[0] == "onnxruntime" for _, name in imports(file))
    }
    assert importing == {
        "core/oneglance_core/sessions/onnx_runtime.py",
        "exporter/oneglance_exporter/quantize/int8.py",
    }


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import oneglance", {"grpc", "google.protobuf", "numpy", "torch", "pydantic"}),
        ("import oneglance_core.folder", {"grpc", "google.protobuf", "torch", "onnxruntime"}),
        ("from oneglance import Client, AsyncClient", {"torch", "pydantic", "faiss", "onnxruntime", "PIL"}),
        ("import oneglance_apps.cli as c; c.main(['identify', '-h'])", {"torch", "pydantic", "faiss", "onnxruntime", "PIL"}),
        ("import oneglance_apps.cli as c; c.main(['stylize', 'a.png', 'b.png', '--style', 'a', '--server', '127.0.0.1:1'])", {"torch", "pydantic", "faiss", "onnxruntime", "PIL", "av", "rich", "structlog"}),
        ("import oneglance_server.app", {"torch", "onnx"}),
        ("import oneglance_server.app, oneglance_apps.cli.serve as s", {"torch", "sklearn", "scipy"}),
        ("import oneglance_index", {"torch", "grpc", "onnxruntime", "google.protobuf", "faiss"}),
        ("import oneglance_exporter.cli", {"grpc", "torch"}),
    ],
)  # fmt: skip
def test_what_is_not_loaded(code: str, absent: set[str]) -> None:
    check = (
        f"try:\n    exec({code!r})\nexcept SystemExit: pass\n"
        f"import sys; print([n for n in {sorted(absent)!r} if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
