"""Lines for standard output: in order, and whoever reads them slowly holds up nobody."""

import threading

from oneglance_apps.cli import printer
from oneglance_apps.cli.printer import Printer
from tests.waiting import PATIENCE_SECONDS, until


def test_lines_are_printed_in_order() -> None:
    said: list[str] = []
    printing = Printer(said.append, lambda: None)
    for i in range(100):
        printing.put(str(i))
    printing.close(PATIENCE_SECONDS)
    assert said == [str(i) for i in range(100)]
    assert printing.lost == 0


def test_a_slow_reader_holds_up_nobody() -> None:
    awake, asleep = threading.Event(), threading.Event()
    said: list[str] = []

    def slow(line: str) -> None:
        asleep.set()
        assert awake.wait(PATIENCE_SECONDS)
        said.append(line)

    printing = Printer(slow, lambda: None)
    printing.put("first")
    assert asleep.wait(PATIENCE_SECONDS)
    for _ in range(printer.MOST_WAITING + 7):
        printing.put("more")  # returns
    assert printing.lost == 7
    printing.close(0.0)
    assert printing.lost > printer.MOST_WAITING
    awake.set()
    until(lambda: len(said) == printer.MOST_WAITING + 1)


def test_nobody_reads_any_more() -> None:
    broken = threading.Event()

    def closed(line: str) -> None:
        raise BrokenPipeError

    Printer(closed, broken.set).put("line")
    assert broken.wait(PATIENCE_SECONDS)
