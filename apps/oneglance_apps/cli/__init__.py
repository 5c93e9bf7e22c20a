"""The ``oneglance`` command: parse, call, print."""

from oneglance_apps.cli.main import main as main
