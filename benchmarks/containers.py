"""Which files are read as they are, and of which is it told that they are not whole?

    python -m benchmarks.containers

A row for each container and codec, a column for each thing that may be the matter with a file; every file is made, and
read as ``watch`` and ``stylize`` do. "right": every frame at its time and nothing to complain of; of a file that is cut
or overwritten with garbage: it is told, and the frames that are left are in order. "-": there is no such file, or it
can't be made here. Takes about a minute.
"""

import tempfile
from pathlib import Path

from benchmarks.report import options, table
from tests.apps.watch.containers import CHECKS, KINDS, row


def main() -> None:
    options(__doc__).parse_args()
    rows = []
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            found = row(kind, Path(folder))
        rows.append([kind.name, *("-" if wrong is None else wrong or "right" for wrong in found.values())])
    table("Containers and codecs", ["container", *CHECKS], rows)


if __name__ == "__main__":
    main()
