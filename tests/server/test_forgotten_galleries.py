"""Of a deleted gallery nothing is kept: otherwise memory grew with the number of galleries there ever were."""

import asyncio
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from oneglance import Client, OneglanceError
from oneglance_server.calls import Call, Caller
from oneglance_server.service.encoding import Encoding
from oneglance_server.service.galleries import GalleryService
from tests.pictures import picture
from tests.running import measured, server_thread
from tests.waiting import reached

CALL = Call(Caller("a"))


def test_its_metrics_and_its_queue_are_gone(models: tuple[Path, Path], tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        batchers = server._gate.services.identification._batchers
        of = {"gallery": "g", "decision": "unknown"}
        client.create_gallery("g", encoder="pixels")
        client.identify("g", picture(5))
        assert measured(server, "oneglance_decisions_total", **of) == 1
        assert set(batchers) == {"g"}
        client.delete_gallery("g")
        assert server._metrics.registry.get_sample_value("oneglance_decisions_total", of) is None
        assert not batchers
        client.create_gallery("g", encoder="pixels")
        client.identify("g", picture(5))
        assert measured(server, "oneglance_decisions_total", **of) == 1


class Deleting:
    """A store whose deletion of a gallery is under way until ``done`` has a result."""

    def __init__(self) -> None:
        self.done: Future[Any] = Future()
        self.done.set_running_or_notify_cancel()

    def delete_gallery(self, gallery_id: str) -> "Future[Any]":
        return self.done


async def test_it_is_forgotten_when_its_deletion_succeeds_though_its_caller_left() -> None:
    store, forgotten = Deleting(), asyncio.Event()
    galleries = GalleryService(store, None, None, None, None, lambda _: forgotten.set())  # type: ignore[arg-type]
    deletion = asyncio.create_task(galleries.delete(CALL, "g"))
    await asyncio.sleep(0)
    deletion.cancel()
    await asyncio.wait([deletion])
    store.done.set_result("as it was")
    await reached(forgotten.is_set)


def test_a_gallery_that_is_deleted_while_its_probe_is_encoded_gets_no_new_queue(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode = Encoding.encode
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:

        async def encode_while_it_is_deleted(self: Encoding, *args: Any, **kwargs: Any) -> Any:
            encoded = await encode(self, *args, **kwargs)
            await server._gate.services.galleries.delete(CALL, "g")
            return encoded

        client.create_gallery("g", encoder="pixels")
        monkeypatch.setattr(Encoding, "encode", encode_while_it_is_deleted)
        with pytest.raises(OneglanceError) as caught:
            client.identify("g", picture(5))
        assert caught.value.reason == "GALLERY_NOT_FOUND"
        assert not server._gate.services.identification._batchers
