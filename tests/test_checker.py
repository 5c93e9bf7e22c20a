"""The checker of answers (benchmarks/checker.py), small: it finds nothing, and what is wrong it finds."""

import pytest

from benchmarks.checker import CODES, EXACTLY, MATES_FOUND, NEARLY, ROWS, RULES, check, differing
from benchmarks.compared import Counted
from benchmarks.hostile_data import CHANGING


@pytest.mark.timeout(600)
def test_every_answer_is_right() -> None:
    kinds = ["twins one digit apart", "half equal", "ties", CHANGING]
    cells = check(rows=200, probes=10, kinds=kinds)
    assert len(cells) == len(RULES) * len(kinds) * 4
    assert not differing(cells)
    for counted in cells.values():
        assert counted.probes > 10
        assert counted.largest <= 2**-24 * 1.000001  # it is told as float32
    assert sum(one.approximate for (_, way, _), one in cells.items() if way == NEARLY) > 0


def test_what_goes_wrong_with_row_codes_is_found() -> None:
    """Codes that tell of another probe than was asked for, and are believed."""
    broken = (
        "import numpy\n"
        "ask = coded.Block.query\n"
        "coded.Block.query = lambda self, probe: ask(self, -probe)\n"
        "coded.code_floors = lambda distances, *_: numpy.full_like(distances, 1e30)\n"
    )
    cells = check(rows=300, probes=10, first=broken, kinds=["random"])
    wrong = {way for _, way, _ in differing(cells)}
    assert {CODES, EXACTLY} <= wrong
    assert ROWS not in wrong


def test_more_may_not_be_lost_than_by_chance() -> None:
    for lost, wrong in ((0, False), (10, False), (17, True)):
        assert Counted(known=100, lost=lost).differing(MATES_FOUND, margin=False) == wrong
    assert Counted(let_in=1).differing(MATES_FOUND, margin=False)
    assert not Counted(let_in=1).differing(MATES_FOUND, margin=True)
