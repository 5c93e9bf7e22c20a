"""Who calls, and how long that call may take: what every method of the service layer is given."""

import functools
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``connection``: where the request came from; callers of different connections take turns.

    ``name``: the authenticated principal, or "anonymous": the server knows no names yet.
    """

    connection: str
    name: str = "anonymous"


@dataclass(frozen=True, slots=True)
class Call:
    """One call, or one item of a stream.

    deadline: event loop time after which nobody waits for the answer; None: never.
    patient: wait for room in a full queue instead of being refused; so streams do.
    admitted: was let in by an earlier queue: work was done for it, which no later one shall throw away.
    """

    caller: Caller
    deadline: float | None = None
    patient: bool = False
    admitted: bool = False

    @property
    def let_in(self) -> "Call":
        """The same call, admitted."""
        return self if self.admitted else replace(self, admitted=True)


@functools.lru_cache(maxsize=4096)
def caller_at(connection: str) -> Caller:
    return Caller(connection)
