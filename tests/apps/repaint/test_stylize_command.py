"""``oneglance stylize`` and ``list-styles`` as commands: what they need, and what the docs tell of them."""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from oneglance_apps.cli import main
from oneglance_apps.cli.main import parser
from oneglance_server.app import Server
from tests.apps.repaint.stylizing import (
    MOSS,
    Capture,
    blobs,
    names,
)
from tests.apps.watch.videos import write_video


def test_pictures_and_folders_need_the_bare_install_alone_and_a_video_says_what_it_needs(
    server: Server, photos: Path, tmp_path: Path
) -> None:
    (photos / "a" / "bad.jpg").unlink()
    write_video(tmp_path / "in.mp4", [blobs(0)] * 2)

    def bare(*words: object) -> subprocess.CompletedProcess[str]:
        absent = ("av", "PIL", "rich", "pydantic", "structlog", "jinja2", "onnxruntime", "faiss", "grpc_health")
        given = ["stylize", "--server", server.address, *map(str, words)]
        code = f"import sys; sys.modules.update(dict.fromkeys({absent})); from oneglance_apps.cli import main; "
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        command = [sys.executable, "-c", f"{code}sys.exit(main({given}))"]
        return subprocess.run(command, capture_output=True, text=True, env=env)

    done = bare(photos, tmp_path / "out", *MOSS)
    assert done.returncode == 0, done.stderr
    assert len(names(tmp_path / "out")) == 6
    done = bare(tmp_path / "in.mp4", tmp_path / "out.mp4", *MOSS)
    assert done.returncode == 1
    assert "pip install 'oneglance[watch]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_styles_are_listed_for_people_and_programs(server: Server, capsys: Capture) -> None:
    assert main(["list-styles", "--server", server.address]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["ember", "moss", "slate", "inverse"]
    assert lines[0].startswith("ember: Ember; invented, CC0-1.0; stylizer tints ")
    assert main(["list-styles", "--server", server.address, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[1])["title"] == "Moss"


def test_the_docs_tell_every_option_and_no_other() -> None:
    page = (Path(__file__).parents[3] / "docs" / "stylize.md").read_text()
    parts = dict(re.findall(r"^#+ (.+?)\n(.*?)(?=^#+ |\Z)", re.sub("(?m)  +#.*", "", page), re.MULTILINE | re.DOTALL))
    names = ("Pictures and videos in another style", "From the command line", "Video")
    text = "".join(parts[name] for name in names)
    told = re.findall(r"^(oneglance stylize .*?)(?:[<>].*)?$", text, re.MULTILINE)
    assert len(told) >= 8
    commands = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    for line in told:
        options = parser().parse_args(shlex.split(line)[1:])
        assert options.style, line
    actions = commands.choices["stylize"]._actions
    flags = {flag for action in actions for flag in action.option_strings if flag.startswith("--")}
    mentioned = set(re.findall(r"(--[a-z][a-z-]+)", text))
    of_the_server = {"--server", "--ca", "--client-cert", "--client-key", "--token-file"}  # docs/security.md
    assert flags - mentioned == {"--help", "--version", *of_the_server}
    assert mentioned - flags == {"--models"}  # of serve
