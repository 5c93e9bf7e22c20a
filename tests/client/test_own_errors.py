"""What a client raises by itself: OneglanceError, or ValueError and TypeError for a wrong argument."""

import asyncio
import inspect
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from oneglance import AsyncClient, Client, OneglanceError
from oneglance.client.errors import ClientStateError
from oneglance.client.link import checked_seconds
from oneglance.v1.common_pb2 import SubjectFilter
from oneglance.v1.subject_pb2 import Retention
from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import server_thread

PICTURE = png(picture(1))
# Arguments for the parameters that have no default, by name.
ARGUMENTS: dict[str, Any] = {
    "gallery_id": "g",
    "subject_id": "s",
    "new_subject_id": "t",
    "into_subject_id": "t",
    "successor_id": "t",
    "encoder": "pixels",
    "to_subject_id": "t",
    "filter": SubjectFilter(id_prefix="s"),
    "encoding_id": "1",
    "negative_id": "1",
    "name": "n",
    "tau": 0.5,
    "fusion": "mean",
    "keep_crops": True,
    "decided_by": "distance",
    "policy": "off",
    "least_gap": 0.1,
    "probes": [],
    "items": [],
    "requests": [],
    "subjects": [],
    "encoder_digest": "0" * 64,
    "frames": [PICTURE],
    "styles": "waves",
    "picture": PICTURE,
    "probe": PICTURE,
    "other": PICTURE,
    "example_of_another": PICTURE,
    "retention": Retention(),
    "model": "m",
    "key_id": "k",
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("own")
    with server_thread(data_dir=folder / "data", models=(pixels_model(folder / "pixels"),)) as server:
        yield server.address


def methods(kind: type) -> list[str]:
    return [
        name
        for name, _ in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and name not in ("close", "with_options")
    ]


def call(function: Callable[..., Any], wrapped: Callable[[Any], Any]) -> Any:
    """Of a method of a client, with arguments for all that has no default."""
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.default is not inspect.Parameter.empty or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        value = PICTURE if parameter.kind is inspect.Parameter.VAR_POSITIONAL else ARGUMENTS[name]
        value = wrapped(value) if isinstance(value, list) else value
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            named[name] = value
        else:
            positional.append(value)
    return function(*positional, **named)


async def each(values: list[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value


async def called(function: Callable[..., Any]) -> None:
    made = call(function, each)
    if inspect.isasyncgen(made):
        async for _ in made:
            pass
    else:
        await made


@pytest.mark.parametrize("name", methods(Client))
def test_a_closed_client_says_so_in_every_method(address: str, name: str) -> None:
    client = Client(address)
    client.list_models()
    client.close()
    client.close()
    function = getattr(client, name)

    def called_closed() -> None:
        made = call(function, iter)
        if inspect.isgenerator(made):
            list(made)

    with pytest.raises(ClientStateError, match="closed") as caught:
        called_closed()
    assert caught.value.reason == "CLIENT_CLOSED"


@pytest.mark.parametrize("name", methods(AsyncClient))
def test_an_async_client_says_it_is_closed_or_of_another_loop_in_every_method(address: str, name: str) -> None:
    client = AsyncClient(address)  # there is no loop yet

    async def first() -> None:
        assert await client.list_models()

    async def closed() -> None:
        await client.close()
        await called(getattr(client, name))

    asyncio.run(first())
    with pytest.raises(ClientStateError) as caught:
        asyncio.run(called(getattr(client, name)))
    assert caught.value.reason == "CLIENT_OF_ANOTHER_LOOP"
    with pytest.raises(ClientStateError) as caught:
        asyncio.run(closed())
    assert caught.value.reason == "CLIENT_CLOSED"


class Silent:
    """An address that takes a connection, and says nothing."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._taken: list[socket.socket] = []
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def take(self) -> None:
        self._taken.append(self._socket.accept()[0])

    def close(self) -> None:
        for one in (self._socket, *self._taken):
            one.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    made = Silent()
    yield made
    made.close()


@pytest.mark.parametrize(
    "name", ["list_models", "list_galleries", "identify_stream", "calibrate", "wait_until_serving"]
)
async def test_a_call_under_way_ends_when_its_client_is_closed(silent: Silent, name: str) -> None:
    client = AsyncClient(silent.address)
    call = asyncio.ensure_future(called(getattr(client, name)))
    await asyncio.get_running_loop().run_in_executor(None, silent.take)
    assert not call.done()
    await client.close()
    with pytest.raises(OneglanceError):
        await call


async def test_a_call_that_its_own_task_cancels_is_cancelled(silent: Silent) -> None:
    async with AsyncClient(silent.address) as client:
        call = asyncio.ensure_future(client.list_models())
        await asyncio.get_running_loop().run_in_executor(None, silent.take)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


def test_a_call_of_another_thread_ends_when_the_client_is_closed(silent: Silent) -> None:
    client = Client(silent.address)
    ended: list[BaseException] = []

    def call() -> None:
        try:
            client.list_models()
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    silent.take()
    client.close()
    thread.join(60)
    assert isinstance(ended[0], OneglanceError)


@pytest.mark.parametrize("seconds", [float("inf"), float("-inf"), float("nan"), 0, -1, 1e300, 1_000_001])
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_timeouts_that_can_not_be_kept_are_refused(kind: type, seconds: float) -> None:
    with pytest.raises(ValueError, match="timeout_seconds is above 0 and at most 1,000,000"):
        kind("127.0.0.1:1", timeout_seconds=seconds)
    client = Client("127.0.0.1:1")
    if seconds != 0:
        with pytest.raises(ValueError, match="timeout_seconds is 0 or more"):
            client.wait_until_serving(seconds)
    client.close()


@pytest.mark.parametrize("seconds", ["30", None, True])
def test_timeouts_are_numbers(seconds: Any) -> None:
    with pytest.raises(TypeError, match="timeout_seconds is a number of seconds"):
        checked_seconds("timeout_seconds", seconds)
    assert checked_seconds("timeout_seconds", 1_000_000) == 1e6


def test_the_longest_timeout_is_kept(address: str) -> None:
    with Client(address, timeout_seconds=1_000_000) as client:
        assert client.list_models()


def test_wrong_names_are_value_errors_that_tell_the_right_ones(address: str) -> None:
    bad: Any = "bogus"
    with Client(address) as client:
        for call in (
            lambda: client.create_gallery("g", fusion=bad),
            lambda: client.create_gallery("g", quality_policy=bad),
            lambda: client.set_fusion("g", bad),
            lambda: client.set_doubt_policy("g", bad),
            lambda: client.set_decided_by("g", bad),
            lambda: client.enroll("g", "s", PICTURE, on_existing=bad),
            lambda: client.detect_faces(PICTURE, small_faces=bad),
            lambda: client.stylize(PICTURE, "waves", format=bad),
        ):
            with pytest.raises(ValueError, match="'bogus' is none of '"):
                call()
        with pytest.raises(FileNotFoundError):
            client.encode(Path("no/such.png"))
