"""Which pages are read where, and how: ``test_..._pages.py`` are three, so that they run beside each other."""

import os
import shutil
from pathlib import Path

import pytest

from tests.documents.blocks import PAGES, blocks_of
from tests.documents.pages import PAGES as NEEDS
from tests.documents.reader import Reader

SLOW_PAGES_TOO = "ONEGLANCE_DOCUMENTS"  # "all": pages that take minutes, too
TRAINING = ("evaluate", "look", "model-folder", "shipping", "signals", "stylize", "training")
SERVING = ("gpu", "keeping", "milvus", "moving", "operations", "running", "security")


def pages_of(*names: str) -> list[str]:
    """Those of docs/ that have blocks."""
    return [page for page in PAGES if Path(page).stem in names and blocks_of(page)]


def other_pages() -> list[str]:
    """README and docs/ without those of ``TRAINING`` and ``SERVING``."""
    return [page for page in PAGES if Path(page).stem not in TRAINING + SERVING and blocks_of(page)]


def read_page(page: str, folder: Path, programs: Path | None = None) -> None:
    """All blocks in order, in an empty folder. Raises AssertionError with whatever isn't as the page says.

    programs: the bin/ of an environment that it is installed in; None: the programs and the code of who runs this.
    """
    needs = NEEDS[page]
    if needs.slow and os.environ.get(SLOW_PAGES_TOO) != "all":
        pytest.skip(f"takes minutes: {SLOW_PAGES_TOO}=all runs it")
    for tool in needs.tools:
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    for bring in needs.brings:
        bring(folder)
    reader = Reader(needs, folder, programs)
    try:
        for block in blocks_of(page):
            reader.read(block)
    finally:
        reader.stop()
    assert not reader.complaints, "\n\n".join(["", *reader.complaints])
