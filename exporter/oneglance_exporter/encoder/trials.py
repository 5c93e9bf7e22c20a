"""Who is enrolled and who is probed: lists of picture indices, decided by a seed alone.

The lists know nothing of any encoder, so one list can be scored offline with numpy and again through
a running server, and the two must agree.
"""

import numpy as np

from oneglance_core.trials import OneShotTrials, OpenSet
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.errors import DataError, SettingsError


def one_shot_trials(examples: Examples, trials: int, ways: int = 20, seed: int = 0) -> OneShotTrials:
    """Draw group, subjects, and two different drawers at random for every trial.

    All support pictures of a trial are by one drawer, the probe is by another, as in Lake et al. 2015;
    the drawer is the picture's place among its subject's. Each group with at least ``ways`` subjects
    is equally likely. Raises SettingsError for trials or ways below 1, DataError when no group is
    large enough.
    """
    if trials < 1 or ways < 1:
        raise SettingsError("trials and ways must be at least 1")
    members = examples.members()
    in_group = [np.flatnonzero(examples.group_of == g) for g in range(len(examples.groups))]
    large = [subjects for subjects in in_group if len(subjects) >= ways]
    if not large:
        raise DataError(f"no group has {ways} subjects; the largest has {max(map(len, in_group))}")
    rng = np.random.default_rng(seed)
    probe, support, answer = np.empty(trials, np.int64), np.empty((trials, ways), np.int64), []
    for t in range(trials):
        subjects = rng.choice(large[rng.integers(len(large))], ways, replace=False)
        drawers = min(len(members[s]) for s in subjects)
        if drawers < 2:
            raise DataError("every subject needs two pictures: one to enroll, one to probe")
        enrolling, probing = rng.choice(drawers, 2, replace=False)
        right = int(rng.integers(ways))
        support[t] = [members[s][enrolling] for s in subjects]
        probe[t] = members[subjects[right]][probing]
        answer.append(right)
    return OneShotTrials(probe, support, np.array(answer))


def open_set(examples: Examples, gallery_size: int, seed: int = 0, probes_per_subject: int | None = None) -> OpenSet:
    """Enroll ``gallery_size`` subjects, drawn at random, from one picture each.

    Mated probes are the enrolled subjects' other pictures, strangers the pictures of the others; of
    each subject ``probes_per_subject`` at random, or all. A gallery of all subjects has no strangers.
    Raises SettingsError when there are fewer than ``gallery_size`` subjects or it is below 1.
    """
    total = len(examples.subjects)
    if not 1 <= gallery_size <= total:
        raise SettingsError(f"gallery size must be in 1 to {total}, got {gallery_size}")
    rng = np.random.default_rng(seed)
    members = [rng.permutation(indices) for indices in examples.members()]
    order = rng.permutation(total)
    inside, outside = order[:gallery_size], order[gallery_size:]
    probes = [members[s][1:][:probes_per_subject] for s in inside]
    return OpenSet(
        enrolled=np.array([members[s][0] for s in inside]),
        mated=np.concatenate(probes),
        mate=np.repeat(np.arange(gallery_size), [len(p) for p in probes]),
        strangers=np.concatenate([members[s][:probes_per_subject] for s in outside])
        if len(outside)
        else np.empty(0, np.int64),
    )
