"""Pairs of subjects that look like each other, against brute force; page by page; and what a long list costs others."""

from collections.abc import Iterator

import numpy as np
import pytest

from oneglance import Client, OneglanceError, encoding
from oneglance.client.requests import FusionName
from oneglance.v1.identification_pb2 import ListLookAlikesRequest, ListLookAlikesResponse
from oneglance_apps.cli import main
from oneglance_core.distance import squared_l2
from oneglance_core.fusion import template
from oneglance_server.app import Server
from oneglance_server.service import look_alikes
from tests.models import pixels_model
from tests.running import server_thread

TAU = 0.5  # of the model
DIMENSION = 64
Pair = tuple[str, str, float]
People = dict[str, np.ndarray]  # float32 [n, 64] by subject


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("look-alikes")
    with server_thread(data_dir=folder / "data", models=(pixels_model(folder / "pixels", tau=TAU),)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as connected:
        yield connected


def people(count: int, seed: int, spread: float = 0.08) -> People:
    """Subjects in clusters, of one to three examples."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((4, DIMENSION))
    found = {}
    for i in rng.permutation(count):
        own = centres[rng.integers(4)] + spread * rng.standard_normal((rng.integers(1, 4), DIMENSION)) * np.sqrt(8)
        found[f"s{i}"] = (own / np.linalg.norm(own, axis=1, keepdims=True)).astype(np.float32)
    return found


def enroll(client: Client, gallery: str, enrolled: People) -> None:
    digest = client.get_gallery(gallery).encoder_digest
    for name, vectors in enrolled.items():
        client.enroll(gallery, name, *(encoding(vector, digest) for vector in vectors))


def brute_force(enrolled: People, fusion: FusionName, within: float) -> list[Pair]:
    names = sorted(enrolled)
    found = []
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if fusion == "nearest":
                distance = float(squared_l2(enrolled[first][:, None], enrolled[second][None]).min())
            else:
                distance = float(squared_l2(template(enrolled[first]), template(enrolled[second])))
            if distance <= within:
                found.append((first, second, distance))
    return sorted(found, key=lambda pair: (pair[2], pair[:2]))


def pairs(answer: ListLookAlikesResponse) -> list[Pair]:
    return [(one.subject_id, one.other_subject_id, one.distance) for one in answer.pairs]


@pytest.mark.parametrize("fusion", ["nearest", "mean", "margin"])
def test_all_pairs_are_those_of_brute_force(client: Client, fusion: FusionName) -> None:
    client.create_gallery(fusion, encoder="pixels", fusion=fusion)
    enrolled = people(60, seed=1)
    enroll(client, fusion, enrolled)
    for within in (0.2, 0.35, 4.0):
        found = client.list_look_alikes(fusion, within)
        expected = brute_force(enrolled, fusion, within)
        assert 0 < len(expected) < 60 * 59 / 2 or within == 4.0
        assert pairs(found) == expected
        assert (found.within, list(found.truncated_subject_ids)) == (within, [])
    if fusion == "nearest":
        for one in client.list_look_alikes(fusion, 0.3).pairs:
            own = [each.id for each in client.get_subject(fusion, one.subject_id).encodings].index(one.encoding_id)
            other = client.get_subject(fusion, one.other_subject_id).encodings
            at = [each.id for each in other].index(one.other_encoding_id)
            assert one.distance == float(squared_l2(enrolled[one.subject_id][own], enrolled[one.other_subject_id][at]))
    client.delete_subject(fusion, expected[0][0])
    assert expected[0][0] not in {name for pair in pairs(client.list_look_alikes(fusion, 4.0)) for name in pair[:2]}


def test_the_limit_is_the_gallerys_tau(client: Client) -> None:
    client.create_gallery("limit", encoder="pixels", fusion="mean")
    enrolled = people(20, seed=2)
    enroll(client, "limit", enrolled)
    assert client.list_look_alikes("limit").within == TAU
    client.set_threshold("limit", 0.25)
    found = client.list_look_alikes("limit")
    assert (found.within, pairs(found)) == (0.25, brute_force(enrolled, "mean", 0.25))
    client.set_fusion("limit", "margin")
    client.set_threshold("limit", -0.1)  # of scores: no limit for distances
    assert client.list_look_alikes("limit").within == TAU


def test_it_comes_page_by_page_each_pair_once(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    client.create_gallery("pages", encoder="pixels", fusion="nearest")
    enrolled = people(40, seed=3)
    enroll(client, "pages", enrolled)
    everything = brute_force(enrolled, "nearest", 4.0)
    assert len(everything) == 40 * 39 / 2
    for page_size, most in ((7, 10_000), (1000, 50)):
        monkeypatch.setattr(look_alikes, "MAX_MATCHES", most)
        monkeypatch.setattr(look_alikes, "_VECTORS_AT_ONCE", 5)
        listed: list[Pair] = []
        token, pages = "", 0
        while token or not pages:
            request = ListLookAlikesRequest(gallery_id="pages", within=4.0, page_size=page_size, page_token=token)
            page = client._identification.ListLookAlikes(request)
            assert len(page.pairs) < most + 40
            assert page.provenance.exact
            listed += pairs(page)
            token, pages = page.next_page_token, pages + 1
        assert pages > 3
        assert sorted(listed, key=lambda pair: (pair[2], pair[:2])) == everything
        assert [pair[0] for pair in listed] == sorted(pair[0] for pair in listed)


@pytest.mark.parametrize("fusion", ["nearest", "mean"])
def test_negatives_hide_no_pair(client: Client, monkeypatch: pytest.MonkeyPatch, fusion: FusionName) -> None:
    """Who is nearer to a negative is not identified, and looks like the subject all the same."""
    monkeypatch.setattr(look_alikes, "_FIRST", 2)
    monkeypatch.setattr(look_alikes, "MAX_CANDIDATES", 25)
    gallery = f"negatives-{fusion}"
    client.create_gallery(gallery, encoder="pixels", fusion=fusion)
    enrolled = people(24, seed=6)
    enroll(client, gallery, enrolled)
    expected = brute_force(enrolled, fusion, 0.4)
    assert len(expected) > 24
    digest = client.get_gallery(gallery).encoder_digest
    for first, second, _ in expected[::2]:  # each a mistake that somebody reported
        for subject, other in ((first, second), (second, first)):
            client.add_negative(gallery, subject, encoding(enrolled[other][0], digest))
    found = client.list_look_alikes(gallery, 0.4)
    assert (pairs(found), list(found.truncated_subject_ids)) == (expected, [])


def test_who_looks_like_too_many_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_alikes, "MAX_CANDIDATES", 20)
    client.create_gallery("crowd", encoder="pixels", fusion="mean")
    enrolled = people(30, seed=4)
    enroll(client, "crowd", enrolled)
    assert set(client.list_look_alikes("crowd", 4.0).truncated_subject_ids) == set(enrolled)
    assert not client.list_look_alikes("crowd", 0.01).truncated_subject_ids


def test_nobody_looks_like_anybody_in_an_empty_gallery_and_nonsense_is_refused(client: Client) -> None:
    client.create_gallery("nobody", encoder="pixels")
    found = client.list_look_alikes("nobody")
    assert (pairs(found), found.provenance.gallery_size) == ([], 0)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(OneglanceError) as caught:
            client.list_look_alikes("nobody", bad)
        assert caught.value.field_violations[0][0] == "within"
    with pytest.raises(OneglanceError) as caught:
        client.list_look_alikes("nowhere")
    assert caught.value.reason == "GALLERY_NOT_FOUND"


def test_the_command_lists_the_nearest_first(
    server: Server, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_gallery("told", encoder="pixels")
    enrolled = people(12, seed=5)
    enroll(client, "told", enrolled)
    assert main(["list-look-alikes", "--server", server.address, "told", "--within", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = brute_force(enrolled, "mean", 4.0)
    assert [line.split() for line in lines[: len(expected)]] == [[a, b, f"{d:.4f}"] for a, b, d in expected]
    assert lines[len(expected)] == f"pairs within 4.0000: {len(expected)}"
