"""Numbers of the command line: in the range, or a usage error that tells it."""

import argparse

import pytest

from oneglance_core.ranges import seconds, within


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


@pytest.mark.parametrize("text", ["1e300", "-1e16", "9" * 400])
def test_what_nobody_means_is_refused_without_a_range(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=r"must be between -2\^53 and 2\^53, got "):
        within(int if text.isdigit() else float)(text)
    assert within(int)(str(2**53)) == 2**53


def test_a_time_is_a_year_at_most() -> None:
    assert seconds(above=0)("31536000") == 31_536_000
    for text in ("0", "-1", "31536001", "1e12", "inf", "nan"):
        with pytest.raises(argparse.ArgumentTypeError, match="must be greater than 0 and at most 31536000, got "):
            seconds(above=0)(text)


def test_what_is_no_number_is_told_as_argparse_does(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=within(int, least=1))
    with pytest.raises(SystemExit):
        parser.parse_args(["--count", "few"])
    assert "argument --count: invalid int value: 'few'" in capsys.readouterr().err
