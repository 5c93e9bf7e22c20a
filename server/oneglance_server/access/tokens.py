"""JSON Web Tokens (RFC 7519), signed by somebody whose public keys are in a JWKS file (RFC 7517)."""

import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.types import Options

from oneglance_server.access.identity import is_name
from oneglance_server.access.policy import JwtPolicy
from oneglance_server.errors import StartupError, Unauthenticated
from oneglance_server.watched import Watched

Claims = dict[str, Any]
MAX_TOKEN_CHARACTERS = 16_384
_REMEMBERED = 4096  # tokens that were checked, so that their signatures aren't again
_USED = 1_000_000  # ids of tokens that are good once
_OPTIONS: Options = {
    "require": ["exp", "iat", "iss", "aud"],
    "verify_exp": False,  # all times at every use, not only at the first
    "verify_iat": False,
    "verify_nbf": False,
}
_LATEST = 253_402_300_800  # the year 10000, seconds since 1970
_SIGNER = ""  # among the claims: the fingerprint of the key that it was signed with
_LEAST_RSA_BITS = 2048
_MOST_GROUPS = 64


@dataclass(frozen=True, slots=True)
class Signer:
    """A public key of the JWKS file. alg: the only algorithm that it is for; None: any that fits."""

    key: Any
    alg: str | None
    fingerprint: str


class Tokens:
    """Checks tokens by ``policy``; ``folder``: where its jwks_file is. Safe from any thread. Raises StartupError."""

    def __init__(self, policy: JwtPolicy, folder: Path, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._begun = now()
        self._lock = threading.Lock()
        self._checked: OrderedDict[bytes, Claims] = OrderedDict()
        self._used: dict[str, float] = {}
        self._folder = folder
        self._policy = policy
        self._keys = self._watched(policy)

    def follow(self, policy: JwtPolicy) -> None:
        """Check by this policy from now on; what was used stays used.

        Raises StartupError when its keys can't be read: then all but they hold already.
        """
        self._policy = policy
        with self._lock:
            self._checked.clear()
        if self._folder / policy.jwks_file != self._keys.path:
            self._keys = self._watched(policy)

    @property
    def sha256(self) -> str:
        """Of the JWKS file, hexadecimal."""
        return self._keys.sha256

    def look(self) -> bool:
        """Whether there are other keys. Raises StartupError, OSError."""
        return self._keys.look()

    def _watched(self, policy: JwtPolicy) -> "Watched[dict[str, Signer]]":
        path = self._folder / policy.jwks_file
        try:
            return Watched(path, _read)
        except OSError as error:
            raise StartupError(f"can't read {path}: {error}") from error

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
        if why := self._why_not(claims):
            raise Unauthenticated(why)
        if self._policy.once:
            self._use(claims)
        name, groups = claims.get(self._policy.name_claim), claims.get(self._policy.groups_claim, [])
        if not is_name(name):
            raise Unauthenticated(f"the token has no name in {self._policy.name_claim!r}")
        groups = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        return f"jwt:{name}", tuple(f"group:{group}" for group in groups[:_MOST_GROUPS] if is_name(group)), claims

    def hold(self, claims: Claims) -> bool:
        """Whether a token that was good is good still, by this policy."""
        return not self._why_not(claims)

    def _claims(self, token: str) -> Claims:
        try:
            header = jwt.get_unverified_header(token)
            signer = self._signer(header.get("kid"))
            claims: Claims = jwt.decode(
                token,
                signer.key,
                algorithms=[one for one in self._policy.algorithms if signer.alg in (None, one)],
                audience=self._policy.audience,
                issuer=self._policy.issuer,
                leeway=self._policy.leeway_seconds,
                options=_OPTIONS,
            )
        except jwt.PyJWTError as error:
            raise Unauthenticated(f"the token is not good: {error}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise Unauthenticated("the token is not good") from error
        return {**claims, _SIGNER: signer.fingerprint}

    def _signer(self, kid: object) -> Signer:
        keys = self._keys.value
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        if not isinstance(kid, str) or kid not in keys:
            raise Unauthenticated("the token is signed by a key that is not in the JWKS file")
        return keys[kid]

    def _why_not(self, claims: Claims) -> str:
        """Why a token whose signature was right isn't good now, by this policy; "": it is."""
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
        if policy.once and issued < self._begun:
            return "the token is older than this server, which may have taken it before"
        if claims.get("jti") in policy.revoked:
            return "the token was revoked"
        if all(signer.fingerprint != claims[_SIGNER] for signer in self._keys.value.values()):
            return "the token's signer is none any more"
        audience = claims["aud"]
        if claims["iss"] != policy.issuer or policy.audience not in (
            [audience] if isinstance(audience, str) else audience
        ):
            return "the token is another issuer's, or for others"
        return ""

    def _use(self, claims: Claims) -> None:
        """Raises Unauthenticated at the second time."""
        number = claims.get("jti")
        if not isinstance(number, str) or not number:
            raise Unauthenticated("the token has no jti, and each is good once")
        now = self._now()
        with self._lock:
            if number in self._used and self._used[number] >= now:
                raise Unauthenticated("the token was used already")
            if len(self._used) >= _USED:
                self._used = {one: ends for one, ends in self._used.items() if ends >= now}
            if len(self._used) >= _USED:
                raise Unauthenticated("too many tokens that are good once: try again later")
            latest = min(claims["exp"], claims["iat"] + self._policy.max_age_seconds)
            self._used[number] = latest + self._policy.leeway_seconds


def _seconds(value: object) -> float | None:
    """A NumericDate (RFC 7519, section 2); None: it is none."""
    usual = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _LATEST
    return float(value) if usual else None  # type: ignore[arg-type]


def _read(path: Path, data: bytes) -> dict[str, Signer]:
    """By their key ids; one without is called "" and must be the only one."""
    try:
        given = json.loads(data)["keys"]
        keys = [jwt.PyJWK.from_dict(one) for one in given]
        ids = [one.get("kid", "") for one in given]
        uses = [one.get("use", "sig") for one in given]
        algorithms = [one.get("alg") for one in given]
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise StartupError(f"{path}: is no JWKS file ({error})") from error
    if not keys or not all(isinstance(one, str) for one in ids):
        raise StartupError(f"{path}: has no keys, or one whose kid is no text")
    if len(set(ids)) != len(ids) or (len(ids) > 1 and "" in ids):
        raise StartupError(f"{path}: of several keys each must have a kid of its own")
    found = {}
    for key, kid, use, alg in zip(keys, ids, uses, algorithms, strict=True):
        if not hasattr(key.key, "public_bytes"):
            raise StartupError(f"{path}: holds a secret or private key; tokens are checked by public keys")
        if use != "sig":
            continue
        if getattr(key.key, "key_size", _LEAST_RSA_BITS) < _LEAST_RSA_BITS and key.key_type == "RSA":
            raise StartupError(f"{path}: an RSA key of less than {_LEAST_RSA_BITS} bits")
        content = key.key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        found[kid] = Signer(key.key, alg, hashlib.sha256(content).hexdigest())
    if not found:
        raise StartupError(f"{path}: has no key to check signatures with")
    return found
