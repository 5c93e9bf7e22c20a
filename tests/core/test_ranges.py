"""Numbers of the command line: in the range, or a usage error that tells it."""

import argparse

import pytest

from oneglance_core.ranges import within


@pytest.mark.parametrize("text", ["0.01", "1e-9", "0.999"])
def test_numbers_inside_are_read(text: str) -> None:
    assert within(float, above=0, below=1)(text) == float(text)
    assert within(int, least=1, most=64)("64") == 64


@pytest.mark.parametrize("text", ["0", "1", "-1", "nan", "inf", "-inf"])
def test_numbers_outside_are_refused_with_the_range(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        within(float, above=0, below=1)(text)
    assert str(caught.value) == f"must be greater than 0 and less than 1, got {text}"


def test_infinity_is_refused_without_a_range() -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="must be finite, got inf"):
        within(float)("inf")


def test_what_is_no_number_is_told_as_argparse_does(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=within(int, least=1))
    with pytest.raises(SystemExit):
        parser.parse_args(["--count", "few"])
    assert "argument --count: invalid int value: 'few'" in capsys.readouterr().err
