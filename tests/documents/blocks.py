"""The blocks of a page, and the commands in them."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = {str(path.relative_to(ROOT)): path for path in sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])}
LANGUAGES = frozenset({"bash", "console", "python", "toml", "json", "", "text"})
"""What a block may be: one without a language is what the block before it prints, text is neither run nor compared."""


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """A line for the shell, without its comment, and what the page shows of its output; None: nothing is shown."""

    text: str
    shown: str | None = None


def blocks_of(page: str) -> list[Block]:
    text = PAGES[page].read_text()
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[2], textwrap.dedent(found[3]))
        for found in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.DOTALL | re.MULTILINE)
    ]


def commands_of(block: Block) -> list[Command]:
    """Of a bash block every line, joined where it ends with a backslash, with its here-document; of a console block
    what follows each ``$``."""
    if block.language == "console":
        parts = re.split(r"^\$ ", block.text, flags=re.MULTILINE)
        assert not parts[0], f"{block} begins with output"
        return [Command(line, shown) for line, _, shown in (part.partition("\n") for part in parts[1:])]
    lines = iter(re.sub(r"\s*\\\n\s*", " ", block.text).splitlines())
    found = []
    for line in lines:
        text = re.sub(r"(?<=\S)  +", " ", re.sub(r"(^|\s+)#\s.*$", "", line).strip())
        if here := re.search(r"<<'(\w+)'", text):
            for more in lines:
                text += f"\n{more}"
                if more == here[1]:
                    break
        if text:
            found.append(Command(text))
    return found
