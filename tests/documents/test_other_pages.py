"""What README and the other pages of docs/ tell to type and to write does what they say."""

from pathlib import Path

import pytest

from tests.documents.reading import other_pages, read_page

pytestmark = pytest.mark.timeout(7200)  # a page takes minutes where others use the machine, too


@pytest.mark.parametrize("page", other_pages())
def test_page(page: str, tmp_path: Path) -> None:
    read_page(page, tmp_path)
