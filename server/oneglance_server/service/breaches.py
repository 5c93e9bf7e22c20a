"""Figures outside their limits: of a face by the gallery's quality policy, of an input by its encoder's manifest."""

from collections.abc import Sequence
from dataclasses import asdict

from oneglance_core.faces.quality import LIMITS, POLICIES, Quality, QualityPolicy
from oneglance_core.limits import breaches
from oneglance_index import Gallery
from oneglance_server.errors import InvalidRequest
from oneglance_server.service.content import Breached, Content
from oneglance_server.service.encoding import Encoded


def policy_of(gallery: Gallery) -> QualityPolicy:
    """``off`` for a gallery made before there were policies."""
    return next((policy for policy in POLICIES if policy == gallery.active.quality), "off")


def breaches_of(contents: Sequence[Content], encoded: Encoded, policy: QualityPolicy) -> list[tuple[Breached, ...]]:
    """The i-th tuple is of vector i: of the face behind it, or of the input that it was made of."""
    limits = LIMITS[policy]
    found = []
    for owner, face, of_input in zip(encoded.owners, encoded.faces, encoded.breaches, strict=True):
        of_face = breaches(asdict(face.quality), limits) if face is not None and face.quality is not None else ()
        found.append(tuple(Breached(contents[owner].path, one) for one in (*of_face, *of_input)))
    return found


def refuse(found: Sequence[tuple[Breached, ...]], *, unfit: bool) -> None:
    """Raise InvalidRequest for the first example with a breach. ``unfit``: for those of an encoder's input, too."""
    for one in found:
        if one and one[0].breach.limit.figure in Quality.__dataclass_fields__:
            raise _refused("QUALITY_TOO_LOW", "the face is not good enough for this gallery's quality policy", one)
        if one and unfit:
            raise _refused("INPUT_UNFIT", "not the kind of picture that the encoder is made for", one)


def _refused(reason: str, text: str, found: Sequence[Breached]) -> InvalidRequest:
    listed = "; ".join(str(one.breach) for one in found)
    error = InvalidRequest.field(found[0].path, f"{text}: {listed} (accept_breaches enrolls it)", reason=reason)
    error.breaches = tuple(found)
    return error
