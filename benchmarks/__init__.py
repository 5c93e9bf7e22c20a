"""Measurements, each against a rival or a limit in one run. ``make bench``, or ``python -m benchmarks NAME...``."""
