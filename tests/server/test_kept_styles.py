"""Styles of pictures that are kept under names: durable, listed, painted in, and forgotten."""

import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from oneglance import AlreadyExistsError, Client, InvalidArgumentError, NotFoundError, OneglanceError
from oneglance_apps.cli import main
from oneglance_core.manifests import Style
from oneglance_server.errors import InvalidRequest, StartupError, StyleExists, StyleNotFound, StylesBusy
from oneglance_server.kept_styles import FILE, MAX_KEPT, KeptStyles
from oneglance_server.shared_files import LocalFiles
from tests.running import server_thread
from tests.server.test_any_style import EMBER, MOSS, SCENE
from tests.server.test_stylize import direct, near, opened, scene
from tests.style_models import SPACE, any_style_models

VECTOR = np.array([1, 0, 0, 0], np.float32)


@pytest.fixture(scope="module")
def models(tints: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return tints, any_style_models(tmp_path_factory.mktemp("any"))


@pytest.fixture
def styles(models: tuple[Path, Path], tmp_path: Path) -> Iterator[Client]:
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        yield client


def names(client: Client) -> list[str]:
    return [style.name for style in client.list_styles() if style.stylizer == "any"]


def test_a_style_is_made_listed_painted_in_and_forgotten(styles: Client) -> None:
    made = styles.create_style("fire", EMBER, title="Fire", source="invented", license="CC0-1.0")
    assert (made.name, made.title, made.source, made.license) == ("fire", "Fire", "invented", "CC0-1.0")
    assert (made.stylizer, made.kept) == ("any", True)
    assert made in styles.list_styles()
    assert not any(style.kept for style in styles.list_styles() if style.stylizer == "tints")
    assert near(opened(styles.stylize(SCENE, "fire")), direct(scene(), ember=1))
    blend = styles.stylize(SCENE, {"fire": 0.5, MOSS: 0.5})
    assert near(opened(blend), direct(scene(), ember=0.5, moss=0.5))
    styles.delete_style("fire")
    assert names(styles) == []
    with pytest.raises(NotFoundError):
        styles.stylize(SCENE, "fire", stylizer="any")


def test_list_styles_tells_people_which_ones_are_kept(
    models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
        client.create_style("fire", EMBER)
        assert main(["list-styles", "--server", server.address]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in listed if line.endswith("kept by create-style")] == ["fire"]
    assert len(listed) > 1


def test_it_is_there_after_a_restart_and_only_the_owner_reads_it(models: tuple[Path, Path], tmp_path: Path) -> None:
    for expected in ([], ["fire"]):
        with server_thread(data_dir=tmp_path, models=models) as server, Client(server.address) as client:
            assert names(client) == expected
            if not expected:
                client.create_style("fire", EMBER)
            else:
                assert near(opened(client.stylize(SCENE, "fire")), direct(scene(), ember=1))
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert EMBER not in (tmp_path / FILE).read_bytes()


def test_a_trained_style_of_that_name_is_another_one(styles: Client) -> None:
    styles.create_style("ember", MOSS)
    assert near(opened(styles.stylize(SCENE, "ember", stylizer="any")), direct(scene(), moss=1))
    assert near(opened(styles.stylize(SCENE, "ember", stylizer="tints")), direct(scene(), ember=1))
    with pytest.raises(InvalidArgumentError, match="MODEL_REQUIRED"):
        styles.stylize(SCENE, "ember")


def test_refusals(styles: Client) -> None:
    styles.create_style("fire", EMBER)
    with pytest.raises(AlreadyExistsError) as caught:
        styles.create_style("fire", MOSS)
    assert caught.value.reason == "STYLE_EXISTS"
    with pytest.raises(NotFoundError) as missing:
        styles.delete_style("water")
    assert missing.value.reason == "STYLE_NOT_FOUND"
    for given, reason, field in (
        (("Fire", EMBER), "ID_INVALID", "name"),
        (("", EMBER), "ID_INVALID", "name"),
        (("x" * 64, EMBER), "ID_INVALID", "name"),
        (("ice", b""), "IMAGE_EMPTY", "picture"),
        (("ice", EMBER[:40]), "IMAGE_UNDECODABLE", "picture"),
    ):
        with pytest.raises(InvalidArgumentError) as refused:
            styles.create_style(*given)
        assert (refused.value.reason, refused.value.field_violations[0][0]) == (reason, field)
    with pytest.raises(InvalidArgumentError, match="title: has 501 characters"):
        styles.create_style("ice", EMBER, title="x" * 501)
    for call in (
        lambda: styles.create_style("ice", EMBER, stylizer="tints"),
        lambda: styles.delete_style("a", stylizer="tints"),
    ):
        with pytest.raises(InvalidArgumentError, match="own styles only"):
            call()
    assert names(styles) == ["fire"]


def test_without_a_stylizer_for_any_style_there_are_none(tints: Path, tmp_path: Path) -> None:
    with server_thread(data_dir=tmp_path, models=(tints,)) as server, Client(server.address) as client:
        for call in (lambda: client.create_style("fire", EMBER), lambda: client.delete_style("fire")):
            with pytest.raises(OneglanceError) as caught:
                call()
            assert caught.value.reason == "STYLIZER_NOT_LOADED"


def test_a_damaged_file_is_told_at_the_start(models: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"styles": [{"name": "fire"}]}')
    with pytest.raises(StartupError, match="no file of styles"):
        KeptStyles(LocalFiles(tmp_path))


def test_a_file_that_is_damaged_meanwhile_is_told_once_and_the_former_goes_on(tmp_path: Path) -> None:
    kept = KeptStyles(LocalFiles(tmp_path))
    kept.add(Style(name="fire"), SPACE, VECTOR)
    (tmp_path / FILE).write_text("{")
    with capture_logs() as lines:
        assert [[style.name for style in kept.of(SPACE)] for _ in range(3)] == [["fire"]] * 3
    assert [line["event"] for line in lines] == ["the file of styles can't be read"]
    with pytest.raises(StylesBusy):
        kept.add(Style(name="more"), SPACE, VECTOR)
    assert (tmp_path / FILE).read_text() == "{"


def test_what_cant_be_written_is_not_there(tmp_path: Path) -> None:
    kept = KeptStyles(LocalFiles(tmp_path / "none"))
    with pytest.raises(StylesBusy):
        kept.add(Style(name="fire"), SPACE, VECTOR)
    assert kept.of(SPACE) == []


def test_there_are_at_most_so_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = KeptStyles(LocalFiles(tmp_path))
    monkeypatch.setattr("oneglance_server.kept_styles.MAX_KEPT", 2)
    for name in ("a", "b"):
        kept.add(Style(name=name), SPACE, VECTOR)
    with pytest.raises(InvalidRequest, match="delete some"):
        kept.add(Style(name="c"), SPACE, VECTOR)
    assert [style.name for style in KeptStyles(LocalFiles(tmp_path)).of(SPACE)] == ["a", "b"]
    assert MAX_KEPT == 1000


def test_several_processes_keep_styles_in_one_file(tmp_path: Path) -> None:
    """Two that know nothing of each other but the file, at once."""
    both = [KeptStyles(LocalFiles(tmp_path)) for _ in range(2)]

    def add(one: KeptStyles, name: str) -> None:
        for i in range(20):
            one.add(Style(name=f"{name}{i}"), SPACE, VECTOR)

    with ThreadPoolExecutor(2) as pool:
        for future in [pool.submit(add, one, name) for one, name in zip(both, "ab", strict=True)]:
            future.result()
    wanted = sorted(f"{name}{i}" for name in "ab" for i in range(20))
    assert [[style.name for style in one.of(SPACE)] for one in both] == [wanted, wanted]
    assert both[0].vectors(SPACE).keys() == set(wanted)
    with pytest.raises(StyleExists, match="a style 'b3' already"):
        both[0].add(Style(name="b3"), SPACE, VECTOR)
    both[0].remove(SPACE, "b3")
    with pytest.raises(StyleNotFound):
        both[1].remove(SPACE, "b3")
