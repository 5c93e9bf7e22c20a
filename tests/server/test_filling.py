"""A gallery moves to another encoder by the crops that it keeps of pictures, on a real server."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance import Client, FailedPreconditionError, OneglanceError, ResourceExhaustedError, encoding, photo, tensor
from oneglance.v1.gallery_pb2 import FillFromCropsRequest, FillFromCropsResponse
from oneglance_apps.cli import main
from oneglance_core.kept_crops import LONGEST_SIDE, read_crop
from oneglance_index import LocalGalleries, read_trail
from tests import face_models
from tests.face_models import CHIP, encoded
from tests.models import pixels_model
from tests.pictures import picture, png
from tests.running import ServerProcess, server_thread
from tests.server.access.callers import ADMIN, key_of
from tests.server.sharing import Kept
from tests.server.test_succession import small_model
from tests.waiting import PATIENCE_SECONDS, until


@contextmanager
def serving(folder: Path, **options: object) -> Iterator[Client]:
    models = [folder / name for name in ("pixels", "small")]
    if not models[0].exists():
        pixels_model(models[0])
        small_model(models[1])
    with (
        server_thread(models=tuple(models), **{"data_dir": folder / "data", **options}) as server,
        Client(server.address) as client,
    ):
        yield client


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with serving(tmp_path) as connected:
        yield connected


def start(client: Client, subjects: int = 3) -> None:
    client.create_gallery("g", encoder="pixels", fusion="nearest", keep_crops=True, doubt_policy="off")
    for i in range(subjects):
        client.enroll("g", f"s{i}", png(picture(i)), png(picture(100 + i)), labels={"n": str(i)})
    client.start_move("g", "new", "small")
    client.set_threshold("g", 1e-6)
    client.set_threshold("new", 1e-6)


def fill(client: Client, **options: bool) -> tuple[int, list[tuple[str, str]]]:
    """How many were moved, and of whom what was refused."""
    answers = list(client.fill_from_crops("g", **options))
    refused = [(one.subject_id, one.error.reason) for answer in answers for one in answer.refused]
    return sum(one.moved_count for one in answers), refused


def who(client: Client, gallery_id: str, seed: int) -> str:
    return client.identify(gallery_id, png(picture(seed))).results[0].subject_id


def check_moved(client: Client, subjects: int = 3) -> None:
    """All are found by their pictures at distance 0: a small picture is kept as it is."""
    assert fill(client) == (subjects, [])
    assert fill(client) == (0, [])
    told = client.get_move("g")
    assert (told.left_count, told.fewer_encodings_count, told.with_crops_count) == (0, 0, 0)
    assert client.cut_over("g").encoding_count == 2 * subjects
    assert [who(client, "g", seed) for seed in (0, 1, 2, 100, 102, 55)] == ["s0", "s1", "s2", "s0", "s2", ""]
    assert client.get_subject("g", "s1").labels == {"n": "1"}
    assert client.get_gallery("g").keep_crops


def test_all_are_moved_by_their_crops(client: Client) -> None:
    start(client)
    assert client.get_move("g").with_crops_count == 3
    check_moved(client)


def test_it_is_so_of_galleries_that_are_kept_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    kept = Kept(tmp_path / "kept")
    try:
        with serving(tmp_path, data_dir=tmp_path / "own", galleries=kept.keeping.name) as client:
            start(client)
            check_moved(client)
    finally:
        kept.close()


def test_what_was_ended_goes_on(client: Client) -> None:
    start(client)
    request = FillFromCropsRequest(gallery_id="g", page_size=1)
    first: FillFromCropsResponse = client._call(client._galleries.FillFromCrops, request)
    assert (first.moved_count, bool(first.next_page_token)) == (1, True)
    assert fill(client) == (2, [])


def test_the_server_is_killed_while_it_fills(tmp_path: Path) -> None:
    """kill -9 between the answers: nobody is half moved, and the same call goes on with those who are left."""
    subjects = 40
    pixels_model(tmp_path / "models" / "pixels")
    small_model(tmp_path / "models" / "small")
    done = 0
    for kill_after in (7, 11, None):
        with (
            ServerProcess(tmp_path / "data", models=tmp_path / "models", log=tmp_path / "log") as server,
            Client(server.address) as client,
        ):
            client.wait_until_serving(PATIENCE_SECONDS)
            if done == 0:
                start(client, subjects)
            left = client.get_move("g").left_count
            assert subjects - left >= done  # what was answered holds; the call under way may be done, too
            there = {one.id: len(one.encodings) for one in client.list_subjects("new")}
            assert (len(there), set(there.values()) <= {2}) == (subjects - left, True)
            done = subjects - left
            request = FillFromCropsRequest(gallery_id="g", page_size=1)
            while kill_after is None or kill_after:
                answer: FillFromCropsResponse = client._call(client._galleries.FillFromCrops, request)
                done += answer.moved_count
                request.page_token = answer.next_page_token
                if kill_after is None and not answer.next_page_token:
                    check_moved_all(client, subjects)
                    return
                kill_after = kill_after and kill_after - 1
            asked = client._galleries.FillFromCrops.future(request)
            server.kill()
            asked.cancel()


def check_moved_all(client: Client, subjects: int) -> None:
    told = client.get_move("g")
    assert (told.left_count, told.fewer_encodings_count) == (0, 0)
    assert client.cut_over("g").encoding_count == 2 * subjects


def test_what_comes_by_no_picture_has_no_crop(client: Client) -> None:
    start(client, 1)
    client.end_move("g")
    pixels = picture(7)
    made = client.encode(png(picture(8)), encoder="pixels")
    client.enroll("g", "s0", tensor(pixels))
    client.enroll("g", "by-hand", encoding(made.encodings[0].values, made.encodings[0].encoder_digest))
    client.start_move("g", "new", "small")
    assert client.get_move("g").with_crops_count == 1
    assert fill(client) == (0, [("s0", "CROP_MISSING")])
    assert fill(client, fewer=True) == (1, [("s0", "CROP_MISSING")])
    assert [one.subject_id for one in client.list_left("g")] == ["by-hand"]
    assert client.get_move("g").fewer_encodings_count == 1


def test_switched_off_nothing_is_left_to_move_by(client: Client) -> None:
    start(client)
    assert not client.set_keep_crops("g", False).keep_crops
    assert not client.get_gallery("new").keep_crops
    assert client.get_move("g").with_crops_count == 0
    assert fill(client) == (0, [])


def test_without_a_move_there_is_nothing_to_fill(client: Client) -> None:
    client.create_gallery("g", encoder="pixels", keep_crops=True)
    with pytest.raises(FailedPreconditionError) as none:
        list(client.fill_from_crops("g"))
    assert none.value.reason == "NOT_MOVING"


def test_its_encoder_must_be_loaded(tmp_path: Path) -> None:
    with serving(tmp_path) as client:
        start(client)
    with (
        server_thread(data_dir=tmp_path / "data", models=(tmp_path / "pixels",)) as server,
        Client(server.address) as client,
        pytest.raises(FailedPreconditionError) as missing,
    ):
        list(client.fill_from_crops("g"))
    assert missing.value.reason == "ENCODER_NOT_LOADED"


def test_it_spends_the_quota_of_encodings_and_goes_on_later(tmp_path: Path) -> None:
    quota = '\n[[quota]]\nto = ["key:admin"]\nencodings = "10/hour"\n'
    key = key_of(tmp_path / "data", "admin")
    (tmp_path / "policy.toml").write_text(ADMIN + quota)
    policy = str(tmp_path / "policy.toml")
    with serving(tmp_path, policy=policy) as anonymous, Client(anonymous.target, token=key) as client:
        start(client, 3)
        with pytest.raises(ResourceExhaustedError):
            list(client.fill_from_crops("g"))
        assert client.get_move("g").left_count == 1


def test_the_audit_trail_and_the_command_tell_it(
    tmp_path: Path, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    start(client)
    client.enroll("g", "s1", tensor(picture(7)))
    assert main(["fill-from-crops", "g", "--server", client.target]) == 0
    told = capsys.readouterr().out
    assert "2 subjects moved" in told
    assert "s1, encoding" in told
    assert "1 subject left to be moved (1 with crops: fill-from-crops)" in told
    assert main(["set-keep-crops", "g", "off", "--server", client.target]) == 0
    assert "keeps crops" not in capsys.readouterr().out
    assert main(["set-keep-crops", "g", "on", "--server", client.target]) == 0
    assert "keeps crops of pictures" in capsys.readouterr().out

    def entries() -> list[dict[str, object]]:
        return [json.loads(line) for line in read_trail(tmp_path / "data")]

    until(lambda: "fill-from-crops" in [one["did"] for one in entries()])
    did = {str(one["did"]): one for one in entries()}
    assert (did["fill-from-crops"]["count"], did["fill-from-crops"]["refused"]) == (2, 1)
    assert did["set-keep-crops"]["keep_crops"] is True
    assert {one["subject"] for one in entries() if one.get("from_crops")} == {"s0", "s2"}
    assert did["create-gallery"]["keep_crops"] is True


def test_large_pictures_are_kept_small(tmp_path: Path) -> None:
    wide = np.random.default_rng(3).integers(0, 256, (700, 1400, 3), dtype=np.uint8)
    with serving(tmp_path) as client:
        client.create_gallery("g", encoder="pixels", keep_crops=True)
        client.enroll("g", "s", encoded(wide, "JPEG", quality=95))
        client.start_move("g", "new", "small")
    with LocalGalleries.open(tmp_path / "data") as galleries:
        (left,) = galleries.list_left_crops("g").subjects
    crop = read_crop(left.encodings[0].crop)
    assert crop.box is None
    assert Image.open(io.BytesIO(crop.picture)).size == (LONGEST_SIDE, LONGEST_SIDE // 2)


ADA, BOB = 1, 2


def test_a_face_is_moved_by_what_is_around_it(tmp_path: Path) -> None:
    """From a group photo; a chip that no face is found in is told, and its subject left whole."""
    face_models.face_models(tmp_path / "models")
    face_models.face_encoder(tmp_path / "models" / "later", tau=0.05, name="later-faces", middle=100.0)
    group = face_models.photo({(8, 8): ADA, (96, 64): BOB})
    with (
        server_thread(data_dir=tmp_path / "data", models=(tmp_path / "models",), min_face=10) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", encoder="tiny-faces", keep_crops=True, quality_policy="off", doubt_policy="off")
        client.enroll("g", "bob", photo(encoded(group), (96, 64, 16, 16)))
        client.enroll("g", "ada", encoded(face_models.photo({(16, 24): ADA})))
        chip = face_models.colours(ADA).repeat(CHIP // 2, axis=0).repeat(CHIP // 2, axis=1)
        client.enroll("g", "ada", photo(encoded(chip), "aligned"))
        client.start_move("g", "new", "later-faces")
        assert fill(client) == (1, [("ada", "FACE_NOT_FOUND")])
        assert [one.subject_id for one in client.list_left("g")] == ["ada"]
        assert fill(client, fewer=True) == (1, [("ada", "FACE_NOT_FOUND")])
        client.cut_over("g")
        for place, name in (((16, 24), "ada"), ((40, 40), "bob")):
            person = ADA if name == "ada" else BOB
            (result,) = client.identify("g", encoded(face_models.photo({place: person}))).results
            assert (result.subject_id, result.candidates[0].distance < 1e-4) == (name, True)


def test_no_answer_has_a_crop(client: Client) -> None:
    """Of all that can be asked of a gallery that keeps some."""
    start(client)
    kept = png(picture(0))[:64]
    answers = [
        client.get_gallery("g"),
        client.get_subject("g", "s0"),
        *client.list_subjects("g"),
        *client.fill_from_crops("g"),
        client.get_move("g"),
        client.identify("g", png(picture(0))),
    ]
    assert not [one for one in answers if kept[16:] in one.SerializeToString()]


def test_errors_are_typed(client: Client) -> None:
    start(client)
    with pytest.raises(OneglanceError) as forged:
        client._call(client._galleries.FillFromCrops, FillFromCropsRequest(gallery_id="g", page_token="!"))
    assert forged.value.code.name == "INVALID_ARGUMENT"
