"""Names: the ids of galleries, subjects and requests, the keys of encodings, and what labels say. One policy for all.

A name is text of any script, as people write it. Two spellings that look alike and mean the same are one name: it is
brought to Unicode's composed form (NFC), so that "José" from a keyboard is "José" from the folder of a Mac. Composing
is done for the caller, not asked of the caller, since nobody can see which form a text has. Nothing else is changed:
capitals, widths and compatibility characters stay as they are.

Refused is what nobody sees, and what makes a name look like another: control characters and line breaks, halves of
surrogate pairs, characters that turn the direction of the text round, invisible and blank ones, selectors and tags
where they change nothing, codes that are no characters, more than 30 marks on one, and white space around a name.
Joiners (U+200C, U+200D), which Persian, Sinhala and emoji are written with, no-break and other spaces inside, and the
tags of flags are taken.
"""

from __future__ import annotations

import unicodedata

MAX_NAME_CHARACTERS = 128
MAX_VALUE_CHARACTERS = 1000
"""Of the value of a label."""
_JOINERS = "\u200c\u200d"
# Of the format characters, those that letters are written with: joiners, the vowel separator of Mongolian, signs that
# stand before numbers in Arabic, Syriac and Kaithi, and the tags of flags.
_WRITTEN = frozenset(
    (*_JOINERS, "\u180e", *map(chr, range(0x0600, 0x0606)), "\u06dd", "\u070f", "\u0890", "\u0891", "\u08e2"),
) | frozenset(map(chr, (0x110BD, 0x110CD, *range(0xE0020, 0xE0080))))
# Letters and marks that show nothing at all.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
# NFC makes a text this much shorter at most; and no text has more marks on a character (UAX #15, stream-safe text).
_MOST_SHORTENED = 4
_MOST_MARKS = 30
_SELECTORS = ((0xFE00, 0xFE0F), (0xE0020, 0xE007F), (0xE0100, 0xE01EF), (0x180B, 0x180F))
_NOTHING = "no character, or one that shows nothing"
_REFUSED = {
    "Cc": "a control character",
    "Cs": "half of a surrogate pair",
    "Zl": "a line break",
    "Zp": "a line break",
    "Cf": "an invisible character, or one that turns text round",
}


class NameInvalid(ValueError):
    """A text that is no name. `character`: the code point that is wrong, as "U+202E", and `position`: which character
    of the text it is, the first is 1; "" and 0 where it isn't about one."""

    def __init__(self, description: str, character: str = "", position: int = 0) -> None:
        super().__init__(description)
        self.character = character
        self.position = position


def composed(text: str) -> str:
    """In NFC; as it is where it is too long for anything here, or has more marks on a character than text has: that
    would take time without end."""
    if text.isascii() or len(text) > _MOST_SHORTENED * MAX_VALUE_CHARACTERS or _overmarked(text) is not None:
        return text
    return unicodedata.normalize("NFC", text)


def as_name(text: str) -> str:
    """The name that a text is, 1 to 128 characters. Raises NameInvalid."""
    if not text:
        raise NameInvalid("is required")
    return _checked(text, MAX_NAME_CHARACTERS)


def as_value(text: str) -> str:
    """The value of a label: as a name, but of up to 1,000 characters, and it may be empty. Raises NameInvalid."""
    return _checked(text, MAX_VALUE_CHARACTERS)


def is_written(character: str) -> bool:
    """Whether names may have it."""
    if character in _WRITTEN:
        return True
    if character in _BLANK:
        return False
    return unicodedata.category(character) not in _REFUSED and not _is_no_character(character)


def _checked(text: str, most: int) -> str:
    if len(text) > _MOST_SHORTENED * most:  # before anything is done with it
        raise NameInvalid(f"has {len(text)} characters, at most {most}")
    if not (text.isascii() and text.isprintable()):
        for place, character in enumerate(text):
            if not is_written(character):
                raise _invalid(text, place, _REFUSED.get(unicodedata.category(character), _NOTHING))
            if _selects(character) and not _may_follow(text[:place], character):
                raise _invalid(text, place, "it changes nothing that one sees of what is before it")
        place_of_mark = _overmarked(text)
        if place_of_mark is not None:
            raise _invalid(text, place_of_mark, f"more than {_MOST_MARKS} marks on one character")
    for place in {0, len(text) - 1} if text else ():
        if text[place].isspace() or text[place] in _JOINERS:
            what = "a joiner" if text[place] in _JOINERS else "white space"
            raise _invalid(text, place, f"{what} at the {'end' if place else 'beginning'}")
    name = composed(text)
    if len(name) > most:
        raise NameInvalid(f"has {len(name)} characters, at most {most}")
    return name


def _overmarked(text: str) -> int | None:
    """The place of the first mark too many; None: there is none."""
    marks = 0
    for place, character in enumerate(text):
        marks = marks + 1 if unicodedata.combining(character) else 0
        if marks > _MOST_MARKS:
            return place
    return None


def _selects(character: str) -> bool:
    """Variation selectors, and the tags of flags."""
    code = ord(character)
    return any(first <= code <= last for first, last in _SELECTORS)


def _may_follow(before: str, character: str) -> bool:
    """Whether a selector or tag can change how what is before it looks."""
    if not before:
        return False
    last, code = before[-1], ord(character)
    if 0xE0020 <= code <= 0xE007F:
        return last == "\U0001f3f4" or 0xE0020 <= ord(last) < 0xE007F
    if 0x180B <= code <= 0x180F:
        return 0x1800 <= ord(last) <= 0x18AF
    if code in (0xFE0E, 0xFE0F):  # text or emoji
        return last == "\u2139" or unicodedata.category(last) in ("So", "Sm", "Sk", "Po", "Pd", "Nd")
    return unicodedata.category(last) in ("Lo", "So", "Sm", "Po")


def _is_no_character(character: str) -> bool:
    code = ord(character)
    return code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF


def _invalid(text: str, place: int, why: str) -> NameInvalid:
    character = f"U+{ord(text[place]):04X}"
    name = unicodedata.name(text[place], "")
    told = f"{character} {name}" if name else character
    return NameInvalid(f"character {place + 1} is {told}: {why}", character, place + 1)
