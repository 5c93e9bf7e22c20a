"""Run the benchmarks: python -m benchmarks [encode] [identify] ... ; all of them without a name."""

import importlib
import sys

from benchmarks.report import options

NAMES = ("encode", "identify")

if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*")
    names, sys.argv[1:] = parser.parse_args().names or NAMES, []
    for name in names:
        importlib.import_module(f"benchmarks.{name}").main()
