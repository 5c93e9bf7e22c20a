"""README.md and docs/: what they tell to type and to write does what they say."""

import os
import shutil
from pathlib import Path

import pytest

from tests.documents.blocks import LANGUAGES, PAGES, blocks_of, commands_of
from tests.documents.pages import PAGES as NEEDS
from tests.documents.reader import Reader

WANTED = "ONEGLANCE_DOCUMENTS"  # ``fast``, or ``all`` for pages that take minutes, too


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)])
def test_page(page: str, tmp_path: Path) -> None:
    needs = NEEDS[page]
    if os.environ.get(WANTED) not in (("all",) if needs.slow else ("fast", "all")):
        pytest.skip(f"takes long: {WANTED}=all runs it")
    for tool in needs.tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    for bring in needs.brings:
        bring(tmp_path)
    reader = Reader(needs, tmp_path)
    try:
        for block in blocks_of(page):
            reader.read(block)
    finally:
        reader.stop()
    assert not reader.complaints, "\n\n".join(["", *reader.complaints])


@pytest.mark.parametrize("page", PAGES)
def test_what_is_told_of_a_page_is_on_it(page: str) -> None:
    blocks, needs = blocks_of(page), NEEDS.get(page)
    assert {block.language for block in blocks} <= LANGUAGES
    if needs is None:
        assert not blocks, f"{page} has blocks and no entry in tests/documents/pages.py"
        return
    shell = [c.text for block in blocks if block.language in ("bash", "console") for c in commands_of(block)]
    python = [block.text for block in blocks if block.language == "python"]
    firsts = [text.splitlines()[0] for text in python]
    told = {*needs.instead, *needs.statuses, *needs.not_run}
    assert told <= set(shell)
    assert set(needs.before) <= {*shell, *firsts}
    assert set(needs.optional) <= set(firsts)
    for text in needs.names:
        assert any(text in code for code in python), text
