"""The policy file: who may do what, in TOML.

::

    [[grant]]                                   # as many as are needed; rights add up
    to = ["key:door", "cert:gate-*"]            # * and ? stand for any characters
    galleries = ["staff", "visitors-*"]
    rights = ["identify", "verify"]

    [[quota]]                                   # all that are to a caller hold
    to = ["key:door"]
    calls = "20/second"
    probes = "100/second; 1000000/day"

    [jwt]                                       # without it, tokens are refused
    issuer = "https://login.example.org"
    audience = "oneglance"
    jwks_file = "jwks.json"                     # beside the policy file, unless absolute

It is read again when it changes (watched.py). docs/security.md explains it.
"""

import fnmatch
import re
from collections import OrderedDict, defaultdict
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, get_args

from limits import RateLimitItem, parse_many
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PrivateAttr, ValidationError

from oneglance_core.names import composed
from oneglance_core.toml_files import TomlError, parse_toml
from oneglance_server.access.identity import ANONYMOUS, MAX_NAME_CHARACTERS, Identity
from oneglance_server.access.rights import ALL, GALLERY_RIGHTS, SERVER_RIGHTS
from oneglance_server.errors import StartupError

_KINDS = ("key:", "cert:", "jwt:", "group:")
_REMEMBERED = 4096  # identities
QuotaKind = Literal["calls", "probes", "pixels", "encodings", "galleries"]


def _named(value: str) -> str:
    if value in (ALL, ANONYMOUS) or value.startswith(_KINDS):
        return value
    raise ValueError('must be "anonymous", "*", or begin with ' + ", ".join(f'"{kind}"' for kind in _KINDS))


def _right(value: str) -> str:
    if value == ALL or value in GALLERY_RIGHTS | SERVER_RIGHTS:
        return value
    raise ValueError("must be one of " + ", ".join(sorted(GALLERY_RIGHTS | SERVER_RIGHTS)) + ", or *")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _To(_Strict):
    """``to``: names of identities, with * and ?."""

    to: tuple[Annotated[str, AfterValidator(_named)], ...] = Field(min_length=1)

    def is_to(self, identity: Identity) -> bool:
        """``*`` alone is every identity with a credential."""
        return any(
            _fits(pattern, name) and (pattern != ALL or name != ANONYMOUS)
            for pattern in self.to
            for name in identity.names
        )


class Grant(_To):
    """``galleries``: names of galleries, with * and ?."""

    galleries: tuple[Annotated[str, AfterValidator(composed)], ...] = ()
    rights: tuple[Annotated[str, AfterValidator(_right)], ...] = Field(min_length=1)


def _rates(value: str) -> str:
    if value:
        parse_many(value)
    return value


Rates = Annotated[str, AfterValidator(_rates)]


class Quota(_To):
    """How much each identity that it is ``to`` may ask for: as ``10/second``, several with ``;`` between them.

    calls: calls and streams. probes: examples to identify, verify, compare, encode, or to find faces in. pixels: of
    pictures that are read. encodings: examples to enroll, and negatives. galleries: to create.
    """

    calls: Rates = ""
    probes: Rates = ""
    pixels: Rates = ""
    encodings: Rates = ""
    galleries: Rates = ""

    def rates(self, kind: QuotaKind) -> list[RateLimitItem]:
        text = getattr(self, kind)
        return parse_many(text) if text else []


class JwtPolicy(_Strict):
    """How tokens are checked.

    max_age_seconds: since they were issued. once: each is good for one call or stream. revoked: ids (jti) of tokens
    that are good no longer.
    """

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    jwks_file: str = Field(min_length=1)
    algorithms: tuple[Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"], ...] = (
        *("RS256", "PS256", "ES256", "EdDSA"),
    )
    name_claim: str = "sub"
    groups_claim: str = "groups"
    max_age_seconds: float = Field(3600.0, gt=0)
    leeway_seconds: float = Field(5.0, ge=0, le=300)
    once: bool = False
    revoked: tuple[str, ...] = ()


