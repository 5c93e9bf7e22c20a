"""Calibrate through a real server: what is fitted, kept, said in every answer, and refused."""

import asyncio
import functools
import socket
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from oneglance import AsyncClient, Client, OneglanceError
from oneglance.client.requests import encoding, mate, stranger
from oneglance.v1.common_pb2 import (
    THRESHOLD_SOURCE_AUTHOR,
    THRESHOLD_SOURCE_CALIBRATION,
    THRESHOLD_SOURCE_GALLERY,
    THRESHOLD_SOURCE_MODEL,
    Threshold,
)
from oneglance.v1.gallery_pb2 import (
    CalibrationProbe,
    GetThresholdRequest,
    GetThresholdResponse,
)
from oneglance_apps.cli import main
from oneglance_core.calibration import INTERVAL
from oneglance_core.folder import read_model_folder, write_model_folder
from oneglance_core.manifests import AuthorThreshold
from oneglance_server.app import Server
from tests.models import SIDE, pixels, pixels_model, signal_model
from tests.pictures import picture, png
from tests.running import ServerProcess, measured, server_thread
from tests.waiting import until

Capture = pytest.CaptureFixture[str]
Pictures = list[npt.NDArray[np.uint8]]
ENROLLED, STRANGERS = 20, 60


def strangers(count: int, start: int = 1000) -> Pictures:
    return [picture(start + i) for i in range(count)]


def noisy(seed: int) -> npt.NDArray[np.uint8]:
    """Another picture of ``picture(seed)``."""
    noise = np.random.default_rng(seed + 10_000).integers(-20, 21, (SIDE, SIDE, 1))
    mixed: npt.NDArray[np.uint8] = np.clip(picture(seed).astype(np.int64) + noise, 0, 255).astype(np.uint8)
    return mixed


def nearest(probes: Pictures, enrolled: Pictures) -> npt.NDArray[np.float64]:
    """Squared L2 to the nearest, as the definition has it."""
    a, b = (pixels(np.stack(pictures)).astype(np.float64) for pictures in (probes, enrolled))
    distances: npt.NDArray[np.float64] = ((a[:, None] - b[None]) ** 2).sum(axis=2).min(axis=1)
    return distances


def probes_of(pictures: Pictures) -> Iterator[CalibrationProbe]:
    return (stranger(png(p)) for p in pictures)


@pytest.fixture
def people(client: Client, gallery: str) -> str:
    """A gallery with ``ENROLLED`` subjects, one picture each."""
    for i in range(ENROLLED):
        client.enroll(gallery, f"s{i}", picture(i))
    return gallery


def test_the_fitted_tau_lets_in_the_target_and_every_answer_says_so(client: Client, people: str) -> None:
    before = client.get_gallery(people)
    mates = [mate(png(noisy(i)), f"s{i}") for i in range(10)]
    shown = strangers(STRANGERS)
    probes = [*probes_of(shown), *mates]
    answer = client.calibrate(people, iter(probes), target_fpir=0.05, data="noise")

    made = answer.calibration
    distances = nearest(shown, [picture(i) for i in range(ENROLLED)])
    assert made.fpir == (distances <= made.tau).mean() == 3 / STRANGERS  # 5 %, from the pictures themselves
    assert made.fpir_low < 0.05 < made.fpir_high
    assert (made.target_fpir, made.gallery_size, made.fnir) == (0.05, ENROLLED, 0.0)
    assert (made.non_mated_probes, made.mated_probes, made.data) == (STRANGERS, 10, "noise")
    assert INTERVAL in made.method
    assert not answer.skipped

    assert answer.threshold.source == THRESHOLD_SOURCE_CALIBRATION
    assert (answer.threshold.tau, answer.threshold.id, answer.threshold.target_fpir) == (made.tau, "1", 0.05)
    assert answer.threshold.set_time.ToSeconds() >= before.create_time.ToSeconds()
    assert answer.threshold.expected_fpir == pytest.approx(0.05)

    found = client.identify(people, *(png(p) for p in shown))
    assert found.threshold == answer.threshold == client.get_threshold(people) == client.get_gallery(people).threshold
    assert sum(bool(r.subject_id) for r in found.results) == 3
    request = GetThresholdRequest(gallery_id=people)
    got: GetThresholdResponse = client._call(client._galleries.GetThreshold, request)
    assert got.calibration == made
    assert client.get_gallery(people).revision == before.revision + 1


