"""gRPC ignores an option whose name it does not know. So each name that we set must be one that it knows."""

import re
from pathlib import Path

import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]

_ROOT = Path(__file__).parents[1]
_NAME = re.compile(r'\("(grpc\.[a-z0-9_.]+)",')
_KNOWN = Path(cygrpc.__file__).read_bytes()


def _names() -> list[str]:
    sources = (path for room in ("proto", "server", "apps") for path in (_ROOT / room).rglob("*.py"))
    return sorted({name for path in sources for name in _NAME.findall(path.read_text())})


def test_options_are_found() -> None:
    assert len(_names()) > 10


@pytest.mark.parametrize("name", _names())
def test_grpc_knows_the_option(name: str) -> None:
    assert re.search(rb"[\0-9]" + re.escape(name.encode()) + rb"\0", _KNOWN), f"gRPC's library has no {name}"
