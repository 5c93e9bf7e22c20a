"""The one that is asked: who calls, and may they?"""

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import structlog

from oneglance_server.access.api_keys import PREFIX, ApiKeys
from oneglance_server.access.client_certificates import certified
from oneglance_server.access.identity import NOBODY, Identity
from oneglance_server.access.policy import Grant, QuotaKind, read_policy
from oneglance_server.access.quotas import Quotas
from oneglance_server.access.rights import Right
from oneglance_server.access.tokens import Tokens
from oneglance_server.errors import PermissionDenied, ServiceError, StartupError, Unauthenticated
from oneglance_server.watched import Watched

log = structlog.get_logger()
_BEARER = "bearer "
HEADER = "authorization"
_MOST_TOLD = 100  # keys in an entry of the audit trail


class Access:
    """Identities by API key, token or client certificate, and their rights by the policy file. Raises StartupError.

    ``on_denied(identity, right, gallery_id)`` hears of each right that was lacking.

    ``look`` reads files that changed; call it every now and then. What can't be read leaves all as it was, and is
    logged once.
    """

    def __init__(self, policy: Path, keys: ApiKeys, now: Callable[[], float] = time.time) -> None:
        self.keys = keys
        self.on_denied: Callable[[Identity, str, str | None], None] = lambda identity, right, gallery_id: None
        self.quotas = Quotas()
        self._now = now
        try:
            self._policy = Watched(policy, read_policy)
        except OSError as error:
            raise StartupError(f"can't read {policy}: {error}") from error
        self._tokens, self._rules = self._new_tokens(), self._policy.value.jwt
        self._former: Tokens | None = None
        self._told: dict[str, str] = {}
        self._listed: tuple[str, list[str]] = "", []

    @property
    def files(self) -> dict[str, object]:
        """What decides now who may do what: SHA-256 of policy and JWKS, hexadecimal, and the newest keys, the newest
        first, as "name id"."""
        if self.keys.sha256 != self._listed[0]:
            self._listed = self.keys.sha256, [f"{key.name} {key.id}" for key in reversed(self.keys.all())]
        told = {"policy": self._policy.sha256, "keys": self._listed[1][:_MOST_TOLD], "key_count": len(self._listed[1])}
        return told if self._tokens is None else {**told, "jwks": self._tokens.sha256}

    def look(self) -> None:
        """See what changed."""
        for look, what in (
            (self.keys.look, "API keys"),
            (self._policy.look, "policy"),
            (self._look_at_tokens, "JWKS"),
        ):
            self._looked(look, what)

    def identity(
        self, metadata: Iterable[tuple[str, str | bytes]], certificate: Mapping[str, Iterable[bytes]]
    ) -> Identity:
        """Who sends this metadata; ``certificate``: what TLS knows of the peer. A header beats a certificate.

        Raises Unauthenticated for credentials that aren't good, and where more than one header is sent.
        """
        given = [value for key, value in metadata if key == HEADER]
        if len(given) > 1:
            raise Unauthenticated("more than one authorization header")
        if given:
            text = given[0] if isinstance(given[0], str) else given[0].decode("ascii", "replace")
            return self._by_header(text)
        for pem in certificate.get("x509_pem_cert", ()):
            return certified(pem)
        return NOBODY

    def check(self, identity: Identity, right: Right, gallery_id: str | None = None) -> None:
        """Raises PermissionDenied, or Unauthenticated where nobody in particular calls."""
        if self._policy.value.of(identity).may(right, gallery_id):
            return
        raise self._denied(identity, right, gallery_id, "" if gallery_id is None else f" in gallery {gallery_id!r}")

    def spend(self, identity: Identity, kind: QuotaKind, amount: int) -> None:
        """Raises QuotaExceeded."""
        self.quotas.spend(self._policy.value.of(identity).rates[kind], identity.name, kind, amount)

    def may(self, identity: Identity, right: Right, gallery_id: str | None = None) -> bool:
        return self._policy.value.of(identity).may(right, gallery_id)

    def check_sight(self, identity: Identity, gallery_id: str) -> None:
        """Raises as ``check`` unless the identity has any right in the gallery, whether or not there is one."""
        if not self.sees(identity, gallery_id):
            raise self._denied(identity, "see", gallery_id, f" gallery {gallery_id!r}")

    def sees(self, identity: Identity, gallery_id: str) -> bool:
        return self._policy.value.of(identity).sees(gallery_id)

    def check_any(self, identity: Identity) -> None:
        """Raises as ``check`` unless anything is granted to the identity."""
        if not self._policy.value.of(identity).grants:
            raise self._denied(identity, "call", None, " this server")

    def rights(self, identity: Identity) -> list[Grant]:
        """What is granted to the identity."""
        return list(self._policy.value.of(identity).grants)

    def _denied(self, identity: Identity, right: str, gallery_id: str | None, where: str) -> ServiceError:
        self.on_denied(identity, right, gallery_id)
        if identity is NOBODY:
            return Unauthenticated("this needs a credential: an API key, a token or a client certificate")
        return PermissionDenied(
            f"{identity.name} may not {right}{where}", metadata={"right": right, "identity": identity.name}
        )

    def _by_header(self, text: str) -> Identity:
        if not text.lower().startswith(_BEARER):
            raise Unauthenticated("the authorization header must read: Bearer, a space, and an API key or a token")
        credential = text[len(_BEARER) :].strip()
        if credential.startswith(PREFIX):
            key = self.keys.find(credential)
            if key is None:
                raise Unauthenticated("the API key is not good: unknown, revoked or over")
            return Identity(f"key:{key.name}", holds=lambda: self.keys.holds(key))
        if self._tokens is None:
            raise Unauthenticated("this server takes no tokens: its policy has no [jwt]")
        name, groups, claims = self._tokens.read(credential)
        return Identity(name, groups, lambda: self._tokens is not None and self._tokens.hold(claims))

    def _look_at_tokens(self) -> bool:
        """Raises StartupError, OSError when the new policy's keys can't be read: then tokens are checked with those
        before."""
        rules = self._policy.value.jwt
        if rules != self._rules:
            known = self._tokens or self._former  # which remembers what was used
            if rules is None:
                self._former, self._tokens = known, None
            elif known is not None:
                self._tokens = known
                known.follow(rules)
            else:
                self._tokens = self._new_tokens()
            self._rules = rules
            return True
        return self._tokens is not None and self._tokens.look()

    def _new_tokens(self) -> Tokens | None:
        rules = self._policy.value.jwt
        return None if rules is None else Tokens(rules, self._policy.path.parent, self._now)

    def _looked(self, look: Callable[[], bool], what: str) -> None:
        try:
            changed = look()
        except Exception as error:  # whatever it is, the others are looked at
            if self._told.get(what) != str(error):
                self._told[what] = str(error)
                log.error("can't be read again: what was read before holds", what=what, error=str(error))
            return
        if self._told.pop(what, None) is not None or changed:
            log.info("read again", what=what)
