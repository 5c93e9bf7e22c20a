"""Tables on stdout, in Markdown, so that they can go into docs/benchmarks.md as they are."""

import argparse
import os
import platform
from collections.abc import Sequence
from pathlib import Path


def options(module: str | None) -> argparse.ArgumentParser:
    """The command line of a benchmark. ``module``: its docstring, which ``--help`` prints."""
    return argparse.ArgumentParser(description=module, formatter_class=argparse.RawDescriptionHelpFormatter)


def machine() -> str:
    """The processor and how many cores this process may use."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return f"{names[0] if names else platform.machine()}, {len(os.sched_getaffinity(0))} cores"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a Markdown table; floats with three digits."""

    def text(cell: object) -> str:
        return (
            f"{cell:.3g}"
            if isinstance(cell, float) and abs(cell) < 1000
            else f"{cell:,.0f}"
            if isinstance(cell, float)
            else str(cell)
        )

    print(f"\n### {title}\n\n{machine()}\n")
    print("| " + " | ".join(header) + " |")
    print("|" + "---|" * len(header))
    for row in rows:
        print("| " + " | ".join(text(cell) for cell in row) + " |", flush=True)
