"""The ``oneglance-exporter`` command: parse, call, print."""

from oneglance_exporter.cli.main import main as main
