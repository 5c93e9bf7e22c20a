"""Work that must not slow others down: on Linux a thread has a niceness of its own."""

import os
import threading

NICENESS = 10  # the processor's time against a thread of 0, when both want it: about 1 to 9


def yield_to_others() -> None:
    """Lower the priority of the calling thread, and of those it starts; never raise it. No error where that isn't
    permitted."""
    try:
        thread = threading.get_native_id()
        if os.getpriority(os.PRIO_PROCESS, thread) < NICENESS:
            os.setpriority(os.PRIO_PROCESS, thread, NICENESS)
    except OSError:  # a sandbox may forbid it: then stylization competes as an equal
        pass
