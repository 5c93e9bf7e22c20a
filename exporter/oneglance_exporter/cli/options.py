"""Values of command-line options that are checked while they are parsed."""

import argparse
import re

from oneglance_core.manifests import NAME_PATTERN


def model_name(text: str) -> str:
    """A model's name, checked here so that a bad one is a usage error."""
    if not re.fullmatch(NAME_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} has other characters than a-z 0-9 . _ -, or is too long")
    return text
