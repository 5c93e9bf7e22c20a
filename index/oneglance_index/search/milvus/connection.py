"""Connection: to a Milvus; what is asked of it is asked again for a while, and with another token, before it fails."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

from oneglance_index.errors import DeviceUnavailable, EngineUnavailable
from oneglance_index.search.milvus.access import Access, reason_of, refuses_token
from oneglance_index.search.milvus.address import Address

T = TypeVar("T")
log = logging.getLogger(__name__)

# How long a call is tried again while Milvus doesn't answer: a query node that died is replaced in 3 to 8 s.
PATIENCE_SECONDS = 12.0
_WHILE_DOWN_SECONDS = 1.0
# Of the code here, and no want of an answer.
_OUR_FAULTS = (ArithmeticError, AssertionError, AttributeError, LookupError, NameError, TypeError)
_PAUSE_SECONDS = 0.1
_CONNECT_PAUSE_SECONDS = 1.0  # gRPC writes lines of its own to stderr at each try
_CONNECT_SECONDS = 5.0


class Connection:
    """Safe for any thread. Raises DeviceUnavailable where nobody answers from the start."""

    def __init__(self, address: Address, access: Access) -> None:
        self.name = address.name
        self._address, self._access = address, access
        self._shown = access.arguments(address)
        try:
            from pymilvus import MilvusClient
        except ImportError as error:
            raise DeviceUnavailable(address.name, "pymilvus isn't installed: the extra `milvus` has it") from error
        self._make_client = MilvusClient
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs each failed try, with a trace
        self._down: str | None = None
        self._lock = threading.Lock()
        self.client, self._former = None, None  # type: Any, Any
        try:
            self.client = self._patiently(lambda: self._connected(self._shown), _CONNECT_PAUSE_SECONDS)
        except EngineUnavailable as error:
            raise DeviceUnavailable(address.name, error.reason) from error

    def _connected(self, shown: dict[str, Any]) -> Any:
        # Dedicated, else it is whoever's showed the same token, whatever its certificates.
        at = self._address
        return self._make_client(uri=at.uri, db_name=at.database, timeout=_CONNECT_SECONDS, dedicated=True, **shown)

    def _show_again(self) -> None:
        """Connects anew, if the token has changed since it was read."""
        with self._lock:
            shown = self._access.arguments(self._address)
            if shown == self._shown or self.client is None:
                return
            fresh = self._connected(shown)
            if self._former is not None:
                self._former.close()
            # Others may be in the midst of a call with the one before.
            self.client, self._former, self._shown = fresh, self.client, shown
        log.warning("%s refused the token: the token was read again", self.name)

    def close(self) -> None:
        for client in filter(None, (self.client, self._former)):
            client.close()

    def trouble(self) -> str | None:
        return self._down and f"{self.name} doesn't answer: {self._down}"

    def call(self, act: Callable[[Any], T]) -> T:
        """What `act` returns, which is given Milvus's client. It is tried again for a while where it raises, but not
        for long while Milvus is known not to answer. Raises EngineUnavailable."""
        return self._patiently(lambda: act(self.client), _PAUSE_SECONDS)

    def _patiently(self, act: Callable[[], T], pause: float) -> T:
        until = time.monotonic() + (PATIENCE_SECONDS if self._down is None else _WHILE_DOWN_SECONDS)
        while True:
            try:
                result = act()
            except _OUR_FAULTS:
                raise
            except Exception as error:  # of the client's many types; gRPC's errors come through, too
                reason = reason_of(error)
                if refuses_token(error):
                    with contextlib.suppress(Exception):
                        self._show_again()
                if time.monotonic() >= until:
                    if self._down is None:
                        log.warning("%s doesn't answer: %s", self.name, reason)
                    self._down = reason
                    raise EngineUnavailable(self.name, reason) from error
                time.sleep(pause)
            else:
                if self._down is not None:
                    log.info("%s answers again", self.name)
                self._down = None
                return result
