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
    assert printing.lost == printer.MOST_WAITING + 8  # no more, no less: with the one that is being printed
    assert not printing.ended
    awake.set()
    until(lambda: printing.ended)
    assert len(said) == printer.MOST_WAITING + 1


def test_lines_that_wait_at_the_end_are_printed_and_the_end_is_no_line() -> None:
    awake = threading.Event()
    said: list[str] = []

    def slow(line: str) -> None:
        assert awake.wait(PATIENCE_SECONDS)
        said.append(line)

    printing = Printer(slow, lambda: None)
    for _ in range(5):
        printing.put("line")
    printing.close(0.0)
    assert printing.lost == 5
    awake.set()
    printing.close(PATIENCE_SECONDS)
    assert (len(said), printing.lost, printing.ended) == (5, 0, True)


def test_nobody_reads_any_more() -> None:
    broken = threading.Event()

    def closed(line: str) -> None:
        raise BrokenPipeError

    printing = Printer(closed, broken.set)
    printing.put("line")
    assert broken.wait(PATIENCE_SECONDS)
    printing.put("more")
    printing.close(PATIENCE_SECONDS)
    assert printing.lost == 2
