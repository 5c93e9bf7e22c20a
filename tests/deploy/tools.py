"""Tools that check what is deployed; a test that needs one which isn't there is skipped."""

import os
import shutil
import sys
from pathlib import Path

import pytest


def found(name: str) -> str | None:
    """A program: as the variable of its name in capitals says, beside this Python, or on the path."""
    return os.environ.get(name.upper()) or shutil.which(name, path=Path(sys.executable).parent) or shutil.which(name)


def needs(name: str, package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(found(name) is None, reason=f"no {name} ({package})")
