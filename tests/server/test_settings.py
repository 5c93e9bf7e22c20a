"""Flags over environment over file over default; each setting documented."""

import re
from pathlib import Path

import pytest

from oneglance_core.data_directory import SHOWN
from oneglance_server.errors import StartupError
from oneglance_server.settings import BUNDLED_MODEL, BUNDLED_STYLIZER, Settings, load_settings

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml = tmp_path / "settings.toml"
    toml.write_text('max_batch = 7\nmax_search_batch = 7\nlisten = "127.0.0.1:7"\n')
    monkeypatch.setenv("ONEGLANCE_MAX_BATCH", "8")
    monkeypatch.setenv("ONEGLANCE_MAX_SEARCH_BATCH", "8")
    settings = load_settings({"max_batch": "9"}, toml)
    assert (settings.max_batch, settings.max_search_batch, settings.listen) == (9, 8, "127.0.0.1:7")
    assert settings.drain_seconds == Settings().drain_seconds


def test_models_from_flag_environment_and_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundled = (BUNDLED_MODEL, BUNDLED_STYLIZER) if BUNDLED_STYLIZER.is_dir() else (BUNDLED_MODEL,)
    assert load_settings().models == bundled
    assert load_settings({"models": "a:b"}).models == (Path("a"), Path("b"))
    toml = tmp_path / "settings.toml"
    toml.write_text('models = ["c", "d"]')
    assert load_settings({}, toml).models == (Path("c"), Path("d"))
    monkeypatch.setenv("ONEGLANCE_MODELS", "e")
    assert load_settings({}, toml).models == (Path("e"),)


@pytest.mark.parametrize(
    ("flags", "file", "complaint"),
    [
        ({"max_batch": "0"}, None, "--max-batch must be at least 1, got '0'"),
        ({"max_batch": "many"}, None, "--max-batch must be a valid integer, got 'many'"),
        ({"listen": "nowhere"}, None, "--listen: expected host:port, got 'nowhere'"),
        ({"listen": "::1:0"}, None, r"--listen: an IPv6 address stands in brackets: \[::1\]:0"),
        ({"listen": ""}, None, "--listen: expected host:port"),
        ({"listen": "unix:here.sock"}, None, "--listen: a socket has an absolute path"),
        ({"listen": f"unix:/{'x' * 107}"}, None, "at most 107 bytes"),
        ({"metrics": "unix:/x"}, None, "--metrics: expected host:port"),
        ({"listen": "127.0.0.1:99999"}, None, "--listen"),
        ({"log_format": "xml"}, None, "--log-format must be 'text' or 'json', got 'xml'"),
        ({"max_batch": "0", "min_face": "9"}, None, "(?s)--max-batch.*\n.*--min-face must be at least 10"),
        ({}, "max_btach = 3", "max_btach"),
        ({}, "max_batch = ", "settings.toml"),
    ],
)
def test_wrong_settings_are_named(flags: dict[str, str], file: str | None, complaint: str, tmp_path: Path) -> None:
    toml = tmp_path / "settings.toml" if file is not None else None
    if toml:
        toml.write_text(file or "")
    with pytest.raises(StartupError, match=complaint):
        load_settings(flags, toml)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no such settings file"):
        load_settings({}, tmp_path / "none.toml")


def test_every_setting_is_documented_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `([a-z_]+)` \| (.*?) \|", DOCS.read_text(), re.MULTILINE))
    for name, field in Settings.model_fields.items():
        assert name in rows, f"docs/operations.md lacks {name}"
        if name in ("models", "encoder_workers", "photo_workers"):  # depend on the machine
            continue
        shown = SHOWN if name == "data_dir" else str(field.default)
        assert rows[name].strip("`") == shown, name
