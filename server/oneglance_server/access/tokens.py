"""JSON Web Tokens (RFC 7519), signed by somebody whose public keys are in a JWKS file (RFC 7517)."""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
from jwt.types import Options

from oneglance_server.access.files import Watched
from oneglance_server.access.identity import is_name
from oneglance_server.access.policy import JwtPolicy
from oneglance_server.errors import StartupError, Unauthenticated

Claims = dict[str, Any]
MAX_TOKEN_CHARACTERS = 16_384
MAX_JWKS_BYTES = 1 << 20
_REMEMBERED = 4096  # tokens that were checked, so that their signatures aren't again
_USED = 1_000_000  # ids of tokens that are good once
_OPTIONS: Options = {
    "require": ["exp", "iat", "iss", "aud"],
    "verify_exp": False,  # all times at every use, not only at the first
    "verify_iat": False,
    "verify_nbf": False,
}
_LATEST = 253_402_300_800  # the year 10000, seconds since 1970
_KID = ""  # among the claims: the id of the key that it was signed with


class Tokens:
    """Checks tokens by ``policy``; ``folder``: where its jwks_file is. Safe from any thread. Raises StartupError."""

    def __init__(self, policy: JwtPolicy, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._policy = policy
        self._now = now
        self._lock = threading.Lock()
        self._checked: OrderedDict[bytes, Claims] = OrderedDict()
        self._used: OrderedDict[str, float] = OrderedDict()
        path = folder / policy.jwks_file
        try:
            self._keys = Watched(path, _read)
        except OSError as error:
            raise StartupError(f"can't read {path}: {error}") from error

    def look(self) -> bool:
        """Whether there are other keys. Raises StartupError, OSError."""
        changed = self._keys.look()
        if changed:
            with self._lock:
                self._checked.clear()
        return changed

    def read(self, token: str) -> tuple[str, tuple[str, ...], Claims]:
        """The name of whom it speaks for, the groups, and what ``hold`` needs to know.

        Raises Unauthenticated with the reason why it isn't good.
        """
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise Unauthenticated("the token is too long")
        digest = hashlib.sha256(token.encode()).digest()
        with self._lock:
            claims = self._checked.get(digest)
        if claims is None:
            claims = self._claims(token)
            with self._lock:
                self._checked[digest] = claims
                while len(self._checked) > _REMEMBERED:
                    self._checked.popitem(last=False)
        why = self._stale(claims)
        if why:
            raise Unauthenticated(why)
        if self._policy.once:
            self._use(claims)
        name, groups = claims.get(self._policy.name_claim), claims.get(self._policy.groups_claim, [])
        if not is_name(name):
            raise Unauthenticated(f"the token has no name in {self._policy.name_claim!r}")
        groups = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        return f"jwt:{name}", tuple(f"group:{group}" for group in groups if is_name(group)), claims

    def hold(self, claims: Claims) -> bool:
        """Whether a token that was good is good still, by this policy."""
        policy = self._policy
        audience = claims["aud"]
        return (
            not self._stale(claims)
            and (claims[_KID] in self._keys.value or (claims[_KID] is None and len(self._keys.value) == 1))
            and claims["iss"] == policy.issuer
            and policy.audience in ([audience] if isinstance(audience, str) else audience)
        )

    def _claims(self, token: str) -> Claims:
        try:
            header = jwt.get_unverified_header(token)
            key = self._key(header.get("kid"))
            claims: Claims = jwt.decode(
                token,
                key,
                algorithms=list(self._policy.algorithms),
                audience=self._policy.audience,
                issuer=self._policy.issuer,
                leeway=self._policy.leeway_seconds,
                options=_OPTIONS,
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token is not good: {error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise Unauthenticated("the token is not good") from error
        return {**claims, _KID: header.get("kid")}

    def _key(self, kid: object) -> jwt.PyJWK:
        keys = self._keys.value
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        if not isinstance(kid, str) or kid not in keys:
            raise Unauthenticated("the token is signed by a key that is not in the JWKS file")
        return keys[kid]

    def _stale(self, claims: Claims) -> str:
        """Why it isn't good at this time; "": it is."""
        policy, now = self._policy, self._now()
        ends, issued, begins = (_seconds(claims.get(name, 0)) for name in ("exp", "iat", "nbf"))
        if ends is None or issued is None or begins is None:
            return "the token's times are no numbers"
        if not now < ends + policy.leeway_seconds:
            return "the token has expired"
        if not now >= max(issued, begins) - policy.leeway_seconds:
            return "the token is not good yet"
        if not now <= issued + policy.max_age_seconds + policy.leeway_seconds:
            return "the token is too old"
        if claims.get("jti") in policy.revoked:
            return "the token was revoked"
        return ""

    def _use(self, claims: Claims) -> None:
        """Raises Unauthenticated at the second time."""
        number = claims.get("jti")
        if not isinstance(number, str) or not number:
            raise Unauthenticated("the token has no jti, and each is good once")
        now = self._now()
        with self._lock:
            while self._used and next(iter(self._used.values())) < now:
                self._used.popitem(last=False)
            if number in self._used:
                raise Unauthenticated("the token was used already")
            if len(self._used) >= _USED:
                raise Unauthenticated("too many tokens that are good once: try again later")
            self._used[number] = claims["exp"] + self._policy.leeway_seconds


def _seconds(value: object) -> float | None:
    """A NumericDate (RFC 7519, section 2); None: it is none."""
    usual = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LATEST
    return float(value) if usual else None  # type: ignore[arg-type]


def _read(path: Path, data: bytes) -> dict[str, jwt.PyJWK]:
    """By their key ids; one without is called "" and must be the only one."""
    if len(data) > MAX_JWKS_BYTES:
        raise StartupError(f"{path}: more than {MAX_JWKS_BYTES} bytes")
    try:
        content = json.loads(data)
        keys = jwt.PyJWKSet.from_dict(content).keys
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StartupError(f"{path}: is no JWKS file ({error})") from error
    if any(key.key_type == "oct" for key in keys):
        raise StartupError(f"{path}: holds a secret key; tokens are checked by public keys")
    found = {key.key_id or "": key for key in keys}
    if len(found) != len(keys) or (len(keys) > 1 and "" in found):
        raise StartupError(f"{path}: of several keys each must have a kid of its own")
    return found
