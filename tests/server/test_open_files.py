"""How many files a server may have open."""

from __future__ import annotations

import os
import resource

from oneglance_server.process import raise_open_files


def test_it_is_as_many_as_the_system_allows() -> None:
    if (child := os.fork()) == 0:  # a limit is the process's
        status = 1
        try:
            _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, min(most, 128)))
            raise_open_files()
            status = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] != min(most, 128))
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
