"""What is a name, and what isn't: the one policy for ids and labels."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneglance_core.names import NameInvalid, as_name, as_value, composed

JOSE = "José"
TAKEN = [
    "ada",
    "Zoë Größe",
    "علی‌رضا",  # Persian, with a joiner (ZWNJ)
    "ශ්‍රීමතී",  # Sinhala, with a joiner (ZWJ)
    "O’Brien née Müller",  # with a no-break space
    "山田　太郎",  # with an ideographic space
    "👩‍👩‍👧‍👦",
    "🏳️‍🌈",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "ᠮᠣᠩᠭᠣᠯ᠎ᠠ",  # with Mongolian's vowel separator
    "葛󠄀城",  # with a variation selector
    "a" * 128,
]


@pytest.mark.parametrize("text", TAKEN)
def test_names_of_people_are_names(text: str) -> None:
    assert as_name(text) == as_value(text) == unicodedata.normalize("NFC", text)


def test_two_spellings_are_one_name() -> None:
    spellings = {unicodedata.normalize(form, JOSE) for form in ("NFC", "NFD")}
    assert len(spellings) == 2
    assert {as_name(one) for one in spellings} == {"Jos\u00e9"}
    assert as_name("ﬁ Å") == "ﬁ Å"  # only composed: no letter becomes another


@pytest.mark.parametrize(
    ("text", "character", "position"),
    [
        ("a\x00b", "U+0000", 2),
        ("a\nb", "U+000A", 2),
        ("a\x7f", "U+007F", 2),
        ("\x85a", "U+0085", 1),
        ("a\u2028b", "U+2028", 2),
        ("a\ud800b", "U+D800", 2),
        ("ab\udcff", "U+DCFF", 3),
        ("ada\u202eecila", "U+202E", 4),
        ("\u2066a\u2069", "U+2066", 1),
        ("a\u200fb", "U+200F", 2),
        ("a\u061cb", "U+061C", 2),
        ("a\u200bb", "U+200B", 2),
        ("a\u2060b", "U+2060", 2),
        ("\ufeffa", "U+FEFF", 1),
        ("a\u00adb", "U+00AD", 2),
        ("a\uffff", "U+FFFF", 2),
        ("a\ufdd0", "U+FDD0", 2),
        ("a\U0001fffe", "U+1FFFE", 2),
        (" a", "U+0020", 1),
        ("ab\u00a0", "U+00A0", 3),
        ("a\u3000", "U+3000", 2),
        ("a\u200c", "U+200C", 2),
        ("\u200da", "U+200D", 1),
        ("e\u0301\u202e", "U+202E", 3),  # as it was given, not as it is composed
    ],
)
def test_what_is_refused_is_named(text: str, character: str, position: int) -> None:
    for check in (as_name, as_value):
        with pytest.raises(NameInvalid) as refused:
            check(text)
        assert (refused.value.character, refused.value.position) == (character, position)
        assert f"character {position} is {character}" in str(refused.value)


def test_how_long_a_name_is() -> None:
    with pytest.raises(NameInvalid, match="required"):
        as_name("")
    assert as_value("") == ""
    assert as_name("e\u0301" * 128) == "\u00e9" * 128  # of the composed form
    for check, most in ((as_name, 128), (as_value, 1000)):
        assert check("x" * most)
        with pytest.raises(NameInvalid, match=f"has {most + 1} characters, at most {most}"):
            check("x" * (most + 1))


@given(st.text(min_size=1, max_size=20))
def test_a_name_is_one_again_and_harms_no_terminal(text: str) -> None:
    try:
        name = as_name(text)
    except NameInvalid:
        return
    assert as_name(name) == name
    assert as_name(unicodedata.normalize("NFD", name)) == name
    assert not any(unicodedata.category(one) in ("Cc", "Cs", "Zl", "Zp") for one in name)
    assert name == name.strip()
    assert unicodedata.bidirectional(name[0]) not in ("LRO", "RLO", "LRE", "RLE", "PDF", "LRI", "RLI", "FSI", "PDI")


MARKS = "a" + "\u0301" * 6000 + "\u0316" * 6000
SHOWN = ["❤\ufe0f", "ℹ\ufe0f", "1\ufe0f\u20e3", "葛\U000e0100", "🏴\U000e0067\U000e007f", "ᠮᠣ\u180b"]
NOT_SEEN = [
    "anna\u3164",
    "an\u034fna",
    "\u2800",
    "anna\ufe0f",
    "\ufe0f",
    "anna\U000e0041",
    "שרה\ufe0f",
    "ann\U000e0100a",
]


def test_nothing_is_composed_that_would_take_long() -> None:
    """To order marks takes time with their number squared, on the server's event loop. If it were done, this would take
    longer than a test may."""
    endless = "a" + "\u0301" * 500_000 + "\u0316" * 500_000
    assert composed(endless) == endless
    for text in (endless, MARKS, MARKS[:40], "\u0301" * 31):
        assert composed(text) == text
        with pytest.raises(NameInvalid):
            as_name(text)
    with pytest.raises(NameInvalid, match="more than 30 marks"):
        as_value("a" + "\u0301\u0316" * 300)


@pytest.mark.parametrize("text", SHOWN)
def test_selectors_stand_where_they_show(text: str) -> None:
    assert as_name(text) == text


@pytest.mark.parametrize("text", NOT_SEEN)
def test_what_nobody_sees_is_refused(text: str) -> None:
    with pytest.raises(NameInvalid):
        as_name(text)
