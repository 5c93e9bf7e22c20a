"""What tests/documents/pages.py tells of a page is on it, and tells of all that is."""

import pytest

from tests.documents.blocks import LANGUAGES, PAGES, blocks_of, commands_of
from tests.documents.pages import PAGES as NEEDS


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
