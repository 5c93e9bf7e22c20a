"""What others wrote doesn't reach the terminal as it is."""

import pytest

from oneglance_core.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë Größe 漢字 🙂", "Zoë Größe 漢字 🙂"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("ada\u202eecila", r"ada\u202eecila"),
        ("\u2066x\u2069\u200f\x85\x7f\r", r"\u2066x\u2069\u200f\x85\x7f\r"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\udc80", r"\udc80"),
    ],
)
def test_what_is_not_printed_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    assert printable("a\nb\t" + text, lines=True).startswith("a\nb\t")
