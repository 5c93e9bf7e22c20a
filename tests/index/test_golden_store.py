"""A data directory written by version 1 of the schema, which every later version must open.

Made once by

    PYTHONPATH=index python tests/index/test_golden_store.py tests/index/golden/v1

and committed. Don't make it anew: add v2 beside it when the schema changes.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from oneglance_index import Galleries, IndexSettings, OpenProgress, RequestConflict

GOLDEN = Path(__file__).with_name("golden") / "v1"


def vectors(subject: int) -> NDArray[np.float32]:
    return np.array([[1, subject, 0.5], [subject, -1, 0.25]], np.float32)


def make(data_dir: Path) -> None:
    with Galleries.open(data_dir) as galleries:
        galleries.create_gallery("people", encoder_digest="sha256:abc", dimension=3, description="Größe").result()
        galleries.create_gallery("empty", encoder_digest="sha256:abc", dimension=2).result()
        galleries.set_threshold("people", 0.36).result()
        for i in range(5):
            galleries.enroll(
                "people",
                f"s{i}",
                vectors(i),
                labels={"name": f"Zoë {i}"},
                request_id=f"r{i}",
                request_digest=b"digest",
            ).result()
        galleries.delete_subject("people", "s1").result()
        galleries.snapshot()
        galleries.enroll("people", "late", vectors(9)).result()  # after the snapshot: to catch up with
        galleries.delete_encoding("people", "s2", "5").result()
        galleries._upkeep.close(take_snapshots=False)
        galleries._store.close()
    (data_dir / "lock").unlink()


@pytest.mark.parametrize("with_snapshot", [True, False])
def test_version_1_opens(tmp_path: Path, with_snapshot: bool) -> None:
    data_dir = tmp_path / "data"
    shutil.copytree(GOLDEN, data_dir)
    if not with_snapshot:
        shutil.rmtree(data_dir / "snapshots")
    seen: dict[str, OpenProgress] = {}
    # The request was made long ago.
    forever = IndexSettings(request_ttl_seconds=1e12)
    with Galleries.open(
        data_dir, settings=forever, progress=lambda progress: seen.update({progress.gallery_id: progress})
    ) as galleries:
        assert seen["people"].source == ("snapshot" if with_snapshot else "store")
        assert [g.id for g in galleries.list_galleries().galleries] == ["empty", "people"]
        people = galleries.get_gallery("people")
        assert (people.encoder_digest, people.description, people.threshold) == ("sha256:abc", "Größe", 0.36)
        assert (people.revision, people.subjects, people.encodings) == (9, 5, 9)
        page = galleries.list_subjects("people")
        assert [s.id for s in page.subjects] == ["late", "s0", "s2", "s3", "s4"]
        assert galleries.get_subject("people", "s2").labels == {"name": "Zoë 2"}
        assert [e.id for e in galleries.get_subject("people", "s2").encodings] == ["6"]
        for i, name in ((0, "s0"), (3, "s3"), (9, "late")):
            for vector in vectors(i):
                (candidate,) = galleries.search("people", vector[None], 1).candidates[0]
                assert (candidate.subject_id, candidate.distance) == (name, 0.0)
        assert galleries.replay("people", "r3", b"digest") is not None
        with pytest.raises(RequestConflict):
            galleries.replay("people", "r3", b"other")
        assert galleries.enroll("people", "new", vectors(7)).result().encoding_ids == ("13", "14")


if __name__ == "__main__":
    make(Path(sys.argv[1]))
