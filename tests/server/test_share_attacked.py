"""Who means harm at --share, or is broken: they are cut off alone, and others go on."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest

from oneglance_index import GalleryStore, Search
from oneglance_server.sharing import messages
from oneglance_server.sharing.addresses import Keeping
from oneglance_server.sharing.code import code
from oneglance_server.sharing.remote import open_remote
from tests import http2
from tests.running import PATIENT, ServerProcess, free_port
from tests.waiting import PATIENCE_SECONDS, until

TOKEN = "a secret"
SHOWN = ((messages.CODE_KEY, code()), (messages.TOKEN_KEY, TOKEN), (messages.USER_KEY, "odd"))
HELLO = messages.encoded(messages.Asked([], [], 0, 1, []))
VECTORS = np.eye(8, dtype=np.float32)
MOST_MORE_BYTES = 200 << 20  # of memory, than before


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory, models: tuple[Path, Path]) -> Iterator[tuple[ServerProcess, int]]:
    """A process, and the port of its --share."""
    folder, port = tmp_path_factory.mktemp("keeper"), free_port()
    (folder / "token").write_text(TOKEN)
    how: dict[str, Any] = {"share": f"127.0.0.1:{port}", "share_token": f"file:{folder / 'token'}"}
    with ServerProcess(folder / "kept", models=models[0], log=folder / "log", first=PATIENT, **how) as process:
        yield process, port
        assert process.process.poll() is None


@pytest.fixture(scope="module")
def user(keeper: tuple[ServerProcess, int]) -> Iterator[GalleryStore]:
    """Of the galleries, whom nothing of all this concerns."""
    store = open_remote(Keeping(f"keeper://127.0.0.1:{keeper[1]}", TOKEN))
    store.create_gallery("g", encoder_digest="e", dimension=8).result()
    yield store
    store.close()


@pytest.fixture(autouse=True)
def others_go_on(keeper: tuple[ServerProcess, int], user: GalleryStore) -> Iterator[None]:
    """What another one asks is answered all the time, its session is the same, and memory is bounded."""
    before = keeper[0].resident_bytes()
    session, over, troubles = vars(user)["_session"], threading.Event(), []

    def asks() -> None:
        number = 0
        while not over.is_set():
            number += 1
            try:
                user.enroll("g", "s", VECTORS[number % 8 : number % 8 + 1], on_existing="replace").result(
                    PATIENCE_SECONDS
                )
                user.search_many("g", [Search(VECTORS[:1], "e", 1)])
            except Exception as error:
                troubles.append(error)
                return

    asking = threading.Thread(target=asks)
    asking.start()
    yield
    over.set()
    asking.join()
    assert troubles == []
    assert vars(user)["_session"] is session
    until(lambda: keeper[0].resident_bytes() < before + MOST_MORE_BYTES)


def connected(port: int) -> socket.socket:
    made = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    made.settimeout(PATIENCE_SECONDS)
    return made


def ends(connection: socket.socket) -> bool:
    """Whether the keeper ended it."""
    with contextlib.suppress(ConnectionError):
        while connection.recv(1 << 16):
            pass
    return True


def used(port: int, said: Sequence[bytes], shown: Any = SHOWN) -> tuple[list[messages.Told], grpc.StatusCode]:
    """What the keeper says to these messages, until it ends the stream, and how it does."""
    with Keeping(f"keeper://127.0.0.1:{port}").channel() as channel:
        use: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(messages.METHOD)
        stream = use(iter(said), metadata=shown, timeout=PATIENCE_SECONDS)
        told = []
        try:
            for message in stream:
                told.append(messages.read_told(message))
        except grpc.RpcError:
            pass
        code = stream.code()
        assert isinstance(code, grpc.StatusCode)
        return told, code


def test_random_bytes_are_no_connection(keeper: tuple[ServerProcess, int]) -> None:
    rng = random.Random(1)
    for start in (b"", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        for _ in range(20):
            with connected(keeper[1]) as connection, contextlib.suppress(ConnectionError):
                connection.sendall(start + rng.randbytes(rng.randrange(1, 4096)))
                connection.shutdown(socket.SHUT_WR)
                assert ends(connection)


@pytest.mark.parametrize("claimed", [0xFFFFFFFF, 1 << 31, 1 << 30])
def test_a_message_that_claims_to_be_huge_takes_no_memory(keeper: tuple[ServerProcess, int], claimed: int) -> None:
    before = keeper[0].resident_bytes()
    with connected(keeper[1]) as connection:
        block = http2.opening(messages.METHOD, more=dict(SHOWN))
        connection.sendall(http2.PREFACE + http2.frame(http2.SETTINGS, 0, 0, b""))
        connection.sendall(http2.frame(http2.HEADERS, http2.END_HEADERS, 1, block))
        connection.sendall(http2.frame(http2.DATA, 0, 1, http2.prefixed(HELLO)))
        received = bytearray()

        def receives(kind: int) -> bool:
            received.extend(connection.recv(1 << 16))
            return kind in kinds(received)

        until(lambda: receives(http2.DATA))
        connection.sendall(http2.frame(http2.DATA, 0, 1, http2.prefixed(bytes(10_000), claimed=claimed)))
        connection.sendall(http2.frame(http2.PING, 0, 0, bytes(8)))
        until(lambda: receives(http2.PING))
        assert keeper[0].resident_bytes() < before + MOST_MORE_BYTES


def kinds(received: bytearray) -> set[int]:
    return {kind for kind, *_ in http2.taken_frames(bytearray(received))}


@pytest.mark.parametrize("token", [None, "", "another", "~", "a" * 4000, "a secret ", "A SECRET"])
def test_who_shows_another_token_is_told_so_and_nothing_else(
    keeper: tuple[ServerProcess, int], token: str | None
) -> None:
    shown = ((messages.CODE_KEY, code()), *([] if token is None else [(messages.TOKEN_KEY, token)]))
    assert used(keeper[1], [HELLO], shown) == ([], grpc.StatusCode.UNAUTHENTICATED)


def test_another_version_is_told_so(keeper: tuple[ServerProcess, int]) -> None:
    shown = ((messages.CODE_KEY, "0" * 64), (messages.TOKEN_KEY, TOKEN))
    assert used(keeper[1], [HELLO], shown) == ([], grpc.StatusCode.FAILED_PRECONDITION)


def call(number: int, method: str, arguments: bytes) -> bytes:
    raw = msgspec.Raw(arguments)
    return messages.encoded(messages.Asked([messages.Call(number, method, None, raw)], [], 0, 0, []))


NEST = b"\x91" * 100_000 + b"\x90"
BIN_OF_4_GIB = b"\xc6\xff\xff\xff\xff"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"\xc1",
        NEST,
        BIN_OF_4_GIB,
        b"\xdd\xff\xff\xff\xff",  # a list of 2^32 - 1
        b"\xdf\xff\xff\xff\xff",  # a map
        messages.encoded([[], [], 0, "hello", []]),
        messages.encoded([[], [], -(1 << 62), 1, {}]),
        messages.encoded([[[1, "enroll", None, msgspec.Raw(NEST)]], [], 0, 0, []]),
        messages.encoded([[["one", "enroll", None, []]], [], 0, 0, []]),
        random.Random(2).randbytes(1 << 20),
    ],
    ids=lambda said: f"{len(said)}-{said[:4].hex()}",
)
def test_what_means_nothing_ends_its_stream(keeper: tuple[ServerProcess, int], said: bytes) -> None:
    told, _ = used(keeper[1], [said, HELLO])
    assert not any(one.granted or one.answers for one in told)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("no_such_method", b"\x90"),
        ("close", b"\x90"),
        ("__class__", b"\x90"),
        ("back_up", messages.encoded(["/tmp/oneglance-stolen", None])),
        ("create_backup", messages.encoded(["../stolen"])),
        ("replace_file", messages.encoded(["../../etc/passwd", "", "x"])),
        ("replace_file", messages.encoded(["store.sqlite3", "", "x"])),
        ("enroll", b"\x90"),
        ("known", messages.encoded(["g"])),
        ("enroll", messages.encoded(["g", "s", ["<f4", [1 << 40, 8], b"abcd"]])),
        ("enroll", messages.encoded(["g", "s", ["O", [1, 8], bytes(64)]])),
        ("enroll", messages.encoded(["g", "s", ["<f4", [-1, 8], bytes(32)]])),
        ("search_many", messages.encoded(["g", [[["|V8", [1, 8], bytes(64)], "e", 1]]])),
        ("search_many", messages.encoded(["nobody's", []])),
    ],
)
def test_bad_calls_are_answered_by_an_error_each(
    keeper: tuple[ServerProcess, int], user: GalleryStore, method: str, arguments: bytes
) -> None:
    answers: list[messages.Answer] = []
    done = threading.Event()

    def says() -> Iterator[bytes]:
        yield HELLO
        yield call(1, method, arguments)
        yield call(2, "get_gallery", messages.encoded(["g"]))
        done.wait(PATIENCE_SECONDS)

    with Keeping(f"keeper://127.0.0.1:{keeper[1]}").channel() as channel:
        use: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(messages.METHOD)
        try:
            for message in use(says(), metadata=SHOWN, timeout=PATIENCE_SECONDS):
                answers += messages.read_told(message).answers
                if {answer.number for answer in answers} == {1, 2}:
                    break
        finally:
            done.set()
    faults = {answer.number: answer.fault for answer in answers}
    assert faults[2] is None
    assert faults[1] is not None
    assert user.get_gallery("g").id == "g"


def test_calls_in_any_order_are_answered_and_what_is_left_or_confirmed_too_early_changes_nothing(
    keeper: tuple[ServerProcess, int],
) -> None:
    asked = messages.encoded(["g"])
    said = [
        messages.encoded(messages.Asked([], [7, 8, -1, 1 << 60], 1 << 60, 0, [])),  # what was never asked, or told
        call(7, "get_gallery", asked),
        call(7, "get_gallery", asked),  # the same number
        messages.encoded(messages.Asked([], [7], 0, 3, [messages.Spent("1/day", "calls", "nobody", -5)])),
        messages.encoded(messages.Asked([], [], 0, 2, [])),  # an earlier hello
        messages.encoded(messages.Asked([], [], 0, messages.BYE, [])),
        call(9, "get_gallery", asked),  # after goodbye
    ]
    told, code = used(keeper[1], said)
    assert code == grpc.StatusCode.OK
    assert 9 not in {answer.number for one in told for answer in one.answers}


def test_a_thousand_connections_that_say_nothing_hold_up_nobody(keeper: tuple[ServerProcess, int]) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(1000):
            opened.enter_context(connected(keeper[1]))
        begun = time.monotonic()
        another = open_remote(Keeping(f"keeper://127.0.0.1:{keeper[1]}", TOKEN))
        assert another.get_gallery("g").id == "g"
        another.close()
        assert time.monotonic() - begun < PATIENCE_SECONDS


def test_many_users_come_and_go_at_once(keeper: tuple[ServerProcess, int]) -> None:
    def comes(_: int) -> str:
        store = open_remote(Keeping(f"keeper://127.0.0.1:{keeper[1]}", TOKEN))
        try:
            return store.get_gallery("g").id
        finally:
            store.close()

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(comes, range(64))) == {"g"}
