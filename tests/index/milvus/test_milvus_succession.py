"""A gallery at a real Milvus moves to another encoder and back, through a restart, as the model of local ones says."""

from collections.abc import Callable

import pytest

from tests.index.milvus.engine import Engine
from tests.index.test_succession import MovingMachine


@pytest.mark.parametrize("fusion", ["nearest", "margin"])
def test_a_gallery_moves_there_and_back(empty: Engine, fusion: str) -> None:
    class AtMilvus(MovingMachine):
        device = empty.url()

    machine = AtMilvus()
    try:
        machine.start(fusion, keep=True)
        steps: tuple[Callable[[], object], ...] = (
            lambda: machine.enroll("s1", [1, 2], {"a": "x"}, True, False),
            lambda: machine.enroll("s2", [3], None, True, False),
            lambda: machine.enroll("s3", [4], None, False, False),
            lambda: machine.fill("s0", [1]),
            lambda: machine.fill_by_map(1, 2),
            lambda: machine.enroll("s3", [4], None, True, False),
            lambda: machine.add_negative("s2", True),
            lambda: machine.merge("s1", "s0"),
            lambda: machine.rename("s0", "s4"),
            lambda: machine.delete_subject("s2", False),
            lambda: machine.swap(False),
            lambda: machine.fill("s3", [4]),
            lambda: machine.swap(False),
            lambda: machine.enroll("s1", [5], None, False, False),
            lambda: machine.fill_by_map(2, 1),
            lambda: machine.enroll("s1", [5], None, True, False),
            machine.restart,
            lambda: machine.enroll("s4", [2], None, False, False),
            lambda: machine.swap(True),
            lambda: machine.swap(True),
        )
        for step in steps:
            step()
            machine.both_are_as_they_must_be()
    finally:
        machine.teardown()
