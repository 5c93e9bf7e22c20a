"""A drain under load: whatever is called, the caller gets its answer or is told that the server drains."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from oneglance import Client, OneglanceError, enroll_request, identify_request, retention
from tests.pictures import picture, png
from tests.running import server_thread
from tests.waiting import PATIENCE_SECONDS, until

T = TypeVar("T")
PAINTED = png(np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8))


def forever(item: Callable[[], T], end: threading.Event) -> Iterator[T]:
    while not end.is_set():
        yield item()


def kinds(client: Client, end: threading.Event) -> dict[str, Callable[[], object]]:
    """A call of each kind; the streams go on until ``end``."""
    it, other = picture(1), picture(2)

    def last(answers: Iterator[object]) -> None:
        for _ in answers:
            pass

    return {
        "Identify": lambda: client.identify("g", it, other, tau=0.1),
        "Verify": lambda: client.verify("g", "it", it),
        "Compare": lambda: client.compare(it, other, gallery_id="g"),
        "Encode": lambda: client.encode(it, encoder="pixels"),
        "Enroll": lambda: client.enroll("g", "it", it, on_existing="replace"),
        "GetSubject": lambda: client.get_subject("g", "it"),
        "ListSubjects": lambda: list(client.list_subjects("g")),
        "DeleteSubject": lambda: (client.enroll("g", "x", it), client.delete_subject("g", "x")),
        "Galleries": lambda: (client.create_gallery("x", encoder="pixels"), client.delete_gallery("x")),
        "ListGalleries": lambda: list(client.list_galleries()),
        "SetThreshold": lambda: client.set_threshold("g", 0.25),
        "SetQualityPolicy": lambda: client.set_quality_policy("g", "off"),
        "SetDecidedBy": lambda: client.set_decided_by("g", "distance"),
        "SetLeastGap": lambda: client.set_least_gap("g", 0.0),
        "ListLookAlikes": lambda: client.list_look_alikes("g", 0.1),
        "SetApproximation": lambda: client.set_approximation("g", None),
        "Moves": lambda: move_there_and_back(client),
        "SetDoubtPolicy": lambda: client.set_doubt_policy("g", "flag"),
        "Negatives": lambda: client.delete_negative("g", "it", client.add_negative("g", "it", other).negative_id),
        "Retention": lambda: (client.set_retention("g", "it", retention(None, "p")), list(client.list_expired())),
        "RotateKey": lambda: client.rotate_key("g"),
        "ListThresholds": lambda: list(client.list_thresholds("g")),
        "ListModels": client.list_models,
        "Stylize": lambda: client.stylize(PAINTED, "ember"),
        "BulkEnroll": lambda: last(client.bulk_enroll(forever(lambda: enroll_request("g", "b", [it]), end))),
        "IdentifyStream": lambda: last(
            client.identify_stream(forever(lambda: identify_request("g", [it], tau=0.1), end))
        ),
        "StylizeStream": lambda: last(client.stylize_stream(forever(lambda: PAINTED, end), "ember")),
    }


def move_there_and_back(client: Client) -> None:
    name = uuid.uuid4().hex
    client.create_gallery(name, encoder="pixels")
    client.start_move(name, f"{name}-new", "signal")
    client.set_threshold(f"{name}-new", 0.1)
    client.get_move(name)
    list(client.list_left(name))
    list(client.fill_from_crops(name))
    client.set_keep_crops(name, False)
    client.cut_over(name)
    client.roll_back(name)
    client.end_move(name)
    client.delete_gallery(name)


def test_every_caller_is_answered_or_told(
    models: tuple[Path, Path], tints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = threading.Event()
    told: Counter[tuple[str, str, str]] = Counter()
    served: Counter[str] = Counter()

    def hammer(name: str, call: Callable[[], object]) -> None:
        """Until the server drains or has gone."""
        while not end.is_set():
            try:
                call()
                served[name] += 1
            except OneglanceError as error:
                if error.code.name in ("ALREADY_EXISTS", "NOT_FOUND"):  # the other client was faster
                    continue
                told[name, error.code.name, error.reason] += 1
                return
            except Exception as error:  # a fault of this test
                told[name, repr(error), ""] += 1
                return

    with ThreadPoolExecutor(64) as pool:
        with server_thread(data_dir=tmp_path, models=(*models, tints), drain_seconds=2) as server:
            clients = [Client(server.address, timeout_seconds=PATIENCE_SECONDS) for _ in range(2)]
            clients[0].create_gallery("g", encoder="pixels")
            clients[0].enroll("g", "it", picture(1))  # not what becomes a negative
            names = kinds(clients[0], end)
            for client in clients:
                for name, call in kinds(client, end).items():
                    pool.submit(hammer, name, call)
            unary = [name for name in names if not name.endswith(("Stream", "BulkEnroll"))]
            try:
                until(lambda: all(served[name] for name in unary) or told)
                assert not told, told
            except BaseException:
                end.set()  # else the callers would be waited for
                raise
        end.set()
    for client in clients:
        client.close()
    assert {outcome[1:] for outcome in told} == {("UNAVAILABLE", "NOT_SERVING")}, told
    assert {name for name, _, _ in told} == set(names)
