"""A collection from the user's folder: ``SUBJECT/picture.png``, or one level deeper."""

from pathlib import Path

import numpy as np

from oneglance_apps.demo.collection import MIN_CALIBRATION_PROBES, Collection, Stranger, Subject
from oneglance_apps.demo.errors import DemoError
from oneglance_apps.demo.pictures import Picture
from oneglance_apps.subject_folders import subject_folders

MAX_PROBES = 20  # per subject
_LAYOUT = "pictures belong in one folder per subject: {0}/SUBJECT/1.png, or {0}/GROUP/SUBJECT/1.png"


def read_folder(folder: Path, subjects: int, strangers: int, seed: int) -> Collection:
    """A third of the folder's subjects, chosen by ``seed``, are strangers; the first picture of each other is enrolled.

    A subject is a folder with pictures; its id is its path below ``folder``, with ":" between the parts. ``subjects``
    and ``strangers`` are maxima. If there are enough strangers, half of them are calibration strangers. Raises
    DemoError if there is nothing to identify.
    """
    if not folder.is_dir():
        raise DemoError(f"{folder}: no such folder")
    found = _find(folder)
    if not found:
        raise DemoError(f"{folder}: no pictures found; {_LAYOUT.format(folder)}")
    if len(found) < 2:
        raise DemoError(f"{folder}: one subject only; it takes one to enroll and one to be a stranger")
    several = [name for name, pictures in found.items() if len(pictures) > 1]
    if not several:
        raise DemoError(f"{folder}: no subject has two pictures, so none is left to identify once one is enrolled")
    names = list(found)
    order = [names[i] for i in np.random.default_rng([seed, 2]).permutation(len(names)).tolist()]
    # Strangers are taken from the end: a subject with a second picture goes first, so that a mated probe exists.
    order.remove(several[0])
    order.insert(0, several[0])
    outside = max(1, round(len(order) / 3))
    unknown = order[-outside:][: 2 * strangers]
    half = min(len(unknown) // 2, strangers)
    enough = sum(min(len(found[name]), MAX_PROBES) for name in unknown[:half]) >= MIN_CALIBRATION_PROBES
    calibrating, unknown = (unknown[:half], unknown[half:]) if enough else ([], unknown[:strangers])
    known = sorted(order[:-outside][:subjects])
    if not known or not unknown:
        raise DemoError("1 subject and 1 stranger at least")
    return Collection(
        subjects=tuple(Subject(name, found[name][0], tuple(found[name][1 : 1 + MAX_PROBES])) for name in known),
        strangers=tuple(Stranger(name, tuple(found[name][:MAX_PROBES])) for name in sorted(unknown)),
        calibration_strangers=tuple(Stranger(name, tuple(found[name][:MAX_PROBES])) for name in sorted(calibrating)),
        noun="subject",
        picture_noun="picture",
        origin=f"from {folder}",
        drawn=False,
    )


def _find(folder: Path) -> dict[str, list[Picture]]:
    """Subjects and their pictures, both sorted by name."""
    found: dict[str, list[Picture]] = {}
    for parts, files in subject_folders(folder):
        name = ":".join(parts)
        if name in found:
            raise DemoError(f"{folder}: two folders would both be the subject {name!r}")
        found[name] = [Picture(file, file.relative_to(folder).as_posix()) for file in files]
    return found
