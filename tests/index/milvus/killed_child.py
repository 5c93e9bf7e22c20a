"""Enrolls and deletes in a gallery on Milvus until it is killed: prints a line before each try and after each
acknowledgement. Run by test_milvus_kills.py.

    python -m tests.index.milvus.killed_child DATA_DIR ADDRESS PREFIX
"""

import os
import sys
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oneglance_index import LocalGalleries

DIMENSION = 8


def vector_of(subject: str) -> NDArray[np.float32]:
    return np.random.default_rng(zlib.crc32(subject.encode())).standard_normal((1, DIMENSION), dtype=np.float32)


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    data_dir, address, prefix = sys.argv[1:]
    galleries = LocalGalleries.open(Path(data_dir), device=address)
    for i in range(1_000_000):
        name = f"{prefix}-{i}"
        say(f"try enroll {name}")
        galleries.enroll("g", name, vector_of(name)).result()
        say(f"ok enroll {name}")
        if i % 3 == 2:
            gone = f"{prefix}-{i - 1}"
            say(f"try delete {gone}")
            galleries.delete_subject("g", gone).result()
            say(f"ok delete {gone}")


if __name__ == "__main__":
    main()
