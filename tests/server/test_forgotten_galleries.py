"""Of a deleted gallery nothing is kept: otherwise memory grew with the number of galleries there ever were."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from oneglance import Client, OneglanceError
from oneglance_server.calls import Call, Caller
from oneglance_server.offload import Threads
from oneglance_server.service.encoding import Encoding
from oneglance_server.service.galleries import GalleryService
from oneglance_server.service.identification import IdentificationService
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


@pytest.mark.parametrize("again", [False, True], ids=["deleted", "and made again"])
def test_what_was_under_way_is_not_counted_for_it(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """It is deleted after a search was answered, and before the decision."""
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:

        def deleting(call: Callable[..., Any]) -> Callable[..., Any]:
            async def called(*args: Any, **kwargs: Any) -> Any:
                found = await call(*args, **kwargs)
                galleries = server._gate.services.galleries
                await galleries.delete(CALL, "g")
                if again:
                    await galleries.create(
                        *(CALL, "g", "pixels", ""), "mean", 0.01, "off", 0.0, "off", "distance", keep_crops=False
                    )
                return found

            return called

        for owner, name, ask in (
            (IdentificationService, "search", lambda: client.identify("g", picture(5))),
            (Threads, "run", lambda: client.verify("g", "s", picture(5))),
            (Encoding, "encode", lambda: client.compare(picture(5), picture(6), gallery_id="g")),
        ):
            client.create_gallery("g", encoder="pixels", doubt_policy="off")
            client.enroll("g", "s", picture(5))
            with monkeypatch.context() as patched:
                patched.setattr(owner, name, deleting(getattr(owner, name)))
                ask()
            for decision in ("identified", "unknown", "same", "different"):
                of = {"gallery": "g", "decision": decision}
                assert server._metrics.registry.get_sample_value("oneglance_decisions_total", of) is None
            if again:
                client.delete_gallery("g")


class Deleting:
    """A store whose deletion of a gallery is under way until ``done`` has a result."""

    def __init__(self) -> None:
        self.done: Future[Any] = Future()
        self.done.set_running_or_notify_cancel()

    def delete_gallery(self, gallery_id: str) -> "Future[Any]":
        return self.done

    def known(self, gallery_id: str) -> SimpleNamespace:
        return SimpleNamespace(id=gallery_id, move=None)


async def test_it_is_forgotten_when_its_deletion_succeeds_though_its_caller_left() -> None:
    store, forgotten = Deleting(), asyncio.Event()
    galleries = GalleryService(
        *(store, None, None, None, None),  # type: ignore[arg-type]
        lambda _: forgotten.set(),
        None,  # type: ignore[arg-type]
    )
    deletion = asyncio.create_task(galleries.delete(CALL, "g"))
    await asyncio.sleep(0)
    deletion.cancel()
    await asyncio.wait([deletion])
    store.done.set_result(SimpleNamespace(gallery=SimpleNamespace(id="g", move=None)))
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
