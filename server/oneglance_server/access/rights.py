"""What a caller may do.

Rights of a gallery: whoever has any of them in it may look at the gallery itself, its sizes and its thresholds.
Rights of the server hold where they are granted, whatever the galleries of the grant.
"""

from typing import Literal, get_args

GalleryRight = Literal[
    "verify",  # 1:1 against a subject
    "identify",  # 1:K: who is within tau
    "candidates",  # who is beyond it, too, and who looks like whom: their names leak
    "enroll",  # subjects, examples, labels, negatives, retention
    "erase",  # subjects, examples, negatives
    "calibrate",  # tau and all that decisions depend on
    "export",  # read subjects: labels, dates, consent
    "move",  # take out the gallery with its encodings; with "administer", bring one in
    "administer",  # create, delete the gallery, change its key; in all ("*"): callers' keys, the master key, styles
    "backup",  # of everything: only where it is granted in all galleries ("*")
]
ServerRight = Literal[
    "encode",  # encodings and faces of pictures; compare two pictures
    "stylize",
    "reflect",  # gRPC's reflection: which methods there are
]
Right = GalleryRight | ServerRight
GALLERY_RIGHTS: frozenset[str] = frozenset(get_args(GalleryRight))
SERVER_RIGHTS: frozenset[str] = frozenset(get_args(ServerRight))
ALL = "*"
