"""What the pages of docs/ on running a server tell to type and to write does what they say."""

from pathlib import Path

import pytest

from tests.documents.reading import SERVING, pages_of, read_page

pytestmark = pytest.mark.timeout(7200)  # a page takes minutes where others use the machine, too


@pytest.mark.parametrize("page", pages_of(*SERVING))
def test_page(page: str, tmp_path: Path) -> None:
    read_page(page, tmp_path)
