"""Run the benchmarks: python -m benchmarks [encode] [identify] ... ; all of them without a name."""

import importlib
import sys

NAMES = ("encode", "identify")

if __name__ == "__main__":
    for name in sys.argv[1:] or NAMES:
        importlib.import_module(f"benchmarks.{name}").main()
