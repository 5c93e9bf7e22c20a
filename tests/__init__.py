"""How the tests use the machine they are on. Set before anything else is imported, for child processes, too."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

# Some hundred child processes import our packages: compiled by the first of them, not by each.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Temporary folders are in memory, where there is room and programs may run (a test installs one). Stores flush to the
# disk some ten thousand times, which takes milliseconds each time. What is lost by a process that is killed does not
# depend on it. TMPDIR=/tmp has them on the disk.
_MEMORY, _ROOM_BYTES = Path("/dev/shm"), 4 << 30
if (
    "TMPDIR" not in os.environ
    and os.access(_MEMORY, os.W_OK)
    and shutil.disk_usage(_MEMORY).free > _ROOM_BYTES
    and not os.statvfs(_MEMORY).f_flag & os.ST_NOEXEC
):
    os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)

# Each of the processes of pytest-xdist has a processor: threads of more would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
