"""The page holds all figures and fetches nothing; what it is told is text, not markup."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oneglance_core.judging.charts import Axis, Line, chart
from oneglance_core.judging.compare import compare
from oneglance_core.judging.hardest import farthest_mates, nearest_strangers, project
from oneglance_core.judging.judge import judge
from oneglance_core.judging.report import render, write_report
from oneglance_core.judging.thumbnails import thumbnail
from tests.core.judging.worlds import distance, world

EVIL = '</script><img src=x onerror="boom">'


def test_the_page_holds_every_figure_and_fetches_nothing(tmp_path: Path) -> None:
    people = world()
    names = (EVIL, *people.subjects[1:])
    people = replace(people, subjects=names, picture=lambda row: np.full((9, 9, 1), row, np.uint8))
    first, second = (judge(one, splits=2, replicates=20) for one in (people, people))
    found = compare(first, second)
    write_report(tmp_path / "page.html", [("mine & co", first), (EVIL, second)], found, {"data": EVIL})
    page = (tmp_path / "page.html").read_text()
    assert EVIL not in page
    assert "boom" in page
    assert not re.search(r"(src|href)=[\"'](?!data:)", page)
    assert "url(" not in page
    assert "@import" not in page
    told = re.search(r'id="figures">(.*?)</script>', page, re.DOTALL)
    assert told is not None
    figures = json.loads(told.group(1))
    assert figures["mine & co"] == json.loads(json.dumps(first.as_dict()))
    assert figures["comparison"]["differences"][0]["name"] == "EER"
    assert page.count("<svg") == 7
    assert page.count("data:image/png;base64,") >= 2 * (len(first.farthest_mates) + len(first.nearest_strangers))


def test_a_page_without_pictures_groups_or_another() -> None:
    people = world()
    people = replace(people, group_of=np.zeros(len(people.subjects), np.int64), groups=("",))
    page = render([("mine", judge(people, splits=1, replicates=5))])
    assert "By group" not in page
    assert "<img" not in page
    assert "g1/s3" in page


@pytest.mark.parametrize("examples", [(2, 2), (2, 1), (3, 2, 1)])
def test_the_fewest_that_can_be_judged_are_shown(examples: tuple[int, ...]) -> None:
    made = judge(world(examples), splits=2, replicates=20)
    assert "EER" in render([("few", made)])


def test_equal_encodings_are_judged_and_shown() -> None:
    people = world((2, 2, 2))
    made = judge(replace(people, encodings=np.ones_like(people.encodings)), splits=1, replicates=5)
    assert made.pairs.eer.value == 0.5
    assert "EER" in render([("blind", made)])


def test_the_hardest_pairs_are_the_farthest_mates_and_the_nearest_strangers() -> None:
    people = world()
    rows = range(len(people.files))
    subject = people.subject_of
    every = [(distance(people, a, b), a, b) for a in rows for b in rows if a < b]
    (worst, *_) = sorted((d, a, b) for d, a, b in every if subject[a] != subject[b])
    found = nearest_strangers(people, 4)
    assert (found[0].first, found[0].second) == worst[1:]
    assert [pair.distance for pair in found] == sorted(pair.distance for pair in found)
    both = [frozenset((subject[pair.first], subject[pair.second])) for pair in found]
    assert len(set(both)) == len(both)
    far = max((d, a, b) for d, a, b in every if subject[a] == subject[b])
    mates = farthest_mates(people, 3)
    assert (mates[0].first, mates[0].second) == far[1:]
    assert len({subject[pair.first] for pair in mates}) == 3


def test_the_plane_is_where_subjects_differ_most() -> None:
    people = world((3,) * 8)
    found = project(people, 5, 2, seed=0)
    assert len(found.rows) == 10
    assert len(set(people.subject_of[found.rows].tolist())) == 5
    means = np.stack([people.encodings[own].astype(np.float64).mean(axis=0) for own in people.members()])
    centred = means - means.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    assert found.share == pytest.approx(values[-2:].sum() / values.sum())
    seen = (people.encodings[found.rows] - means.mean(axis=0)) @ axes[:, ::-1][:, :2]
    np.testing.assert_allclose(np.abs(found.points), np.abs(seen), atol=1e-6)


@pytest.mark.parametrize("shape", [(20, 10, 1), (20, 10, 3), (50, 2), (4, 8, 8, 1), (8, 8, 5)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_kind_of_input_is_a_picture(shape: tuple[int, ...], dtype: type) -> None:
    example: np.ndarray[Any, Any] = (np.random.default_rng(0).random(shape) * 200).astype(dtype)
    assert thumbnail(example, 16).startswith("data:image/")
    assert thumbnail(np.zeros(shape, dtype), 16).startswith("data:image/")


def test_a_chart_places_values_on_its_axes() -> None:
    made = chart(
        "t", Axis("x", 1, 100, log=True, percent=False), Axis("y", 0, 1), [Line("a<b", [(10, 0.5)], 0, dots=True)]
    )
    assert "a&lt;b" in made
    circle = re.search(r'cx="([\d.]+)" cy="([\d.]+)"', made)
    assert circle is not None
    assert float(circle.group(1)) == pytest.approx(62 + (560 - 62 - 18) / 2)
    assert float(circle.group(2)) == pytest.approx((14 + 380 - 48) / 2)
    assert Axis("", 0.001, 1, log=True).ticks() == pytest.approx([0.001, 0.01, 0.1, 1])
    assert Axis("", 0, 1).ticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
