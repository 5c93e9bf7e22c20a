"""Keys of callers, and who a caller is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import structlog

from oneglance_server.access.access import Access
from oneglance_server.access.api_keys import ApiKey
from oneglance_server.access.identity import MAX_NAME_CHARACTERS
from oneglance_server.access.policy import Grant
from oneglance_server.calls import Call
from oneglance_server.errors import AccessOff, ApiKeysBusy
from oneglance_server.offload import Threads
from oneglance_server.service.auditing import Audit

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class KnownCaller:
    """A caller's names, and what is granted to it."""

    name: str
    groups: Sequence[str]
    grants: Sequence[Grant]


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except ApiKeysBusy as error:
        log.error("the API keys can't be changed", error=str(error.cause))
        raise


class AccessService:
    """``access`` None: the server knows no callers."""

    def __init__(self, access: Access | None, reads: Threads, audit: Audit) -> None:
        self._access = access
        self._reads = reads
        self._audit = audit

    async def create_key(self, call: Call, name: str, expires: float | None) -> tuple[ApiKey, str]:
        """The key, on disk, and its secret. ``expires``: seconds since 1970; None: never."""
        access = self._managed(call)
        await self._audit.did(call, "create-api-key", name=name[:MAX_NAME_CHARACTERS], expires=expires)
        with _told():
            return await self._reads.run(call, access.keys.create, name, expires)

    def keys(self, call: Call) -> list[ApiKey]:
        """The oldest first."""
        return self._managed(call).keys.all()

    async def revoke_key(self, call: Call, number: str) -> None:
        """Raises ApiKeyNotFound."""
        access = self._managed(call)
        await self._audit.did(call, "revoke-api-key", key=number[:MAX_NAME_CHARACTERS])
        with _told():
            await self._reads.run(call, access.keys.revoke, number)

    def caller(self, call: Call) -> KnownCaller:
        """Who makes this call."""
        identity = call.caller.identity
        return KnownCaller(identity.name, identity.groups, self._known().rights(identity))

    def _managed(self, call: Call) -> Access:
        access = self._known()
        call.need("administer")
        return access

    def _known(self) -> Access:
        if self._access is None:
            raise AccessOff("this server has no policy: it knows no callers, and everybody may do everything")
        return self._access
