import pytest

from oneglance_core.error_words import in_words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "MemoryError"),
        (ValueError("it is\n  too long\n"), "ValueError: it is too long"),
        (OSError(28, "No space left on device"), "OSError: [Errno 28] No space left on device"),
    ],
)
def test_an_error_says_what_it_is_in_one_line(error: BaseException, words: str) -> None:
    assert in_words(error) == words
