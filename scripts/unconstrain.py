"""Make generated gRPC stubs quick to check: ``python scripts/unconstrain.py FOLDER``, after mypy-protobuf.

It gives each method of a service a type variable of two types, sync and async; a checker goes through all combinations
of them, 2 to the power of the methods (four minutes for 17). A bound says the same of each, without combinations.
"""

import re
import sys
from pathlib import Path

TWO_TYPES = re.compile(
    r"TypeVar\(\n    ('\w+'),\n    (grpc\.(?!aio).*?\n    \]),\n    (grpc\.aio\..*?\n    \]),\n    default=", re.DOTALL
)


def main() -> None:
    for file in Path(sys.argv[1]).rglob("*_pb2_grpc.pyi"):
        text = file.read_text()
        file.write_text(TWO_TYPES.sub(r"TypeVar(\n    \1,\n    bound=\2\n    | \3,\n    default=", text))


if __name__ == "__main__":
    main()
