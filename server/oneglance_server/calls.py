"""Who calls, and how long that call may take: what every method of the service layer is given."""

import functools
from dataclasses import dataclass, field, replace

from oneglance_core.names import composed
from oneglance_server.access.access import Access
from oneglance_server.access.identity import NOBODY, Identity
from oneglance_server.access.policy import QuotaKind
from oneglance_server.access.rights import Right


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``connection``: where the request came from; callers of different connections take turns.

    ``access``: None: the server knows no callers, and everybody may do everything.
    """

    connection: str
    identity: Identity = field(default=NOBODY, compare=False)
    access: Access | None = field(default=None, compare=False)


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

    def need(self, right: Right, gallery_id: str | None = None) -> None:
        """Raises PermissionDenied and Unauthenticated unless the caller has the right: in the gallery; without one, of
        the server, or in all galleries."""
        if self.caller.access is not None:
            self.caller.access.check(self.caller.identity, right, _spelled(gallery_id))

    def spend(self, kind: QuotaKind, amount: int) -> None:
        """Raises QuotaExceeded when the policy gives the caller less."""
        if self.caller.access is not None:
            self.caller.access.spend(self.caller.identity, kind, amount)

    def may(self, right: Right, gallery_id: str | None = None) -> bool:
        access = self.caller.access
        return access is None or access.may(self.caller.identity, right, _spelled(gallery_id))

    def need_sight(self, gallery_id: str) -> None:
        """Raises as ``need`` unless the caller has any right in the gallery."""
        if self.caller.access is not None:
            self.caller.access.check_sight(self.caller.identity, composed(gallery_id))

    def sees(self, gallery_id: str) -> bool:
        access = self.caller.access
        return access is None or access.sees(self.caller.identity, composed(gallery_id))

    def need_any(self) -> None:
        """Raises as ``need`` unless something is granted to the caller."""
        if self.caller.access is not None:
            self.caller.access.check_any(self.caller.identity)


def _spelled(gallery_id: str | None) -> str | None:
    """As rights are granted: two galleries of one name have them in common."""
    return None if gallery_id is None else composed(gallery_id)


@functools.lru_cache(maxsize=4096)
def caller_at(connection: str) -> Caller:
    """Of a server that knows no callers."""
    return Caller(connection)