def test_the_expected_fpir_grows_with_the_gallery(client: Client, people: str) -> None:
    client.calibrate(people, probes_of(strangers(STRANGERS)), target_fpir=0.05)
    for i in range(ENROLLED, 2 * ENROLLED):
        client.enroll(people, f"s{i}", picture(i))
    threshold = client.identify(people, picture(1)).threshold
    assert threshold.expected_fpir == pytest.approx(1 - (1 - 0.05) ** 2)
    claim = client.verify(people, "s1", picture(1)).threshold
    assert claim.expected_fmr == pytest.approx(1 - 0.95 ** (1 / ENROLLED))
    assert not claim.HasField("expected_fpir")


def test_what_else_applies_is_measured_by_the_same_curve(client: Client, people: str) -> None:
    """A tau by hand, of a request and of the model: its expected FPIR comes from the gallery's evidence."""
    shown = strangers(STRANGERS)
    made = client.calibrate(people, probes_of(shown), target_fpir=0.05).calibration
    distances = np.sort(nearest(shown, [picture(i) for i in range(ENROLLED)]))
    wide = float(distances[29] + distances[30]) / 2  # half of the strangers
    by_hand = client.set_threshold(people, wide)
    assert (by_hand.source, by_hand.id) == (THRESHOLD_SOURCE_GALLERY, "2")
    assert by_hand.expected_fpir == pytest.approx(0.5, abs=0.02)
    assert not by_hand.HasField("target_fpir")
    requested = client.identify(people, picture(1), tau=made.tau).threshold
    assert requested.expected_fpir == pytest.approx(0.05)
    assert not requested.HasField("set_time")
    cleared = client.set_threshold(people, None)
    assert (cleared.source, cleared.tau, cleared.target_fpir) == (THRESHOLD_SOURCE_MODEL, 0.5, 0.01)
    assert cleared.expected_fpir == pytest.approx((distances <= 0.5).mean(), abs=0.02)


def test_a_dry_run_changes_nothing(client: Client, people: str) -> None:
    before = client.get_gallery(people)
    dry = client.calibrate(people, probes_of(strangers(STRANGERS)), target_fpir=0.05, dry_run=True)
    assert dry.threshold == before.threshold
    assert client.get_gallery(people) == before
    assert list(client.list_thresholds(people)) == []
    wet = client.calibrate(people, probes_of(strangers(STRANGERS)), target_fpir=0.05)
    assert wet.calibration == dry.calibration  # and the same probes give the same


def test_bad_probes_are_skipped_and_reported(client: Client, people: str) -> None:
    good = [png(p) for p in strangers(20)]
    digest = client.describe_model("pixels").model.digest
    probes = [
        *map(stranger, good[:10]),
        stranger(b"no picture"),
        stranger(encoding(np.ones(64), "f" * 64)),
        CalibrationProbe(),
        stranger(good[0], "x" * 129),
        mate(b"", "s1"),
        *map(stranger, good[10:]),
        stranger(encoding(pixels(picture(5000)[None])[0], digest)),
    ]
    answer = client.calibrate(people, iter(probes), target_fpir=0.1)
    assert [(s.index, s.error.reason) for s in answer.skipped] == [
        (10, "IMAGE_UNDECODABLE"),
        (11, "ENCODER_MISMATCH"),
        (12, "EMPTY"),
        (13, "INVALID_REQUEST"),
        (14, "IMAGE_EMPTY"),
    ]
    assert (answer.calibration.non_mated_probes, answer.calibration.mated_probes) == (21, 0)
    assert not answer.calibration.HasField("fnir")


def test_pictures_of_one_person_are_not_several_strangers(client: Client, people: str) -> None:
    pictures = strangers(40)
    named = [stranger(png(p), f"person {i % 9}") for i, p in enumerate(pictures)]
    with pytest.raises(OneglanceError, match="at least 10 strangers to measure, got 9") as caught:
        client.calibrate(people, iter(named), target_fpir=0.1)
    assert (caught.value.reason, caught.value.metadata) == ("TOO_FEW_STRANGERS", {"strangers": "9", "needed": "10"})
    with pytest.raises(OneglanceError, match=r"got 0; probes were skipped, the first for this: .*not a picture"):
        client.calibrate(people, iter([stranger(b"?")]))
    client.calibrate(people, iter([*named, stranger(png(picture(7000)))]), target_fpir=0.1)


