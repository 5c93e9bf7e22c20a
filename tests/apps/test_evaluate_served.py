"""What ``oneglance evaluate`` judges is what the running server answers."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from oneglance import Client
from oneglance.v1.identification_pb2 import DECISION_IDENTIFIED, IdentifyResult
from oneglance_apps.cli import main
from oneglance_apps.served_encodings import served_encodings
from oneglance_core.glyphs import alphabet
from oneglance_core.judging.galleries import draw
from oneglance_core.judging.judge import judge
from oneglance_core.judging.labelled import LabelledEncodings
from oneglance_core.measures import largest_tau_for_rate
from tests.face_models import encoded, face_models, photo
from tests.models import pixels_model
from tests.pictures import png
from tests.running import server_thread


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    for seed in (1, 2):
        for character in alphabet(seed, 4, 3, 40):
            place = root / f"alphabet-{seed}" / character.name
            place.mkdir(parents=True)
            for number, drawing in enumerate(character.drawings):
                (place / f"{number}.png").write_bytes(png(drawing))
    return root


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    models = tmp_path_factory.mktemp("models")
    folders = (pixels_model(models / "pixels"), pixels_model(models / "other", name="other", resize="bilinear"))
    with (
        server_thread(data_dir=tmp_path_factory.mktemp("data"), models=folders) as server,
        Client(server.address) as connected,
    ):
        yield connected


@pytest.fixture(scope="module")
def people(client: Client, pictures: Path) -> LabelledEncodings:
    return served_encodings(client, pictures, "pixels", print, lambda done, words: None)[0]


def identified(client: Client, gallery: str, pictures: Path, people: LabelledEncodings) -> list[IdentifyResult]:
    """Of every picture, in order."""
    results = client.identify(gallery, *(pictures / file for file in people.files), max_candidates=1).results
    return sorted(results, key=lambda result: result.probe_index)


def test_rates_are_those_of_the_servers_own_decisions(
    client: Client, pictures: Path, people: LabelledEncodings
) -> None:
    splits, fmr = 2, 0.01
    judged = judge(people, splits=splits, replicates=10)
    tau = largest_tau_for_rate(judged.pairs.non_mated, fmr)
    size = len(people.subjects) // 2
    let_in: list[bool] = []
    right: list[bool] = []
    for seed in range(splits):
        drawn = draw(people, 1, seed)
        for enrolled in (size, len(people.subjects)):
            gallery = f"{enrolled} {seed}"
            client.create_gallery(gallery, encoder="pixels")
            for place in range(enrolled):
                row = int(drawn.enrolled[place, 0])
                client.enroll(
                    gallery, people.subjects[drawn.order[place]].replace("/", ":"), pictures / people.files[row]
                )
            client.set_threshold(gallery, max(tau, 0.0))
            for row, result in enumerate(identified(client, gallery, pictures, people)):
                if enrolled == size and drawn.place[row] >= size:
                    let_in.append(result.decision == DECISION_IDENTIFIED)
                if enrolled > size and drawn.probe[row]:
                    mate = people.subjects[people.subject_of[row]].replace("/", ":")
                    right.append(result.candidates[0].subject_id == mate)
    by_size = {one.gallery_size: one for one in judged.galleries.by_size}
    half, everybody = by_size[size].fpir, by_size[len(people.subjects)].rank1
    assert half is not None
    assert everybody is not None
    assert half[fmr][0].value == pytest.approx(np.mean(let_in))
    assert everybody.value == pytest.approx(np.mean(right))
    assert 0 < np.mean(right) < 1  # or it would tell nothing


def test_the_command_judges_compares_and_writes_a_page(
    client: Client, pictures: Path, people: LabelledEncodings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    options = ["evaluate", str(pictures), "--server", client.target, "--splits", "2"]
    assert main([*options, "--encoder", "pixels", "--against", "other", "--report", str(page), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["judged"][0] == {"name": "pixels", **json.loads(json.dumps(judge(people, splits=2).as_dict()))}
    assert told["judged"][1]["name"] == "other"
    assert told["comparison"]["differences"][0]["name"] == "EER"
    assert "other against pixels" in page.read_text()
    assert "data:image/" in page.read_text()
    client.create_gallery("asked", encoder="other")
    assert main([*options, "--gallery", "asked"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("other: 24 examples of 8 subjects")
    assert "gallery asked: τ = 0." in out


def test_what_can_not_be_judged_is_one_line(
    client: Client, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--server", client.target, "--encoder", "pixels"]
    broken = tmp_path / "broken"
    for subject in ("a", "b"):
        (broken / subject).mkdir(parents=True)
        (broken / subject / "1.png").write_bytes(b"no picture" if subject == "b" else png(np.zeros((9, 9), np.uint8)))
    for arguments, status, line in (
        ([str(tmp_path / "none")], 2, "no such folder"),
        ([str(broken)], 2, "b/1.png: not a picture of a known format"),
        ([str(pictures), "--report", str(tmp_path / "none" / "page.html")], 2, "no file can be written there"),
        ([str(pictures), "--encoder", "nobody"], 1, "MODEL_NOT_FOUND"),
    ):
        assert main(["evaluate", *arguments[:1], *options, *arguments[1:], "--splits", "1"]) == status, arguments
        err = capsys.readouterr().err
        assert line in err
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main(["evaluate", str(empty), *options]) == 2
    assert "no pictures; they belong in" in capsys.readouterr().err


def test_photos_without_a_face_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = face_models(tmp_path / "models")
    for person in (1, 2, 3):
        (tmp_path / "photos" / str(person)).mkdir(parents=True)
        for number in range(3):
            seen = photo({} if (person, number) == (3, 2) else {(16 + 4 * number, 16): person})
            (tmp_path / "photos" / str(person) / f"{number}.png").write_bytes(encoded(seen))
    with server_thread(data_dir=tmp_path / "data", models=(models,)) as server:
        assert main(["evaluate", str(tmp_path / "photos"), "--server", server.address, "--splits", "1"]) == 0
    out = capsys.readouterr()
    assert "8 examples of 3 subjects" in out.out
    assert "no face found in 1 pictures" in out.err
