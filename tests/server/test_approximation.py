"""What a gallery's answers may lose: set, told, counted; and what is searched exactly whatever it is.

How an index comes to approximate answers is tested in tests/index. Here a store says what it would, and searches are
looked at on their way to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from oneglance import Client, OneglanceError, identify_request
from oneglance.client.requests import stranger
from oneglance.v1 import approximation_pb2 as pb
from oneglance_apps.cli import main
from oneglance_index import ApproximationState, Checked, EngineUnsupported, Found, GalleryError, Search
from oneglance_index.approximation import Because
from oneglance_index.search.flat import ExactIndex
from oneglance_index.search.fused import FusedIndex
from oneglance_server.app import Server
from oneglance_server.service.drift import DriftWatches
from oneglance_server.service.identification import _together
from oneglance_server.servicers.approximations import to_approximation_state
from tests.pictures import picture, png
from tests.running import measured, server_thread

LOSING = ApproximationState(
    *("approximate", "", 0.25, 0.03, 12),
    known=Checked(1000, 3),
    strangers=Checked(2000, 1),
    alarms=2,
    alarm=True,
)


@pytest.fixture(scope="module")
def server(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with server_thread(data_dir=tmp_path_factory.mktemp("lossy"), models=models) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as client:
        yield client


@pytest.fixture
def says(server: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, ApproximationState]:
    """What the store says of galleries, by id."""
    told: dict[str, ApproximationState] = {}
    monkeypatch.setattr(server._galleries, "approximation_state", told.get)
    return told


def test_it_is_set_and_told_and_taken_back(client: Client, says: dict[str, ApproximationState]) -> None:
    made = client.create_gallery("g", encoder="pixels")
    assert not made.HasField("approximation")
    assert not made.HasField("approximation_state")
    says["g"] = LOSING
    assert not client.get_gallery("g").HasField("approximation_state")  # it may lose nothing: nobody asks
    for mates_found, on_alarm in ((0.75, False), (0.999, True)):
        before = client.get_gallery("g").revision
        after = client.set_approximation("g", mates_found, exact_on_alarm=on_alarm)
        (listed,) = (one for one in client.list_galleries() if one.id == "g")
        for gallery in (after, client.get_gallery("g"), listed):
            assert (gallery.approximation.mates_found, gallery.approximation.exact_on_alarm) == (mates_found, on_alarm)
            assert gallery.revision == before + 1
            assert gallery.approximation_state == pb.ApproximationState(
                approximate=True,
                tau=0.25,
                share_read=0.03,
                recent_count=12,
                known=pb.CheckedProbes(probes=1000, differing=3),
                strangers=pb.CheckedProbes(probes=2000, differing=1),
                alarms=2,
                alarm=True,
            )
    del says["g"]  # as between the commit and the index that hears of it
    assert not client.get_gallery("g").HasField("approximation_state")
    gone = client.set_approximation("g", None)
    assert not gone.HasField("approximation")
    assert not gone.HasField("approximation_state")
    assert client.set_approximation("g").approximation.mates_found == 0.999
    client.delete_gallery("g")


def test_every_reason_has_its_word() -> None:
    told = [to_approximation_state(ApproximationState("exact", because)) for because in get_args(Because)]
    assert [one.because for one in told if one is not None] == list(pb.ExactBecause.values())
    assert not any(one.approximate or one.HasField("tau") for one in told if one is not None)


@pytest.mark.parametrize("bad", [0.0, 0.5, 1.0, -1.0, 2.0, float("nan"), float("inf")])
def test_what_is_no_share_is_refused(client: Client, bad: float) -> None:
    with pytest.raises(OneglanceError) as caught:
        client.set_approximation("nowhere", bad)
    assert (caught.value.code.name, caught.value.reason) == ("INVALID_ARGUMENT", "INVALID_REQUEST")
    assert [field for field, _ in caught.value.field_violations] == ["approximation.mates_found"]


def test_where_it_cant_be_done_it_is_refused(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OneglanceError) as caught:
        client.set_approximation("nowhere", 0.9)
    assert caught.value.reason == "GALLERY_NOT_FOUND"
    failed: Future[Any] = Future()
    failed.set_exception(EngineUnsupported("milvus://x:1/d", "approximate answers"))
    monkeypatch.setattr(server._galleries, "set_approximation", lambda *_: failed)
    with pytest.raises(OneglanceError, match="approximate answers") as caught:
        client.set_approximation("nowhere", 0.9)
    assert (caught.value.code.name, caught.value.reason) == ("UNIMPLEMENTED", "ENGINE_UNSUPPORTED")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Search]:
    """The searches that indexes of templates got. What needn't be exact they answer as if it weren't."""
    searches: list[Search] = []
    search = FusedIndex.search

    def look(index: FusedIndex, those: Sequence[Search]) -> list[Found | GalleryError]:
        searches.extend(those)
        found = zip(those, search(index, those), strict=True)
        return [
            replace(one, exact=False, kind="ivf") if isinstance(one, Found) and not wanted.exact else one
            for wanted, one in found
        ]

    monkeypatch.setattr(FusedIndex, "search", look)
    return searches


def test_answers_say_whether_they_are_exact(
    client: Client, asked: list[Search], monkeypatch: pytest.MonkeyPatch
) -> None:
    drift: list[Found] = []
    monkeypatch.setattr(DriftWatches, "saw", lambda self, call, gallery, found, probes: drift.append(found))
    client.create_gallery("says", encoder="pixels", fusion="mean", quality_policy="off")
    client.enroll("says", "it", picture(5), doubt_policy="off")
    lossy = client.identify("says", picture(5), tau=1.0)
    exact = client.identify("says", picture(5), tau=1.0, exact=True)
    assert [one.exact for one in asked] == [False, True]
    assert (lossy.provenance.exact, lossy.provenance.index_kind) == (False, "ivf")
    assert (exact.provenance.exact, exact.provenance.index_kind) == (True, "flat")
    assert lossy.results == exact.results
    assert [one.exact for one in drift] == [True]  # strangers would seem farther away than they are
    requests = [identify_request("says", [picture(5)], tau=1.0, exact=wanted) for wanted in (False, True)]
    streamed = list(client.identify_stream(iter(requests)))
    assert [one.response.provenance.exact for one in streamed] == [False, True]


def test_where_something_may_be_lost_the_index_knows_tau(client: Client, asked: list[Search]) -> None:
    client.create_gallery("tau", encoder="pixels", fusion="mean", quality_policy="off")
    for subject, number in (("it", 5), ("other", 6)):
        client.enroll("tau", subject, picture(number), doubt_policy="off")
    client.set_threshold("tau", 0.3)
    before = [client.identify("tau", picture(5)), client.identify("tau", picture(5), tau=4.0, all_matches=True)]
    client.set_approximation("tau", 0.9)
    after = [client.identify("tau", picture(5)), client.identify("tau", picture(5), tau=4.0, all_matches=True)]
    assert [one.within for one in asked] == [None, 4.0, pytest.approx(0.3), 4.0]
    assert [one.results for one in after] == [one.results for one in before]
    assert [one.threshold for one in after] == [one.threshold for one in before]
    assert len(after[1].results[0].matches) == 2
    assert not after[0].results[0].matches


def test_how_answers_come_about_is_told_while_searches_are_under_way(server: Server, client: Client) -> None:
    client.create_gallery("busy", encoder="pixels", fusion="nearest")
    index = server._galleries._find("busy").index  # type: ignore[union-attr]
    assert isinstance(index, ExactIndex)
    with index._lock:  # as a search has it
        state = client.set_approximation("busy", 0.9).approximation_state
        assert state.because == pb.EXACT_BECAUSE_FEW_SUBJECTS
        assert client.get_gallery("busy").approximation_state == state
        assert measured(server, "oneglance_approximate_answers", gallery="busy") == 0


def test_what_changes_or_judges_a_gallery_is_exact(client: Client, asked: list[Search]) -> None:
    client.create_gallery("judged", encoder="pixels", fusion="margin", quality_policy="off")
    for i in range(8):
        client.enroll("judged", f"s{i}", picture(i))
    assert len(asked) >= 8  # for doubts, and the nearest other
    client.verify("judged", "s1", picture(1), tau=0.5)
    assert client.list_look_alikes("judged", 4.0).provenance.exact
    seen = len(asked)
    client.calibrate("judged", (stranger(picture(20 + i), f"p{i}") for i in range(100)), target_fpir=0.1)
    assert len(asked) > seen
    assert all(search.exact for search in asked)


def test_an_answer_in_steps_is_exact_if_all_of_them_are() -> None:
    exact = Found(((),), ((),), (False,), 7, 3, 4, True, "flat", "cpu")
    lossy = replace(exact, exact=False, kind="ivf", revision=8)
    for steps in ([exact, lossy], [lossy, exact], [exact, lossy, exact]):
        together = _together(steps)
        assert (together.exact, together.kind, together.revision) == (False, "ivf", 7)
        assert len(together.candidates) == len(steps)
    assert _together([exact, exact]).exact


def test_what_is_lost_is_counted(server: Server, client: Client, says: dict[str, ApproximationState]) -> None:
    client.create_gallery("counted", encoder="pixels")
    client.create_gallery("exact", encoder="pixels")
    client.set_approximation("counted", 0.99)
    says["counted"] = says["exact"] = LOSING
    registry = server._metrics.registry

    def value(name: str, gallery: str = "counted", **labels: str) -> float | None:
        return registry.get_sample_value(f"oneglance_approximate_{name}", {"gallery": gallery, **labels})

    assert value("answers") == 1
    assert [value("checked_probes_total", probe=one) for one in ("known", "stranger")] == [1000, 2000]
    assert [value("differing_decisions_total", probe=one) for one in ("known", "stranger")] == [3, 1]
    assert (value("alarms_total"), value("alarm")) == (2, 1)
    assert value("answers", "exact") is None
    says["counted"] = ApproximationState("exact", "being built")
    assert (value("answers"), value("alarm"), value("alarms_total")) == (0, 0, 0)
    assert value("checked_probes_total", probe="known") == 0
    client.delete_gallery("counted")
    assert value("answers") is None
    assert measured(server, "oneglance_approximate_alarm", gallery="counted") == 0


def test_the_commands(
    server: Server, client: Client, says: dict[str, ApproximationState], capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_gallery("cli", encoder="pixels")
    client.enroll("cli", "it", picture(5))

    def run(*words: str) -> str:
        assert main([*words, "--server", server.address]) == 0
        return capsys.readouterr().out

    says["cli"] = LOSING
    told = (
        "at least 99.9 % of mates found, else exact: approximate up to tau 0.2500, "
        "about 3.00% of the encodings are read; "
        "searched exactly, too: 1,000 known probes (3 decided otherwise), 2,000 strangers (1 decided otherwise); "
        "ALARM: more is lost than may be"
    )
    assert told in run("set-approximation", "cli", "--mates-found", "0.999", "--exact-on-alarm")
    assert told in run("get-gallery", "cli")
    says["cli"] = ApproximationState("exact", "few subjects")
    assert "99.9 % of mates found, else exact: exact for now (few subjects); " in run("list-galleries")
    as_json = json.loads(run("get-gallery", "cli", "--json"))
    assert as_json["approximation"] == {"mates_found": 0.999, "exact_on_alarm": True}
    assert as_json["approximation_state"]["because"] == "EXACT_BECAUSE_FEW_SUBJECTS"
    assert "mates found" not in run("set-approximation", "cli", "--exact")
    wrong: tuple[tuple[str, ...], ...] = (
        *((), ("--mates-found", "0.9", "--exact"), ("--exact-on-alarm",), ("--exact", "--exact-on-alarm")),
        *(("--mates-found", "1"), ("--mates-found", "0.5"), ("--mates-found", "nan")),
    )
    for words in wrong:
        try:
            status = main(["set-approximation", "cli", *words, "--server", server.address])
        except SystemExit as ended:
            status = int(ended.code or 0)
        assert (status, "oneglance" in capsys.readouterr().err) == (2, True), words
    assert not client.get_gallery("cli").HasField("approximation")


def test_identify_takes_exact(
    client: Client, server: Server, asked: list[Search], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client.create_gallery("asks", encoder="pixels", fusion="mean", quality_policy="off")
    client.enroll("asks", "it", picture(5), doubt_policy="off")
    (tmp_path / "it.png").write_bytes(png(picture(5)))
    for command in ("identify", "identify-stream"):
        words = [command, "asks", str(tmp_path / "it.png"), "--tau", "1", "--server", server.address]
        assert main(words) == 0
        assert "ivf on cpu, approximate" in capsys.readouterr().out
        assert main([*words, "--exact"]) == 0
        assert "flat on cpu, exact" in capsys.readouterr().out
    assert [one.exact for one in asked] == [False, True, False, True]
