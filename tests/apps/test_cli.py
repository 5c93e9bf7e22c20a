"""Every RPC has a command; output for people and as JSON; mistakes print a message, not a traceback."""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import pytest

from oneglance.v1 import (
    access_pb2,
    detection_pb2,
    gallery_pb2,
    identification_pb2,
    model_pb2,
    server_pb2,
    stylization_pb2,
    subject_pb2,
)
from oneglance_apps.cli import main
from oneglance_apps.cli.main import parser
from oneglance_server.app import Server
from tests.pictures import picture, png
from tests.waiting import PATIENCE_SECONDS

Capture = pytest.CaptureFixture[str]


def commands() -> dict[str, argparse.ArgumentParser]:
    action = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def test_every_rpc_has_a_command_that_explains_itself() -> None:
    rpcs = {
        re.sub(r"(?<!^)(?=[A-Z])", "-", method.name).lower()
        for file in (
            access_pb2,
            gallery_pb2,
            subject_pb2,
            identification_pb2,
            detection_pb2,
            model_pb2,
            server_pb2,
            stylization_pb2,
        )
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    } - {"stylize-stream"}  # stylize, given a video
    have = commands()
    assert rpcs <= set(have)
    assert set(have) - rpcs == {
        "serve",
        "check",
        "check-upgrade",
        "doctor",
        "backup",
        "restore",
        "repair",
        "verify-receipt",
        "audit",
        "first-key",
        "demo",
        "compare",
        "enroll-encodings",
        "evaluate",
        "health",
        "watch",
        "console",
        "plan",
        "completion",
    }  # compare is Verify of two examples, evaluate both of many; enroll-encodings is BulkEnroll
    for name, command in have.items():
        assert command.description, name
        for action in command._actions:
            assert action.help, f"{name} {action.dest}"
        command.format_help()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(png(picture(i)))
    for name in ("ada", "bob"):
        (tmp_path / "people" / name).mkdir(parents=True)
    (tmp_path / "people/ada/1.png").write_bytes(png(picture(0)))
    (tmp_path / "people/bob/1.png").write_bytes(png(picture(1)))
    (tmp_path / "people/cyd.png").write_bytes(png(picture(2)))
    (tmp_path / "people/bad.png").write_bytes(b"?")
    np.save(tmp_path / "probe.npy", picture(0))
    return tmp_path


def test_a_session(server: Server, files: Path, capsys: Capture) -> None:
    def run(*words: str, status: int = 0) -> str:
        assert main([words[0], "--server", server.address, *words[1:]]) == status
        return capsys.readouterr().out

    def run_json(*words: str, status: int = 0) -> list[dict[str, object]]:
        return [json.loads(line) for line in run(*words, "--json", status=status).splitlines()]

    assert run("health") == "serving\n"
    assert "0 subjects" in run("create-gallery", "cli", "--encoder", "pixels")
    out = run("bulk-enroll", "cli", str(files / "people"), status=3).splitlines()
    assert sum("enrolled as" in line for line in out) == 3
    assert sum(line.startswith("bad.png: refused for bad: ") for line in out) == 1
    added = run("enroll", "cli", "ada", str(files / "3.png"), "--label", "name=Ada L.")
    assert re.match(r"ada: known subject, encoding id \d+, ", added)  # never "encodings 5"
    subject = run("get-subject", "cli", "ada")
    assert re.match(r"ada: encoding ids \d+ \(key sha256:\w{12}…, from ada/\d\.png\), .*\d+ name=Ada L\.", subject)
    assert len(run("list-subjects", "cli").splitlines()) == 3
    text = run("identify", "cli", str(files / "0.png"), str(files / "probe.npy"), "--all-matches")
    assert text.splitlines()[0] == "ada"
    assert "tau 0.5000 from the model" in text
    answer = run_json("identify", "cli", str(files / "0.png"), "--tau", "0", "--max-candidates", "2")[0]
    assert len(answer["results"][0]["candidates"]) == 2  # type: ignore[index]
    streamed = run_json("identify-stream", "cli", *(str(files / f"{i}.png") for i in range(3)))
    assert [s["response"]["results"][0]["subject_id"] for s in streamed] == ["ada", "bob", "cyd"]  # type: ignore[index]
    assert run("verify", "cli", "ada", str(files / "0.png")).startswith("same: d ")
    assert run("verify", "cli", "ada", str(files / "2.png"), "--tau", "0", status=3).startswith("different: d ")
    assert run("compare", str(files / "0.png"), str(files / "0.png"), "--encoder", "pixels").startswith("same")
    run("encode", str(files / "0.png"), "--encoder", "pixels", "--out", str(files / "e.npy"))
    assert np.load(files / "e.npy").shape == (1, 64)
    run("encode", str(files / "0.png"), "--encoder", "pixels", "--out", str(files / "e.dat"))
    assert np.load(files / "e.dat").shape == (1, 64)
    assert not (files / "e.dat.npy").exists()
    digest = run_json("get-gallery", "cli")[0]["encoder_digest"]
    assert run("identify", "cli", str(files / "e.npy"), "--encoder-digest", str(digest)).startswith("ada")
    assert "from the gallery" in run("set-threshold", "cli", "0.25")
    assert "tau 0.2500" in run("get-threshold", "cli")
    assert "from the model" in run("set-threshold", "cli")
    encoding_id = run_json("get-subject", "cli", "cyd")[0]["encodings"][0]["id"]  # type: ignore[index]
    assert "the subject with it" in run("delete-encoding", "cli", "cyd", encoding_id)
    assert "deleted, 2 encodings with it" in run("delete-subject", "cli", "ada")
    assert "cli: 1 subject, 1 encoding of 64 numbers" in run("list-galleries")
    assert len(run("list-models").splitlines()) == 2
    assert '"metric": "squared_l2"' in run("describe-model", "pixels")
    assert "1 subject with it" in run("delete-gallery", "cli")


def test_mistakes_exit_with_words(server: Server, files: Path, capsys: Capture) -> None:
    assert main(["get-gallery", "none", "--server", server.address]) == 1
    assert capsys.readouterr().err.startswith("oneglance: NOT_FOUND [GALLERY_NOT_FOUND]")
    assert main(["get-gallery", "none", "--server", server.address, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["reason"] == "GALLERY_NOT_FOUND"
    assert main(["identify", "g", "/no/such.png", "--server", server.address]) == 2
    assert "/no/such.png" in capsys.readouterr().err
    assert main(["bulk-enroll", "g", str(files / "0.png"), "--server", server.address]) == 2
    assert "not a folder" in capsys.readouterr().err
    assert main(["list-galleries", "--server", "127.0.0.1:1", "--timeout", str(PATIENCE_SECONDS)]) == 1
    assert capsys.readouterr().err.startswith("oneglance: UNAVAILABLE")
    assert main(["health", "--server", "127.0.0.1:1", "--wait", "0.2"]) == 1
    with pytest.raises(SystemExit) as caught:
        main(["identify"])
    assert caught.value.code == 2
    with pytest.raises(SystemExit) as caught:
        main(["identify", "g", str(files / "0.png"), "--face", "1,2"])
    assert caught.value.code == 2
    assert "neither largest, aligned nor a box" in capsys.readouterr().err
