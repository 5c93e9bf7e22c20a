"""Encodings with the name of the subject that each shows, checked; read from .npz files."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from oneglance_core.array_files import ArrayFileError, arrays_in
from oneglance_core.judging.errors import BadEncodings, NoMates, NotPaired, TooFewSubjects
from oneglance_core.measures import Indices
from oneglance_core.trials import Encodings

Picture = Callable[[int], npt.NDArray[Any]]
"""What the encoder was given for an example, by its row, or a picture of that."""

MOST_SUBJECTS = 1_000
MOST_EXAMPLES = 8_000
_ARRAYS = ("encodings", "subjects", "files", "groups", "inputs")


@dataclass(frozen=True, slots=True)
class LabelledEncodings:
    """N encodings of S subjects.

    encodings: float32 [N, D]. subject_of: int64 [N], index into ``subjects``. files: the names of the N examples.
    group_of: int64 [S], index into ``groups``: what is judged apart, too, as an alphabet, a camera, a sex.
    picture: of an example, to show errors by; None: there are none.
    """

    encodings: Encodings
    subject_of: Indices
    subjects: tuple[str, ...]
    files: tuple[str, ...]
    group_of: Indices
    groups: tuple[str, ...]
    picture: Picture | None = None

    def members(self) -> list[Indices]:
        """The rows of each subject's examples."""
        order = np.argsort(self.subject_of, kind="stable")
        return np.split(order, np.searchsorted(self.subject_of[order], np.arange(1, len(self.subjects))))

    def rows(self, chosen: Indices) -> "LabelledEncodings":
        """The examples ``chosen``, int64 [n], of the subjects that are then left."""
        left, subject_of = np.unique(self.subject_of[chosen], return_inverse=True)
        picture = self.picture
        return replace(
            self,
            encodings=self.encodings[chosen],
            subject_of=subject_of,
            subjects=tuple(self.subjects[i] for i in left),
            files=tuple(self.files[i] for i in chosen),
            group_of=self.group_of[left],
            picture=None if picture is None else lambda row: picture(int(chosen[row])),
        )

    def at_most(
        self, subjects: int = MOST_SUBJECTS, examples: int = MOST_EXAMPLES, seed: int = 0
    ) -> "LabelledEncodings":
        """All, or a random choice: so many subjects, and as many examples of each as make ``examples`` together."""
        members = self.members()
        if len(members) <= subjects and len(self.files) <= examples:
            return self
        rng = np.random.default_rng(seed)
        order = sorted(rng.permutation(len(members)).tolist(), key=lambda i: len(members[i]) < 2)  # mates are needed
        kept = [rng.permutation(members[i]) for i in sorted(order[:subjects])]
        each = max(2, examples // len(kept))
        return self.rows(np.sort(np.concatenate([own[:each] for own in kept])))


def label(
    encodings: npt.ArrayLike,
    subjects: Sequence[str],
    files: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    picture: Picture | None = None,
) -> LabelledEncodings:
    """Encodings [N, D] with the subject of each of the N. files: their names; None: their numbers.

    groups: the group of each of the N, one for all of a subject; None: the folder around the subject, as ``Greek`` of
    ``Greek/alpha``. Raises JudgingError.
    """
    values = np.asarray(encodings)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or len(values) != len(subjects):
        raise BadEncodings(
            f"encodings are {values.dtype} {list(values.shape)}, subjects [{len(subjects)}]; needed are numbers [N, D] "
            "and names [N]"
        )
    vectors: Encodings = values.astype(np.float32)
    names = tuple(map(str, range(len(values)))) if files is None else tuple(map(str, files))
    for what, given in (("files", names), ("groups", groups)):
        if given is not None and len(given) != len(values):
            raise BadEncodings(f"{len(values)} encodings, but {len(given)} {what}")
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise BadEncodings(f"{names[bad[0]]}: its encoding is not finite")
    known, first, subject_of = np.unique(np.asarray(subjects, dtype=str), return_index=True, return_inverse=True)
    if len(known) < 2:
        raise TooFewSubjects(f"{len(known)} subject(s): at least 2 are needed to judge an encoder, better hundreds")
    if np.bincount(subject_of).max() < 2:
        raise NoMates("no subject has two examples: one to enroll, one to probe with")
    of_row = [group_of_subject(str(subject)) for subject in subjects] if groups is None else [str(g) for g in groups]
    for row, subject in enumerate(subject_of):
        if of_row[row] != of_row[first[subject]]:
            raise BadEncodings(f"subject {known[subject]} is in two groups, {of_row[first[subject]]} and {of_row[row]}")
    kinds, group_of = np.unique([of_row[row] for row in first], return_inverse=True)
    return LabelledEncodings(
        vectors, subject_of, tuple(known.tolist()), names, group_of, tuple(kinds.tolist()), picture
    )


def group_of_subject(subject: str) -> str:
    """The folder around the subject's own: ``Greek`` of ``Greek/alpha``; empty without one."""
    return subject.rpartition("/")[0]


def shown(file: str) -> str:
    """A file's name for readers: of ``/home/ann/data.zip: b/1.png`` without the folders that lead to the source."""
    source, colon, name = file.partition(": ")
    return f"{source.rpartition('/')[2]}{colon}{name}" if colon else file


def read_encodings(path: str | os.PathLike[str]) -> LabelledEncodings:
    """Of a .npz: encodings [N, D], subjects [N] and, if there are any, files [N], groups [N] and inputs [N, ...].

    Raises JudgingError.
    """
    try:
        given = arrays_in(path, _ARRAYS)
    except (ArrayFileError, OSError) as error:
        raise BadEncodings(f"{path}: {error}") from error
    if not {"encodings", "subjects"} <= given.keys():
        raise BadEncodings(f"{path}: needs the arrays encodings and subjects, has {', '.join(given) or 'none'}")
    encodings, subjects = given["encodings"], given["subjects"]
    if subjects.ndim != 1:
        raise BadEncodings(f"{path}: subjects are {list(subjects.shape)}, must be [N]")
    files, groups, inputs = given.get("files"), given.get("groups"), given.get("inputs")
    if inputs is not None and len(inputs) != len(subjects):
        raise BadEncodings(f"{path}: {len(subjects)} subjects, but {len(inputs)} inputs")
    return label(
        encodings,
        subjects.tolist(),
        None if files is None else files.tolist(),
        None if groups is None else groups.tolist(),
        None if inputs is None else inputs.__getitem__,
    )


def paired(first: LabelledEncodings, second: LabelledEncodings) -> tuple[LabelledEncodings, LabelledEncodings]:
    """Both with the examples that both have, in one order. Raises NotPaired when too few are left to judge by.

    An example is known by its subject and its file's own name: what was read from two copies of a folder is the same.
    """

    def keys(people: LabelledEncodings) -> list[tuple[str, str]]:
        ends = [file.replace(": ", "/").rpartition("/")[2] for file in people.files]
        return [(people.subjects[s], end) for s, end in zip(people.subject_of, ends, strict=True)]

    place = {key: row for row, key in enumerate(keys(second))}
    own = {key: row for row, key in enumerate(keys(first))}
    common = [key for key in own if key in place]
    left, right = (
        people.rows(np.array([rows[key] for key in common], dtype=np.int64))
        for people, rows in ((first, own), (second, place))
    )
    if len(left.subjects) < 2 or np.bincount(left.subject_of).max() < 2:
        raise NotPaired(f"the two encoders have {len(common)} examples in common: too few to compare them on")
    return left, right
