"""Pipes that nobody reads, versions, completion by shells, and what is missing: of every program."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest

from oneglance import Client
from oneglance_apps.cli import main
from oneglance_apps.cli.main import parser
from oneglance_core.command_line import EXIT_PIPE
from oneglance_exporter.cli.main import parser as exporter_parser
from oneglance_server.app import Server
from tests.pictures import picture, png
from tests.waiting import PATIENCE_SECONDS

APPS, EXPORTER = "oneglance_apps.cli", "oneglance_exporter.cli"


def into_a_closed_pipe(module: str, *words: str) -> tuple[int, str]:
    """(exit status, stderr) of a program whose stdout nobody reads, from the beginning on."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", module, *words]
    try:
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=PATIENCE_SECONDS, text=True)
    finally:
        os.close(writer)
    return ended.returncode, ended.stderr


@pytest.mark.parametrize("module", [APPS, EXPORTER])
def test_help_that_nobody_reads(module: str) -> None:
    status, err = into_a_closed_pipe(module, "--help")
    assert status in (0, EXIT_PIPE)  # argparse leaves its own failures to print unsaid
    assert not err


def test_answers_that_nobody_reads(server: Server, client: Client, gallery: str, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/ada.png").write_bytes(png(picture(0)))
    client.enroll(gallery, "ada", tmp_path / "photos/ada.png")
    at = ["--server", server.address]
    for words in (["list-subjects", gallery], ["get-gallery", gallery, "--json"], ["list-models"]):
        assert into_a_closed_pipe(APPS, *words, *at) == (EXIT_PIPE, "")
    words = ["bulk-enroll", gallery, str(tmp_path / "photos")]
    status, err = into_a_closed_pipe(APPS, *words, *at)
    assert status == EXIT_PIPE
    assert "Traceback" not in err


def test_a_broken_pipe_elsewhere_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    from oneglance_core.command_line import exit_status

    def broken() -> int:
        raise BrokenPipeError("of a connection")

    with pytest.raises(BrokenPipeError):
        exit_status(broken)


def commands(program: str) -> Iterator[list[str]]:
    """Every command, and every command of a command."""
    top = {"oneglance": parser, "oneglance-exporter": exporter_parser}[program]()
    waiting: list[tuple[list[str], object]] = [([], top)]
    while waiting:
        words, one = waiting.pop()
        yield words
        for action in one._actions:  # type: ignore[attr-defined]
            if type(action).__name__ == "_SubParsersAction":
                waiting += [([*words, name], below) for name, below in action.choices.items()]


@pytest.mark.parametrize("program", ["oneglance", "oneglance-exporter"])
def test_every_command_tells_the_version(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = {"oneglance": parser, "oneglance-exporter": exporter_parser}[program]()
    told = list(commands(program))
    assert len(told) > 8
    for words in told:
        with pytest.raises(SystemExit) as ended:
            made.parse_args([*words, "--version"])
        assert ended.value.code == 0, words
        assert capsys.readouterr().out == f"{program} {version('oneglance')}\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_what_they_read(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    out = capsys.readouterr().out
    assert "_ARGCOMPLETE" in out
    assert "oneglance-exporter" in out


def test_bash_completes(tmp_path: Path) -> None:
    """Bash itself asks, as when Tab is pressed."""
    for program, module in (("oneglance", APPS), ("oneglance-exporter", EXPORTER)):
        file = tmp_path / program
        file.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        file.chmod(0o755)
    script = """
eval "$(oneglance completion bash)"
ask() {
    COMP_LINE="$*"; COMP_POINT=${#COMP_LINE}; COMP_TYPE=9
    COMP_WORDS=($COMP_LINE); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
    COMPREPLY=(); _python_argcomplete "$1" "${COMP_WORDS[COMP_CWORD]}" ""; echo "${COMPREPLY[@]}"
}
ask oneglance bulk-
ask oneglance serve --drain-sec
ask oneglance-exporter calib
"""
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert ended.stdout.split() == ["bulk-enroll", "--drain-seconds", "calibrate"], ended.stderr


@pytest.mark.parametrize(
    ("words", "module", "extra"),
    [
        (["train", "encoder", "--data", "FOLDER", "--out", "OUT"], "torch", "exporter"),
        (["export", "--run", "FOLDER", "--out", "OUT", "--name", "a"], "torch", "exporter"),
    ],
)
def test_what_is_not_installed_is_told_with_its_extra(
    words: list[str], module: str, extra: str, tmp_path: Path
) -> None:
    given = {"FOLDER": str(tmp_path), "OUT": str(tmp_path / "out")}
    code = f"import sys; sys.modules[{module!r}] = None; from oneglance_exporter.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *(given.get(word, word) for word in words)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 1
    assert ended.stderr.startswith("oneglance-exporter: error: ")
    assert ended.stderr.endswith(f"; this command needs: pip install 'oneglance[{extra}]'\n")
    assert ended.stderr.count("\n") == 1
