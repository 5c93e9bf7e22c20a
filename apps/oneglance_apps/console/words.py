"""The words of the console: one catalogue per language in ``messages/``, keyed alike, and the choice of the language.

A message may have ``{places}``; one with a plural has the forms ``one`` and ``other``, chosen by ``n``. What comes from
the server (names, labels, the reason of a refusal) is not in a catalogue, and stays as it came.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from nicegui.language import Language

LANGUAGES = {"en": "English", "de": "Deutsch", "zh": "中文"}
PSEUDO = "pseudo"
"""English with every letter marked: a test finds with it what is in no catalogue. No browser asks for it."""
LANGUAGE_COOKIE = "oneglance-language"
_HTML: dict[str, Language] = {"en": "en-US", "de": "de", "zh": "zh-CN"}
_THOUSANDS = {"en": ",", "de": "\N{NARROW NO-BREAK SPACE}", "zh": ","}
_MARKED = str.maketrans("aceinorsuyACEINORSUY", "åçéïñöřšûýÅÇÉÏÑÖŘŠÛÝ")
Message = str | Mapping[str, str]


class Words:
    """The words of one language. ``say("people.found", n=3)`` gives a message with its places filled."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._base = language if language in LANGUAGES else "en"
        self._messages = catalogue(self._base)

    def __call__(self, key: str, /, **values: Any) -> str:
        message = self._messages[key]
        if not isinstance(message, str):
            message = message["one" if values["n"] == 1 and "one" in message else "other"]
        if self.language == PSEUDO:
            message = pseudo(message)
        return message.format(**{name: self.number(v) if type(v) is int else v for name, v in values.items()})

    def __contains__(self, key: str) -> bool:
        return key in self._messages

    def number(self, value: int) -> str:
        """``12,000``, as the language groups digits. Distances and rates have a point in all languages."""
        return f"{value:,}".replace(",", _THOUSANDS[self._base])

    def below(self, section: str) -> dict[str, str]:
        """The messages of a section without plurals, by the last part of their keys: for the browser's scripts."""
        return {
            key.removeprefix(f"{section}."): pseudo(message) if self.language == PSEUDO else message
            for key, message in self._messages.items()
            if key.startswith(f"{section}.") and isinstance(message, str)
        }

    @property
    def html_language(self) -> Language:
        return _HTML[self._base]


@cache
def catalogue(language: str) -> dict[str, Message]:
    """The messages of a language by key, ``section.name``."""
    file = Path(__file__).parent / "messages" / f"{language}.toml"
    sections = tomllib.loads(file.read_text("utf-8"))
    return {f"{section}.{name}": message for section, names in sections.items() for name, message in names.items()}


def pseudo(message: str) -> str:
    """``⟦Šéåřçĥ {n}⟧``: every letter that may be is marked, places stay."""
    parts = message.replace("{", "\0{").replace("}", "}\0").split("\0")
    return "⟦" + "".join(part if part.startswith("{") else part.translate(_MARKED) for part in parts) + "⟧"


def choose_language(chosen: str | None, accepted: str) -> Words:
    """Words in the language that was chosen; else in the first one that ``Accept-Language`` asks for; else English."""
    if chosen in (*LANGUAGES, PSEUDO):
        return Words(str(chosen))
    asked = []
    for position, part in enumerate(accepted.split(",")):
        tag, _, quality = part.partition(";")
        try:
            weight = float(quality.partition("=")[2] or 1)
        except ValueError:
            weight = 0.0
        asked.append((-weight, position, tag.strip().partition("-")[0].lower()))
    return Words(next((tag for weight, _, tag in sorted(asked) if weight and tag in LANGUAGES), "en"))
