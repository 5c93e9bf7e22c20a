"""Every command of oneglance and oneglance-exporter in the documents' blocks has a command and flags that exist."""

import re
from pathlib import Path

import pytest

from oneglance_apps.cli.main import parser as apps_parser
from oneglance_exporter.cli.main import parser as exporter_parser
from tests.test_flags import leaves

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
FLAGS = {
    name: {flag for action in parser._actions for flag in action.option_strings}
    for name, parser in (*leaves(apps_parser(), "oneglance"), *leaves(exporter_parser(), "oneglance-exporter"))
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_and_take_their_flags(page: Path) -> None:
    blocks = "\n".join(re.findall(r"```(?:bash|console)\n(.*?)```", page.read_text(), re.DOTALL))
    for line in blocks.replace("\\\n", " ").splitlines():
        told = re.match(r"(?:\$ )?(oneglance(?:-exporter)? [^#|<>&;]+)", line)
        if told is None:
            continue
        words = told[1].split()
        names = [" ".join(words[:count]) for count in (4, 3, 2) if " ".join(words[:count]) in FLAGS]
        assert names, line
        for flag in re.findall(r"(?<=\s)--[a-z][a-z-]*", told[1]):
            assert flag in FLAGS[names[0]], line
