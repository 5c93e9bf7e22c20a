"""Where galleries are when nobody says where: the same place for every command, whatever folder a shell stands in."""

from pathlib import Path

import pytest

from oneglance import Client
from oneglance_apps.cli import main
from oneglance_core.data_directory import chosen_data_directory
from oneglance_server.errors import StartupError
from oneglance_server.settings import load_settings
from tests.running import ServerProcess, server_thread
from tests.waiting import PATIENCE_SECONDS

Capture = pytest.CaptureFixture[str]
COMMANDS = [
    ["check"],
    ["check-upgrade"],
    ["backup", "a.backup"],
    ["repair"],
    ["doctor"],
    ["first-key", "admin"],
    ["audit", "tail"],
    ["audit", "export"],
    ["audit", "verify"],
]


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default, of a user of their own; the working folder is another."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.delenv("ONEGLANCE_DATA_DIR", raising=False)
    return tmp_path / "share/oneglance/data"


def test_the_default_is_the_users(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings().data_dir == chosen_data_directory(None) == place
    monkeypatch.setenv("ONEGLANCE_DATA_DIR", "elsewhere")
    assert load_settings().data_dir == chosen_data_directory(None) == Path("elsewhere")
    assert load_settings({"data_dir": "here"}).data_dir == chosen_data_directory("here") == Path("here")


def test_every_command_finds_what_the_server_made(place: Path, models: tuple[Path, Path], capsys: Capture) -> None:
    with server_thread(data_dir=place, models=models) as server, Client(server.address) as client:
        client.create_gallery("g", encoder="pixels", quality_policy="off")
    for words in COMMANDS:
        main(words)
        out, err = capsys.readouterr()
        assert words == ["repair"] or not err, words
        assert str(place) in out or words[0] in ("first-key", "backup", "audit"), words
    assert Path("a.backup").is_file()
    assert (place / "api-keys.json").is_file()


def test_the_server_serves_there(place: Path, models: tuple[Path, Path]) -> None:
    code = "import sys; sys.argv = [a for a in sys.argv if not a.startswith('--data-dir') and a != 'ignored']"
    with ServerProcess(Path("ignored"), models=":".join(map(str, models)), first=code) as server:
        with Client(server.address, timeout_seconds=PATIENCE_SECONDS) as client:
            client.create_gallery("g", encoder="pixels")
        server.terminate()
    assert (place / "store.sqlite3").is_file()
    assert not list(Path().iterdir())


def test_galleries_in_the_working_folder_are_not_passed_over(place: Path, capsys: Capture) -> None:
    former = Path("oneglance-data")
    former.mkdir()
    (former / "store.sqlite3").touch()
    for words in [["serve"], *COMMANDS]:
        assert main(words) == 1, words
        err = capsys.readouterr().err
        assert f"mv {former.resolve()} {place}" in err, words
        assert err.count("\n") == 1, words
    assert load_settings({"data_dir": "oneglance-data"}).data_dir == former
    place.mkdir(parents=True)
    (place / "store.sqlite3").touch()
    assert load_settings().data_dir == place  # the default is in use


@pytest.mark.parametrize("words", [["serve", "--data-dir", ""], ["doctor", "--data-dir", ""], ["check", ""]])
def test_no_name_is_not_the_working_folder(words: list[str], capsys: Capture) -> None:
    assert main(words) == 1
    assert "names no folder" in capsys.readouterr().err


def test_no_name_in_the_environment_or_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toml = tmp_path / "settings.toml"
    toml.write_text('data_dir = ""')
    with pytest.raises(StartupError, match="names no folder"):
        load_settings({}, toml)
    monkeypatch.setenv("ONEGLANCE_DATA_DIR", "")
    with pytest.raises(StartupError, match="names no folder"):
        load_settings()
    with pytest.raises(ValueError, match="names no folder"):
        chosen_data_directory(None)


def test_a_user_without_a_home_names_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "")
    monkeypatch.setattr("platformdirs.user_data_path", lambda name: Path("~/.local/share") / name)
    with pytest.raises(StartupError, match="no home folder"):
        load_settings()


def test_what_is_not_there_is_told(place: Path, capsys: Capture) -> None:
    assert main(["check"]) == main(["backup", "b"]) == 1
    assert capsys.readouterr().err.count(f"{place} is missing") == 2
