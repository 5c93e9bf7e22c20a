"""Want of memory is RESOURCE_EXHAUSTED for the call that wanted it; the next one is served."""

import functools
import io
import re
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from oneglance import Client, OneglanceError
from oneglance.client.errors import raise_from
from oneglance_index import IndexSettings, LocalGalleries
from oneglance_server.engines.encoder import Encoder
from oneglance_server.engines.stylizer import Stylizer
from tests.models import pixels
from tests.pictures import picture, png
from tests.running import ServerProcess, server_thread
from tests.waiting import PATIENCE_SECONDS, until

WANTED = ("RESOURCE_EXHAUSTED", "QUEUE_FULL")


def outcome(call: Callable[[], Any]) -> tuple[str, str]:
    try:
        call()
    except OneglanceError as error:
        return error.code.name, error.reason
    return "OK", ""


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[ONNXRuntimeError] : 1 : FAIL : bad_alloc")], ids=["ours", "engine"]
)
def test_in_an_engine(
    error: Exception, models: tuple[Path, Path], tints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    painted = png(np.zeros((64, 64, 3), np.uint8))
    with server_thread(data_dir=tmp_path, models=(*models, tints)) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        calls = {
            "enroll": lambda: client.enroll("g", "it", picture(1)),
            "identify": lambda: client.identify("g", picture(1)),
            "stylize": lambda: client.stylize(painted, "ember"),
        }
        for engine in (Encoder, Stylizer):
            for model in server._gate.services.models._models:
                if isinstance(model, engine):
                    monkeypatch.setattr(model._session, "run", lambda *_: fail(error))
        for name, call in calls.items():
            assert outcome(call) == WANTED, name
        monkeypatch.undo()
        for name, call in calls.items():
            assert outcome(call) == ("OK", ""), name


@pytest.mark.parametrize("step", ["search_many", "verify", "get_subject", "list_subjects", "get_gallery"])
def test_in_the_store(step: str, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels", doubt_policy="off")  # else enrolling searches, too
        client.enroll("g", "it", picture(1))
        calls: dict[str, Callable[[], Any]] = {
            "search_many": lambda: client.identify("g", picture(1)),
            "verify": lambda: client.verify("g", "it", picture(1)),
            "get_subject": lambda: client.get_subject("g", "it"),
            "list_subjects": lambda: list(client.list_subjects("g")),
            "get_gallery": lambda: client.get_gallery("g"),
        }
        wanting = [MemoryError()]
        method = getattr(LocalGalleries, step)
        monkeypatch.setattr(LocalGalleries, step, lambda *a, **k: fail(wanting.pop()) if wanting else method(*a, **k))
        assert outcome(calls[step]) == WANTED
        assert outcome(calls[step]) == ("OK", "")


def test_in_the_parser(models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one error for want of memory and for what is no message."""
    with server_thread(data_dir=tmp_path, models=models) as server, grpc.insecure_channel(server.address) as channel:
        identify: Any = channel.unary_unary("/oneglance.v1.IdentificationService/Identify")

        def send() -> None:
            try:
                identify(b"\x0a\x01\xff", timeout=PATIENCE_SECONDS)  # a text that is not UTF-8
            except grpc.RpcError as error:
                raise_from(error)

        with monkeypatch.context() as patched:
            patched.setattr(np, "empty", lambda *_: fail(MemoryError()))
            assert outcome(send) == WANTED
        assert outcome(send) == ("INVALID_ARGUMENT", "MALFORMED")


def fail(error: Exception) -> None:
    raise error


def test_no_call_needs_a_new_thread(models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def adjust(executor: ThreadPoolExecutor) -> None:
        if len(executor._threads) < executor._max_workers:
            raise RuntimeError("can't start new thread")

    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        with monkeypatch.context() as patched:
            patched.setattr(ThreadPoolExecutor, "_adjust_thread_count", adjust)
            client.enroll("g", "it", picture(1), request_id="r")
            client.enroll("g", "it", picture(1), request_id="r")
            assert client.identify("g", picture(1)).results[0].subject_id == "it"


def test_large_pictures_under_a_tight_limit(models: tuple[Path, Path], tmp_path: Path) -> None:
    """40 megapixels, with room for none of them; small calls after each are served."""
    buffer = io.BytesIO()
    Image.new("RGB", (8000, 5000)).save(buffer, "PNG")
    with (
        ServerProcess(tmp_path, models=models[0]) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.create_gallery("g")
        client.enroll("g", "it", picture(1))

        def bytes_of(name: str) -> int:
            found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
            assert found is not None
            return int(found[1]) << 10

        most = bytes_of("VmRSS") + (100 << 20)
        for _ in range(4):  # in several threads
            assert outcome(lambda: client.identify("g", buffer.getvalue()))[0] == "OK"
            until(lambda: bytes_of("VmRSS") < most)  # the picture's 160 MB are given back
        limit = bytes_of("VmSize") + (32 << 20)
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (limit, limit))
        for _ in range(3):
            assert outcome(lambda: client.identify("g", buffer.getvalue())) == WANTED
            for _ in range(3):
                assert outcome(lambda: client.identify("g", picture(1))) == ("OK", "")


def test_what_cannot_grow_refuses_the_enrollment_not_the_next_answers(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    """A gallery of 72 MB, more than malloc has for a thread, under a limit with no room for as much again."""
    pictures = [picture(i) for i in range(20)]
    with ServerProcess(tmp_path, models=models[0]) as server:
        with Client(server.address) as client:
            encoder = client.create_gallery("large", fusion="nearest").encoder_digest
        assert server.terminate()[0] == 0
    many = np.random.default_rng(0).standard_normal((13, 20_000, 64), dtype=np.float32) + 10
    with LocalGalleries.open(tmp_path, settings=IndexSettings(max_encodings_per_subject=many.shape[1])) as galleries:
        for i, one in enumerate(pixels(np.stack(pictures))):
            galleries.enroll("large", f"s{i}", one[None], encoder_digest=encoder).result()
        for i, vectors in enumerate(many):
            galleries.enroll("large", f"far{i}", vectors).result()
    with (
        ServerProcess(tmp_path, models=models[0]) as server,
        Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client,
    ):
        client.create_gallery("small", fusion="nearest")

        def check() -> None:
            results = client.identify("large", *pictures, max_candidates=1).results
            assert [result.subject_id for result in results] == [f"s{i}" for i in range(20)]
            client.wait_until_serving()

        check()
        size = re.search(r"VmSize:\s+(\d+) kB", Path(f"/proc/{server.process.pid}/status").read_text())
        assert size is not None
        limit = (int(size[1]) << 10) + (16 << 20)
        hard = resource.prlimit(server.process.pid, resource.RLIMIT_AS)[1]
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (limit, hard))
        told: list[tuple[str, str]] = []
        while told.count(WANTED) < 3:
            subject_id, examples = f"new{len(told)}", [picture(100 + len(told))] * 32
            told.append(outcome(functools.partial(client.enroll, "large", subject_id, *examples)))
            check()
            client.enroll("small", subject_id, *examples)
            assert client.identify("small", examples[0]).results[0].subject_id == subject_id
        assert set(told) <= {WANTED, ("OK", "")}
        enrolled = told.count(("OK", ""))
        assert client.get_gallery("large").subject_count == 20 + len(many) + enrolled
        # With nothing left at all, SQLite may lack what a large deletion takes.
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (limit + (16 << 20), hard))
        client.delete_gallery("large")
        resource.prlimit(server.process.pid, resource.RLIMIT_AS, (limit, hard))
        client.create_gallery("large", fusion="nearest")
        for i in range(20):
            client.enroll("large", f"s{i}", *[pictures[i]] * 32)
        check()
        assert server.terminate()[0] == 0
