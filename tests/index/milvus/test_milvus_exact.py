"""Answers from a real Milvus are those of brute force in float64, while rows are there, here, and on the way."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import EngineUnsupported, Found, LocalGalleries, Search, SubjectFilter
from tests.index.milvus.brute_force import Row, nearest
from tests.index.milvus.engine import Engine

PROBES = 2000


def test_no_decision_differs_from_float64(tmp_path: Path, empty: Engine) -> None:
    """Twins that float32 hardly tells apart, ties, several encodings for a subject, deletions; before and after a
    restart, and with what is at Milvus only."""
    random = np.random.default_rng(3)
    vectors = random.standard_normal((1500, 32), dtype=np.float32) * np.float32(100)
    vectors[700:1400] = vectors[:700] * np.float32(1 + 1e-6)
    vectors[1400:] = vectors[:100]
    rows = [(f"s{i // 2}", vector) for i, vector in enumerate(vectors)]
    probes = vectors[random.integers(0, 1500, PROBES)]
    probes[: PROBES // 2] += random.standard_normal((PROBES // 2, 32), dtype=np.float32)
    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=32).result()
        done = [galleries.enroll("g", f"s{i}", vectors[2 * i : 2 * i + 2]) for i in range(750)]
        for one in done:
            one.result()
        check(galleries, rows, probes[:200])
        galleries.compact("g")
        check(galleries, rows, probes[200:1000])
        for i in range(0, 750, 10):
            galleries.delete_subject("g", f"s{i}").result()
        rows = [row for row in rows if int(row[0][1:]) % 10]
        check(galleries, rows, probes[1000:1200])
    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        check(galleries, rows, probes[1200:])
    with LocalGalleries.open(tmp_path) as embedded:  # the store alone is the truth
        check(embedded, rows, probes[:50])


def check(galleries: LocalGalleries, rows: list[Row], probes: NDArray[np.float32]) -> None:
    for start in range(0, len(probes), 50):
        part = probes[start : start + 50]
        within = nearest(rows, part[0])[2][1]
        found = galleries.search_many("g", [Search(part, "e", 5, within, 50)])[0]
        assert isinstance(found, Found)
        for i, probe in enumerate(part):
            expected = nearest(rows, probe)
            told = [(one.subject_id, one.distance) for one in found.candidates[i]]
            assert told == expected[:5]
            matches = [one.subject_id for one in found.matches[i]]
            assert matches == [subject for subject, distance in expected if distance <= within][:50]


def test_filters_of_few_and_of_many(tmp_path: Path, empty: Engine) -> None:
    random = np.random.default_rng(4)
    vectors = random.standard_normal((600, 8), dtype=np.float32)
    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        for i, vector in enumerate(vectors):
            galleries.enroll("g", f"s{i}", vector[None], labels={"third": str(i % 3), "one": str(i)}).result()
        for labels in ((("third", "1"),), (("one", "77"),), (("third", "none"),)):
            among = SubjectFilter(labels)
            (found,) = galleries.search_many("g", [Search(vectors[:20], "e", 7, among=among)])
            assert isinstance(found, Found)
            rows = [
                (f"s{i}", vector)
                for i, vector in enumerate(vectors)
                if among.labels_pass({"third": str(i % 3), "one": str(i)})
            ]
            for probe, near in zip(vectors[:20], found.candidates, strict=True):
                expected = nearest(rows, probe)[:7] if rows else []
                assert [one.subject_id for one in near] == [subject for subject, _ in expected]


def test_deciding_by_probability_is_refused(tmp_path: Path, empty: Engine) -> None:
    with LocalGalleries.open(tmp_path, device=empty.url()) as galleries:
        galleries.create_gallery("g", encoder_digest="e", dimension=8).result()
        with pytest.raises(EngineUnsupported):
            galleries.set_decided_by("g", "probability").result()
