"""What can't be judged is refused in words; what is too much is chosen from; what is given twice is paired."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_core.judging.errors import BadEncodings, NoMates, NotPaired, TooFewSubjects
from oneglance_core.judging.labelled import label, paired, read_encodings, shown
from tests.core.judging.worlds import world

F = np.eye(4, dtype=np.float32)
ABAB = ["a", "b", "a", "b"]


def nan() -> Any:
    bad = F.copy()
    bad[2, 1] = np.nan
    return bad


@pytest.mark.parametrize(
    ("encodings", "subjects", "error", "told"),
    [
        (F, ["a"] * 4, TooFewSubjects, r"1 subject\(s\): at least 2"),
        (np.empty((0, 4)), [], TooFewSubjects, r"0 subject\(s\)"),
        (F, ["a", "b", "c", "d"], NoMates, "no subject has two examples"),
        (nan(), ABAB, BadEncodings, "2: its encoding is not finite"),
        (np.full((4, 4), 1e300), ABAB, BadEncodings, "0: its encoding is not finite"),
        (F[0], ABAB, BadEncodings, r"encodings are float32 \[4\]"),
        (F, ["a", "b"], BadEncodings, r"subjects \[2\]"),
        (F.astype(str), ABAB, BadEncodings, "needed are numbers"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_what_can_not_be_judged(encodings: Any, subjects: list[str], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        label(encodings, subjects)


def test_files_and_groups_must_go_with_the_encodings() -> None:
    with pytest.raises(BadEncodings, match="4 encodings, but 3 files"):
        label(F, ABAB, ["1", "2", "3"])
    with pytest.raises(BadEncodings, match="subject a is in two groups, x and y"):
        label(F, ABAB, groups=["x", "x", "y", "x"])
    assert label(F, ABAB, groups=["x", "z", "x", "z"]).groups == ("x", "z")
    assert label(F, ["Greek/a", "b", "Greek/a", "b"]).groups == ("", "Greek")


def test_files_of_arrays_are_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "people.npz"
    np.savez(
        file, encodings=F, subjects=np.array(ABAB), files=np.array(["1", "2", "3", "4"]), inputs=np.ones((4, 2, 2, 1))
    )
    people = read_encodings(file)
    assert (people.subjects, people.files) == (("a", "b"), ("1", "2", "3", "4"))
    assert people.subject_of.tolist() == [0, 1, 0, 1]
    assert people.picture is not None
    assert people.rows(np.array([1, 3])).picture is not None
    np.savez(file, encodings=F)
    with pytest.raises(BadEncodings, match="needs the arrays encodings and subjects, has encodings"):
        read_encodings(file)
    np.savez(file, encodings=F, subjects=np.array(ABAB), inputs=np.ones((3, 2)))
    with pytest.raises(BadEncodings, match="4 subjects, but 3 inputs"):
        read_encodings(file)
    np.savez(file, encodings=np.array([{}], dtype=object), subjects=np.array(["a"]))
    for content in (None, b"nothing", b""):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(BadEncodings, match=r"people\.npz: no \.npz, or damaged"):
            read_encodings(file)
    with pytest.raises(BadEncodings, match=r"none\.npz"):
        read_encodings(tmp_path / "none.npz")
    np.save(tmp_path / "one.npy", F)
    with pytest.raises(BadEncodings, match=r"one\.npy"):
        read_encodings(tmp_path / "one.npy")


def test_a_file_is_shown_without_the_way_to_its_source() -> None:
    assert shown("/home/ann/data.zip: b/1.png") == "data.zip: b/1.png"
    assert shown("b/1.png") == "b/1.png"


def test_too_many_are_chosen_from_at_random() -> None:
    people = world()
    assert people.at_most() is people
    fewer = people.at_most(subjects=6, examples=14, seed=2)
    assert len(fewer.subjects) == 6
    assert len(fewer.files) <= 14
    for subject, rows in zip(fewer.subjects, fewer.members(), strict=True):
        for row in rows:
            before = people.files.index(fewer.files[row])
            assert people.subjects[people.subject_of[before]] == subject
            np.testing.assert_array_equal(people.encodings[before], fewer.encodings[row])
    assert people.at_most(subjects=6, examples=14, seed=2).files == fewer.files


def test_examples_that_both_have_are_paired_by_name() -> None:
    people = world()
    mixed = people.rows(np.random.default_rng(0).permutation(len(people.files))[:-3])
    left, right = paired(people, mixed)
    assert len(left.files) == len(mixed.files)
    assert left.files == right.files
    np.testing.assert_array_equal(left.encodings, right.encodings)
    assert left.subjects == right.subjects
    with pytest.raises(NotPaired, match="have 0 examples in common"):
        paired(people, label(F, ABAB))