class Granted:
    """What is granted to somebody, as it is asked for. rates: of the quotas to it, each once, by kind."""

    def __init__(self, grants: tuple[Grant, ...], quotas: tuple[Quota, ...]) -> None:
        self.grants = grants
        self.rates: dict[QuotaKind, tuple[RateLimitItem, ...]] = {
            kind: tuple(dict.fromkeys(rate for quota in quotas for rate in quota.rates(kind)))
            for kind in get_args(QuotaKind)
        }
        self._anywhere: set[str] = set()  # rights of the server
        self._everywhere: set[str] = set()  # of galleries, in all
        self._in: defaultdict[str, set[str]] = defaultdict(set)
        self._fitting: defaultdict[str, set[str]] = defaultdict(set)
        self._known: dict[str, frozenset[str]] = {}  # rights in a gallery, by its name
        for grant in grants:
            rights = GALLERY_RIGHTS | SERVER_RIGHTS if ALL in grant.rights else frozenset(grant.rights)
            self._anywhere |= rights & SERVER_RIGHTS
            for pattern in grant.galleries:
                if pattern == ALL:
                    self._everywhere |= rights & GALLERY_RIGHTS
                elif _is_pattern(pattern):
                    self._fitting[pattern] |= rights & GALLERY_RIGHTS
                else:
                    self._in[pattern] |= rights & GALLERY_RIGHTS

    def may(self, right: str, gallery_id: str | None) -> bool:
        """``gallery_id`` None: a right of the server; or one of a gallery in all galleries."""
        if right in SERVER_RIGHTS:
            return right in self._anywhere
        return right in self._everywhere or (gallery_id is not None and right in self._rights_in(gallery_id))

    def sees(self, gallery_id: str) -> bool:
        """Whether there is any right in this gallery."""
        return bool(self._everywhere or self._rights_in(gallery_id))

    def _rights_in(self, gallery_id: str) -> frozenset[str]:
        """Those in a gallery by its name or a pattern: of many patterns each is tried once for a name."""
        found = self._known.get(gallery_id)
        if found is None:
            rights = set(self._in.get(gallery_id, ()))
            for pattern, granted in self._fitting.items():
                if not granted <= rights and _fits(pattern, gallery_id):
                    rights |= granted
            if len(self._known) >= _REMEMBERED:
                self._known = {}  # another thread may be reading the former one
            found = frozenset(rights)
            if len(gallery_id) <= MAX_NAME_CHARACTERS:
                self._known[gallery_id] = found
        return found


class Policy(_Strict):
    """Safe from any thread."""

    grant: tuple[Grant, ...] = Field(min_length=1)  # a file that is being written isn't read as one that forbids all
    quota: tuple[Quota, ...] = ()
    jwt: JwtPolicy | None = None
    _known: "OrderedDict[tuple[str, ...], Granted]" = PrivateAttr(default_factory=OrderedDict)
    _to: dict[str, list[int]] = PrivateAttr(default_factory=dict)
    _fitting: list[int] = PrivateAttr(default_factory=list)

    def model_post_init(self, context: object) -> None:
        for i, grant in enumerate(self.grant):
            if any(map(_is_pattern, grant.to)):
                self._fitting.append(i)
            else:
                for name in grant.to:
                    self._to.setdefault(name, []).append(i)

    def of(self, identity: Identity) -> Granted:
        """What is granted to the identity; that of many identities is remembered."""
        found = self._known.get(identity.names)
        if found is None:
            numbers = {i for name in identity.names for i in self._to.get(name, ())}
            numbers |= {i for i in self._fitting if self.grant[i].is_to(identity)}
            found = self._known[identity.names] = Granted(
                tuple(self.grant[i] for i in sorted(numbers)),
                tuple(quota for quota in self.quota if quota.is_to(identity)),
            )
            while len(self._known) > _REMEMBERED:
                with suppress(KeyError):  # another thread took the last one
                    self._known.popitem(last=False)
        return found


def _is_pattern(name: str) -> bool:
    return "*" in name or "?" in name


@lru_cache(maxsize=65_536)
def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]")))  # brackets stand for themselves


def _fits(pattern: str, name: str) -> bool:
    return pattern in (ALL, name) or _matcher(pattern).match(name) is not None


def read_policy(path: Path, data: bytes) -> Policy:
    """Raises StartupError naming each line that is wrong."""
    try:
        return Policy.model_validate(parse_toml(data))
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, one['loc'])) or 'policy'}: {one['msg']}" for one in error.errors())
        raise StartupError(f"{path}: " + "; ".join(wrong)) from error
    except (TomlError, RecursionError) as error:
        raise StartupError(f"{path}: {error}") from error
