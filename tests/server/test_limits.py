"""What one caller can make the server hold or do is bounded."""

from pathlib import Path

import numpy as np
import pytest

from oneglance import Client, OneglanceError, enroll_request, identify_request
from oneglance_core.faces.finder import FaceFinder, FaceSearch
from oneglance_core.folder import read_any_model_folder
from oneglance_core.manifests import DetectorManifest
from tests import face_models
from tests.face_models import encoded
from tests.face_models import face_models as make_models
from tests.pictures import picture, png
from tests.running import server_thread


def test_more_bytes_under_way_than_allowed_are_refused_and_streams_wait(
    models: tuple[Path, Path], tmp_path: Path
) -> None:
    labels = {f"pad{n}": "x" * 1000 for n in range(60)}
    big = [enroll_request("g", f"s{i}", [png(picture(i))], labels=labels) for i in range(60)]
    assert sum(item.ByteSize() for item in big) > 3 << 20
    with (
        server_thread(data_dir=tmp_path, models=models, max_inflight_bytes=1 << 20) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", encoder="pixels")
        assert all(answer.HasField("enrolled") for answer in client.bulk_enroll(big))
        for connection in ("one", "two"):  # as if large calls of others were under way
            server._call_bytes.take(connection, 1 << 18)
        with pytest.raises(OneglanceError) as caught:
            client.identify("g", picture(1))
        assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        assert caught.value.metadata["queue"] == "requests"
        for connection in ("one", "two"):
            server._call_bytes.give(connection, 1 << 18)
        assert client.identify("g", picture(1)).results[0].subject_id == "s1"
        assert client.get_gallery("g").subject_count == 60


def test_a_crowd_of_crowds_is_refused_before_it_is_encoded(tmp_path: Path) -> None:
    """Photos of many faces each, more together than one call may have."""
    places = {(x, y): 1 for x in range(8, 1000, 40) for y in range(8, 1000, 40)}
    crowd = encoded(face_models.photo(places, size=(1024, 1024)))
    models = (make_models(tmp_path / "m"),)
    with (
        server_thread(data_dir=tmp_path / "d", models=models, max_faces=4096, search_pixels=2 << 20) as server,
        Client(server.address) as client,
    ):
        client.create_gallery("g", quality_policy="off")
        faces = len(client.detect_faces(crowd, small_faces="never").photos[0].faces)
        assert faces == len(places)
        with pytest.raises(OneglanceError) as caught:
            client.identify("g", *[crowd] * (2048 // faces + 1))
        assert caught.value.reason == "TOO_MANY"
        with pytest.raises(OneglanceError) as caught:
            client.encode(crowd)
        assert caught.value.reason == "FACES_SEVERAL"
        assert caught.value.photo is not None
        assert len(caught.value.photo.faces) == 32  # trailing metadata can't hold more
        assert caught.value.photo.faces_truncated
        assert caught.value.metadata["faces"] == str(len(places))


def test_want_of_memory_is_not_blamed_on_the_picture(
    models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(*_: object, **__: object) -> None:
        raise MemoryError

    folders = (models[0], make_models(tmp_path / "m"))
    with server_thread(data_dir=tmp_path / "d", models=folders) as server, Client(server.address) as client:
        one = encoded(face_models.photo({(8, 8): 1}))
        monkeypatch.setattr("oneglance_core.pictures._upright", no_room)
        for encoder in ("tiny-faces", "pixels"):
            with pytest.raises(OneglanceError) as caught:
                client.encode(one, encoder=encoder)
            assert (caught.value.code.name, caught.value.reason) == ("RESOURCE_EXHAUSTED", "QUEUE_FULL")
        monkeypatch.undo()
        assert len(client.encode(one, encoder="tiny-faces").encodings) == 1


@pytest.mark.parametrize("shape", [(7, 500_000), (500_000, 7), (1, 2_000_000), (300, 60_000), (3000, 3000)])
def test_no_photo_makes_the_detector_look_at_more_than_it_may(tmp_path: Path, shape: tuple[int, int]) -> None:
    folder = read_any_model_folder(make_models(tmp_path) / "detector")
    assert isinstance(folder.manifest, DetectorManifest)
    seen: list[int] = []

    def score(canvases: np.ndarray) -> np.ndarray:
        seen.append(canvases.shape[1] * canvases.shape[2])
        return np.zeros((len(canvases), 1, 1), np.float32)

    finder = FaceFinder(score, folder.manifest, lambda inputs: np.empty((0, 5, 2), np.float32), FaceSearch(min_face=10))
    (photo,) = finder.find([np.zeros((*shape, 3), np.uint8)], ["always"])
    assert not photo.faces
    assert max(seen, default=0) <= 16_000_000


def test_in_a_stream_a_photo_without_the_face_meant_has_no_result(tmp_path: Path) -> None:
    from oneglance import photo

    models = (make_models(tmp_path / "m"),)
    with server_thread(data_dir=tmp_path / "d", models=models) as server, Client(server.address) as client:
        client.create_gallery("g", quality_policy="off")
        one, nobody = encoded(face_models.photo({(8, 8): 1})), encoded(face_models.photo({}))
        client.enroll("g", "ada", one)
        answer = client.identify("g", photo(one, "largest"), photo(nobody, "largest"), photo(one, (100, 80, 4, 4)))
        assert [(r.probe_index, r.subject_id) for r in answer.results] == [(0, "ada")]
        assert set(answer.photos) == {0, 1, 2}
        assert [
            a.HasField("response") for a in client.identify_stream([identify_request("g", [photo(nobody, "largest")])])
        ] == [True]
