"""The ``oneglance`` command: parse, call, print."""

from oneglance_server.cli.main import main as main
