"""The benchmark for a graphics card runs to its end on one that isn't there, and stops at a wrong answer."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import gpu
from tests.fake_card import FakeCard
from tests.fake_cuda import FakeCuda


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch, models: tuple[Path, Path], tints: Path) -> FakeCard:
    FakeCuda(monkeypatch)
    monkeypatch.setattr(gpu, "SCRATCH", 32 << 20)
    monkeypatch.setattr(gpu, "REPEATS", 1)
    monkeypatch.setattr(gpu, "FULL_ROWS", 200_000)
    monkeypatch.setattr(gpu, "GALLERIES", 3)
    monkeypatch.setattr(gpu, "SIZES", ("60x40",))
    monkeypatch.setattr(gpu, "BUNDLED", (models[0], tints))
    return FakeCard(monkeypatch, capacity=1 << 30)


def test_it_runs(card: FakeCard, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--rows", "600", "--steps", "2,3,4,5,7,8,9"]) == 0
    card.capacity = card.used + (64 << 20)
    assert gpu.main(["--rows", "600", "--steps", "10,11"]) == 0
    assert "equal" in capsys.readouterr().out


def test_a_wrong_answer_ends_it(
    card: FakeCard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    floats = card.floats
    monkeypatch.setattr(card, "floats", lambda address, *shape, **how: np.flip(floats(address, *shape, **how), 0))
    assert gpu.main(["--rows", "5000", "--steps", "5,7"]) == 1
    told = capsys.readouterr().out
    assert "a row is not nearest to itself" in told
    assert "\n7. " not in told
