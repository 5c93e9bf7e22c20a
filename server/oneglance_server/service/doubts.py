"""What is done about a doubtful enrollment, by the gallery's policy or the request's."""

from typing import Literal, get_args

from oneglance_index import Doubting, Found, Gallery, Neighbour

DoubtPolicy = Literal["off", "flag", "refuse"]
DOUBT_POLICIES: tuple[DoubtPolicy, ...] = get_args(DoubtPolicy)
DEFAULT_DOUBT_POLICY: DoubtPolicy = "flag"  # of a new gallery


def doubt_policy_of(gallery: Gallery) -> DoubtPolicy:
    """``off`` for a gallery made before there were policies."""
    return next((policy for policy in DOUBT_POLICIES if policy == gallery.active.doubt), "off")


def doubting(
    found: Found, subject_id: str, like_another: float | None, unlike_own: float | None, *, refuse: bool
) -> Doubting:
    """How to doubt the enrollment of ``subject_id`` by examples whose nearest two subjects, singly, are ``found``."""
    neighbours = tuple(
        next((Neighbour(i, one.subject_id, one.distance) for one in near if one.subject_id != subject_id), None)
        for i, near in enumerate(found.candidates)
    )
    return Doubting(neighbours, found.revision, like_another, unlike_own, refuse)
