"""An address that can't be listened on is refused with the reason."""

import socket
from pathlib import Path

import pytest

from oneglance_server.errors import StartupError
from oneglance_server.listening import why_not
from tests.running import server_thread


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nosuch.invalid:0", r"Name or service not known|Temporary failure in name resolution|No address associated"),
        ("192.0.2.1:0", "Cannot assign requested address"),
    ],
)
def test_an_address_that_is_not_ours(address: str, reason: str, models: tuple[Path, Path], tmp_path: Path) -> None:
    with (
        pytest.raises(StartupError, match=f"can't listen on {address}: ({reason})"),
        server_thread(data_dir=tmp_path, models=models, listen=address, insecure=True),
    ):
        pass


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert why_not(f"127.0.0.1:{taken.getsockname()[1]}") == "it is in use"
