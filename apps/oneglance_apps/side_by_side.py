"""Work on many things, several at the same time."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Task], Result], tasks: Iterable[Task], at_once: int) -> Iterator[Result]:
    """The results of ``work``, in the order in which they come; ``at_once`` calls of it are under way at a time.

    What ``work`` raises is raised here, and no further task is begun. Whoever leaves early does not wait for those
    that are under way.
    """
    waiting = iter(tasks)
    running: set[Future[Result]] = set()
    pool = ThreadPoolExecutor(at_once, thread_name_prefix="oneglance-work")
    try:
        while True:
            running |= {pool.submit(work, task) for task in islice(waiting, at_once - len(running))}
            if not running:
                return
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
