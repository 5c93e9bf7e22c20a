"""What is told of a refused call: the user's files, once, not paths in a message."""

from pathlib import Path

import numpy as np
import pytest

from oneglance import Client
from oneglance.client.errors import InvalidArgumentError
from oneglance_apps.cli import main
from oneglance_apps.error_words import why, with_names
from oneglance_server.app import Server
from tests.pictures import picture, png

Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("examples[1].image: broken", "b.png: broken"),
        ("probes[0].encoding.encoder_digest: expected x", "a.png: expected x"),
        ("images[1]: broken", "b.png: broken"),
        ("probe.image: broken", "a.png: broken"),
        ("other.image: broken", "b.png: broken"),
        ("examples[1] is 0.1 from ada", "b.png is 0.1 from ada"),
        ("examples[7].image: broken", "examples[7].image: broken"),
        ("a probe: the other, an example", "a probe: the other, an example"),
    ],
)
def test_names_take_the_place_of_paths(text: str, told: str) -> None:
    assert with_names(text, ["a.png", "b.png"]) == told


def test_each_fault_is_told_once() -> None:
    one = InvalidArgumentError("examples[0].image: broken", field_violations=[("examples[0].image", "broken")])
    assert why(one, ["a.png"]) == "a.png: broken"
    more = InvalidArgumentError("of another encoder", field_violations=[("probes[0].encoder_digest", "expected x")])
    assert why(more, ["a.npy"]) == "of another encoder; a.npy: expected x"
    assert why(InvalidArgumentError("so it is")) == "so it is"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "good.png").write_bytes(png(picture(0)))
    (tmp_path / "bad\x1b[2J.png").write_bytes(b"?")
    np.save(tmp_path / "two.npy", np.ones((2, 64), dtype=np.float32))
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "enroll GALLERY ada GOOD BAD",
        "identify GALLERY GOOD BAD",
        "verify GALLERY ada BAD",
        "compare GOOD BAD --encoder pixels",
        "compare BAD GOOD --encoder pixels",
        "encode GOOD BAD --encoder pixels",
        "add-negative GALLERY ada BAD",
    ],
)
def test_every_command_names_the_broken_file_once(
    command: str, server: Server, client: Client, gallery: str, files: Path, capsys: Capture
) -> None:
    client.enroll(gallery, "ada", files / "good.png")
    given = {"GALLERY": gallery, "GOOD": str(files / "good.png"), "BAD": str(files / "bad\x1b[2J.png")}
    words = [given.get(word, word) for word in command.split()]
    assert main([*words, "--server", server.address]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"oneglance: INVALID_ARGUMENT [IMAGE_UNDECODABLE]: {files}/bad\\x1b[2J.png: ")
    assert err.count("\n") == err.count("bad") == 1


def test_a_stream_names_the_broken_file(
    server: Server, client: Client, gallery: str, files: Path, capsys: Capture
) -> None:
    client.enroll(gallery, "ada", files / "good.png")
    bad = str(files / "bad\x1b[2J.png")
    assert main(["identify-stream", gallery, str(files / "good.png"), bad, "--server", server.address]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"1: refused: {files}/bad\\x1b[2J.png: ")
    assert last.count("bad") == 1


def test_a_row_of_an_array_is_named(server: Server, client: Client, gallery: str, files: Path, capsys: Capture) -> None:
    client.enroll(gallery, "ada", files / "good.png")
    words = ["identify", gallery, str(files / "good.png"), str(files / "two.npy"), "--encoder-digest", "none"]
    assert main([*words, "--server", server.address]) == 1
    assert f"{files}/two.npy, row 1: " in capsys.readouterr().err


def test_what_is_no_name_is_told_before_the_server_is_asked(files: Path, gallery: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["enroll", gallery, "a\x00da", str(files / "good.png"), "--server", "127.0.0.1:1"])
    assert ended.value.code == 2
    assert (
        "argument SUBJECT: 'a\\x00da' is no name: character 2 is U+0000: a control character" in capsys.readouterr().err
    )