def test_more_probes_than_the_window_holds(models: tuple[Path, Path], tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=models, stream_window=3) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "s", picture(0))
        made = client.calibrate("g", probes_of(strangers(200)), target_fpir=0.02).calibration
        assert made.non_mated_probes == 200
        assert made.fpir == (nearest(strangers(200), [picture(0)]) <= made.tau).mean() == 0.02


def test_its_calls_are_measured_like_all_others(models: tuple[Path, Path], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    running = server_thread(data_dir=tmp_path, models=models, metrics=address)
    with running as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels")
        client.enroll("g", "s", picture(0))
        client.calibrate("g", probes_of(strangers(10)), target_fpir=0.1)
        with pytest.raises(OneglanceError):
            client.calibrate("g", probes_of(strangers(9)), target_fpir=0.1)
        counted = 'oneglance_call_seconds_count{code="%s",method="GalleryService/Calibrate"} 1.0'
        for code in ("OK", "FAILED_PRECONDITION"):  # told before it is counted
            until(lambda line=counted % code: line in metrics_at(address))  # type: ignore[misc]


def metrics_at(address: str) -> list[str]:
    text: str = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    return text.splitlines()


def test_the_size_while_it_went_on_is_recorded(server: Server, client: Client, people: str) -> None:
    searched = functools.partial(measured, server, "oneglance_batch_rows_sum", stage="search")
    before = searched()

    def probes() -> Iterator[CalibrationProbe]:
        for i, p in enumerate(strangers(600)):
            if i == 550:  # more than the window
                until(lambda: searched() > before)
                client.enroll(people, "late", picture(99))
            yield stranger(png(p))

    made = client.calibrate(people, probes(), target_fpir=0.05).calibration
    assert made.gallery_size == ENROLLED
    assert f"(up to {ENROLLED + 1} while it went on)" in made.method


def test_versions_are_kept_over_a_kill(models: tuple[Path, Path], tmp_path: Path) -> None:
    with ServerProcess(tmp_path, models=f"{models[0]}:{models[1]}") as process:
        with Client(process.address) as client:
            client.create_gallery("g", encoder="pixels")
            client.enroll("g", "s", picture(0))
            client.set_threshold("g", 0.3)
            made = client.calibrate("g", probes_of(strangers(20)), target_fpir=0.1).calibration
            client.set_threshold("g", None)
            again = client.calibrate("g", probes_of(strangers(30)), target_fpir=0.2).calibration
            known = list(client.list_thresholds("g"))
        process.kill()
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        versions = list(client.list_thresholds("g"))
        assert versions == known
        assert [v.version for v in versions] == [4, 3, 2, 1]
        assert [v.threshold.source for v in versions] == [
            THRESHOLD_SOURCE_CALIBRATION,
            0,
            THRESHOLD_SOURCE_CALIBRATION,
            THRESHOLD_SOURCE_GALLERY,
        ]
        assert [v.HasField("threshold") for v in versions] == [True, False, True, True]
        assert [v.threshold.target_fpir for v in versions] == [0.2, 0, 0.1, 0]
        assert (versions[0].calibration, versions[2].calibration) == (again, made)
        assert versions[2].threshold.id == "2"
        assert all(v.HasField("set_time") for v in versions)
        in_force = client.identify("g", picture(0)).threshold
        assert in_force == versions[0].threshold
        client.delete_gallery("g")
        client.create_gallery("g", encoder="pixels")
        assert list(client.list_thresholds("g")) == []


def test_the_authors_tau_comes_last(tmp_path: Path) -> None:
    models = (signal_model(tmp_path / "signal"), pixels_model(tmp_path / "pixels"))
    recommended = AuthorThreshold(tau=0.36, source="the author's readme")
    for path in models:
        folder = read_model_folder(path)
        write_model_folder(path, folder.manifest.model_copy(update={"author_threshold": recommended}), folder.model)
    with server_thread(data_dir=tmp_path / "data", models=models) as server, Client(server.address) as client:
        for name in ("signal", "pixels"):
            client.create_gallery(name, encoder=name)
        assert client.get_threshold("signal") == Threshold(tau=0.36, source=THRESHOLD_SOURCE_AUTHOR)
        assert client.get_threshold("pixels").source == THRESHOLD_SOURCE_MODEL
        rng = np.random.default_rng(0)
        signals = [rng.normal(size=(6, 2)).astype(np.float32) for _ in range(21)]
        client.enroll("signal", "s", signals[0])
        assert client.identify("signal", signals[0]).threshold.source == THRESHOLD_SOURCE_AUTHOR
        made = client.calibrate("signal", (stranger(s) for s in signals[1:]), target_fpir=0.1)
        assert made.threshold.source == THRESHOLD_SOURCE_CALIBRATION
        cleared = client.set_threshold("signal", None)
        assert cleared.source == THRESHOLD_SOURCE_AUTHOR
        assert cleared.HasField("expected_fpir")  # the gallery's own evidence, at the author's tau


async def test_the_asynchronous_client_calibrates_too(client: Client, people: str) -> None:
    async with AsyncClient(client.target) as other:

        async def probes() -> AsyncIterator[CalibrationProbe]:
            for p in strangers(20):
                await asyncio.sleep(0)
                yield stranger(png(p))

        made = await other.calibrate(people, probes(), target_fpir=0.1)
        assert [v.calibration async for v in other.list_thresholds(people)] == [made.calibration]


def test_a_failing_sender_is_heard(client: Client, people: str) -> None:
    def probes() -> Iterator[CalibrationProbe]:
        yield stranger(png(picture(1000)))
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        client.calibrate(people, probes())
    assert list(client.list_thresholds(people)) == []


def test_the_command(client: Client, people: str, tmp_path: Path, capsys: Capture) -> None:
    impostors, mates = tmp_path / "impostors", tmp_path / "mates"
    for i, p in enumerate(strangers(20)):
        folder = impostors / f"p{i}" if i % 2 else impostors
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.png").write_bytes(png(p))
    (impostors / "broken.jpg").write_bytes(b"?")
    (impostors / "notes.txt").write_text("no picture")
    for i in range(4):
        (mates / f"s{i}").mkdir(parents=True)
        (mates / f"s{i}" / "again.png").write_bytes(png(noisy(i)))
    at = ["--server", client.target]

    assert main(["calibrate", people, "--impostors", str(impostors), "--mates", str(mates), "--fpir", "0.1", *at]) == 0
    out, err = capsys.readouterr()
    made = next(client.list_thresholds(people)).calibration
    assert out.splitlines()[0] == (
        f"tau {made.tau:.4f} for FPIR 10.00% at {ENROLLED} enrolled: measured FPIR 10.00% "
        f"(95 %: {made.fpir_low:.2%} to {made.fpir_high:.2%}), FNIR 0.00%; "
        "20 pictures of strangers, 4 of subjects; impostors, mates"
    )
    assert out.splitlines()[1:] == [
        "skipped: 1 IMAGE_UNDECODABLE",
        f"in force: tau {made.tau:.4f} from the calibration (1), expected FPIR about 10.00% "
        f"({made.fpir_low:.2%} to {made.fpir_high:.2%})",
    ]
    assert err.startswith(f"skipped {impostors}/broken.jpg: ")

    assert main(["calibrate", people, "--impostors", str(impostors), "--dry-run", "--fpir", "0.2", "--json", *at]) == 0
    assert '"source": "THRESHOLD_SOURCE_CALIBRATION", "id": "1"' in capsys.readouterr().out  # the one before
    assert main(["set-threshold", people, *at]) == 0
    capsys.readouterr()
    assert main(["list-thresholds", people, *at]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1", "tau"]
    assert lines[0].endswith(": cleared")
    assert "from the calibration (1)" in lines[1]
    assert main(["calibrate", people, "--impostors", str(impostors), *at]) == 1
    assert "at least 100 strangers to measure, got 20" in capsys.readouterr().err
    assert main(["calibrate", people, "--impostors", str(tmp_path / "none"), *at]) == 2
    assert "not a folder" in capsys.readouterr().err
