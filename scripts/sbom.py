"""List what is installed in an environment: scripts/sbom.py --python VENV/bin/python --out DIR

Writes sbom.json (CycloneDX) and licenses.txt. Needs cyclonedx-bom and pip-licenses where it runs, nothing in VENV. The
same installation gives the same bytes.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, metavar="FILE", help="of the environment [this one's]")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    options = parser.parse_args()
    write_lists(options.python, options.out)


def write_lists(python: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    module = [sys.executable, "-m"]
    sbom = [*module, "cyclonedx_py", "environment", "--output-reproducible", "--output-file", out / "sbom.json", python]
    licenses = [
        *(*module, "piplicenses", f"--python={python}", "--with-system", "--with-license-file", "--no-license-path"),
        *("--format=plain-vertical", f"--output-file={out / 'licenses.txt'}"),
    ]
    # No list of packages shall depend on who builds.
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    for command in (sbom, licenses):
        subprocess.run(list(map(str, command)), check=True, env=environment, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
