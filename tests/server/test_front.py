"""The front of examples/nginx: honest callers pass it, and it bounds what the server itself can't."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from oneglance import Client, OneglanceError, enroll_request, identify_request
from tests.bad_client import BadClient
from tests.http2 import prefixed
from tests.pictures import picture, png
from tests.running import ServerProcess
from tests.server.test_stylize import scene
from tests.waiting import PATIENCE_SECONDS, until

CONFIG = Path(__file__).parents[2] / "examples" / "nginx" / "nginx.conf"
IDENTIFY = "/oneglance.v1.IdentificationService/Identify"
NGINX = shutil.which("nginx") or "/usr/sbin/nginx"
HALF = 15 << 20  # of a message that never ends
AT_ONCE = 4  # large calls of one address
SENDERS = 5 * AT_ONCE


@pytest.fixture(scope="module")
def server(models: tuple[Path, Path], tints: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folders = f"{models[0]}:{tints}"
    with ServerProcess(tmp_path_factory.mktemp("data"), models=folders, log_level="error") as running:
        yield running


@pytest.fixture(scope="module")
def front(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an nginx before the server."""
    if not Path(NGINX).exists():
        pytest.skip("needs nginx (apt-get install nginx)")
    folder = tmp_path_factory.mktemp("nginx")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    config = CONFIG.read_text().replace("127.0.0.1:50050", address).replace("127.0.0.1:50051", server.address)
    config = config.replace("limit_conn large_calls 32", f"limit_conn large_calls {AT_ONCE}")
    (folder / "logs").mkdir()
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"):
        config = config.replace("http {", f"http {{\n    {kind}_temp_path {folder / kind};", 1)
    (folder / "nginx.conf").write_text(f"pid {folder / 'pid'};\n{config}")
    command = [NGINX, "-p", str(folder), "-c", "nginx.conf", "-e", "logs/error.log", "-g", "daemon off;"]
    nginx = subprocess.Popen(command)
    try:
        until(lambda: nginx.poll() is not None or _answers(address))
        assert nginx.poll() is None, (folder / "logs/error.log").read_text()
        yield address
    finally:
        nginx.terminate()
        nginx.wait(PATIENCE_SECONDS)


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port))).close()
    except ConnectionRefusedError:
        return False
    return True


@pytest.fixture
def client(front: str) -> Iterator[Client]:
    with Client(front, timeout_seconds=PATIENCE_SECONDS) as connected:
        yield connected


def test_calls_and_streams_pass(client: Client) -> None:
    client.wait_until_serving(PATIENCE_SECONDS)
    client.create_gallery("g", encoder="pixels")
    answers = client.bulk_enroll(enroll_request("g", f"s{i}", [png(picture(i))]) for i in range(300))
    assert [answer.index for answer in answers if answer.HasField("enrolled")] == list(range(300))
    assert client.identify("g", picture(7)).results[0].subject_id == "s7"
    probes = [identify_request("g", [png(picture(i))]) for i in range(20)]
    found = list(client.identify_stream(iter(probes)))
    assert [one.response.results[0].subject_id for one in found] == [f"s{i}" for i in range(20)]
    frames = (png(scene(64, 64, seed)) for seed in range(10))
    assert len(list(client.stylize_stream(frames, "ember", every_frame=True))) == 10
    with pytest.raises(OneglanceError) as caught:  # our details pass, too
        client.identify("nowhere", picture(7))
    assert caught.value.reason == "GALLERY_NOT_FOUND"
    with pytest.raises(OneglanceError):
        client.get_gallery("x" * (200 << 10))


def test_a_stream_is_answered_while_it_is_sent(client: Client) -> None:
    if "live" not in [gallery.id for gallery in client.list_galleries()]:
        client.create_gallery("live", encoder="pixels")
    answered: list[int] = []

    def items() -> Iterator[object]:
        for i in range(5):
            yield enroll_request("live", f"s{i}", [png(picture(i))])
            until(lambda i=i: len(answered) > i)  # type: ignore[misc]

    for answer in client.bulk_enroll(items()):  # type: ignore[arg-type]
        answered.append(answer.index)
    assert answered == list(range(5))


def test_half_sent_messages_are_bounded_and_cut_off(front: str, server: ServerProcess, client: Client) -> None:
    client.wait_until_serving(PATIENCE_SECONDS)
    before = server.peak_bytes()
    start = prefixed(bytes(HALF), claimed=60 << 20)
    with ExitStack() as stack:
        for _ in range(SENDERS):
            sender = stack.enter_context(BadClient(front))
            with suppress(OSError):  # one too many is closed at once
                sender.send(sender.begin(IDENTIFY), start, patience_seconds=1.0)
            client.wait_until_serving(PATIENCE_SECONDS)
        assert client.list_galleries() is not None
    assert server.peak_bytes() - before < 3 * AT_ONCE * HALF  # SENDERS of them without the front


def test_calls_of_one_address_are_counted(front: str, client: Client) -> None:
    with ExitStack() as stack:
        for _ in range(AT_ONCE):
            sender = stack.enter_context(BadClient(front))
            sender.send(sender.begin(IDENTIFY), prefixed(b"12345", claimed=1000))
        until(lambda: _outcome(client) == "UNAVAILABLE")
        client.wait_until_serving(PATIENCE_SECONDS)
        until(lambda: _outcome(client) == "NOT_FOUND")  # those that never go on are cut off


def _outcome(client: Client) -> str:
    with pytest.raises(OneglanceError) as caught:
        client.identify("nowhere", picture(7))
    return caught.value.code.name
