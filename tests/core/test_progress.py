"""Progress: lines now and then in a log, one renewed line or a bar on a terminal, and what stays when it ends."""

import sys
from dataclasses import dataclass

import pytest

from oneglance_core import progress

Capture = pytest.CaptureFixture[str]


@dataclass
class Halfway:
    done: float = 0.5

    def __str__(self) -> str:
        return "step 5"


def on_a_terminal_without_rich(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(progress, "LIVE_SECONDS", 0.0)
    monkeypatch.setitem(sys.modules, "rich.console", None)


def test_progress_is_a_line_now_and_then(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    with progress.Progress() as shown:
        shown.show(1, 4, "1 of 4")
        monkeypatch.setattr(progress, "NOW_AND_THEN_SECONDS", 0.0)
        shown.show(2, 4, "2 of 4")
        shown.show(3, None, "3 of some")
        shown.say("made")
    told = capsys.readouterr()
    assert told.err == "50%, 2 of 4\n3 of some\n"
    assert told.out == "made\n"


def test_progress_on_a_terminal_is_wiped(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal_without_rich(monkeypatch)
    with progress.Progress() as shown:
        shown.show(1, 4, "1 of 4")
        shown.say("made")
    told = capsys.readouterr()
    assert told.err == f"{progress.WIPE}25%, 1 of 4{progress.WIPE}"
    assert told.out == "made\n"


@pytest.mark.parametrize("lasting", [False, True])
def test_with_rich_it_is_a_bar(capsys: Capture, monkeypatch: pytest.MonkeyPatch, lasting: bool) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    with progress.Progress(lasting=lasting) as shown:
        shown.show(1, 4, "1 of 4 with rich [x]")
        shown.say("made")
    told = capsys.readouterr()
    assert told.out == "made\n"
    assert "1 of 4 with rich [x]" in told.err


def test_a_lasting_one_always_shows_the_first_and_the_last_state(capsys: Capture) -> None:
    with progress.Progress("reading", lasting=True) as shown:
        shown.step(Halfway(0.25))
        shown.step(Halfway())
        shown.step(Halfway(1.0))
    assert capsys.readouterr().err == "25%, step 5\n100%, step 5\n"


def test_a_lasting_one_stays_on_a_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_terminal_without_rich(monkeypatch)
    with progress.Progress("reading", lasting=True) as shown:
        shown.step(Halfway())
    assert capsys.readouterr().err == f"{progress.WIPE}reading{progress.WIPE}50%, step 5\n"


def test_nothing_appears_where_nothing_is_shown(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    for lasting in (False, True):
        with progress.Progress(lasting=lasting):
            pass
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "")
