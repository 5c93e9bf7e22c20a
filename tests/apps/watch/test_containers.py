"""Every container and codec of the table: what is whole is read as it is, what is not is told."""

from pathlib import Path

import pytest

from tests.apps.watch.containers import KINDS, Kind, row

PAUSES_COUNT = ("ASF, WMV",)  # nothing in it tells a pause from frames that were lost


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_files_are_what_they_are(kind: Kind, tmp_path: Path) -> None:
    found = row(kind, tmp_path, slow=False)
    wrong = {name: words for name, words in found.items() if words}
    if kind.name in PAUSES_COUNT:
        assert "frames missing" in (wrong.pop("uneven rate") or "")
    assert wrong == {}
    assert {name for name, words in found.items() if words is None} <= {
        *("late start", "uneven rate", "rotated", "interlaced", "10 bits", "subtitles")
    }
