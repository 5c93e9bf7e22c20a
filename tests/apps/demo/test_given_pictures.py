"""The pictures the demo runs on: drawn, of a folder, or refused before anything runs."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oneglance_apps.cli.main import main
from oneglance_apps.demo import drawings
from oneglance_apps.demo.drawings import draw_collection
from oneglance_apps.demo.folder import read_folder
from oneglance_apps.demo.pictures import Picture
from oneglance_apps.landscape import landscape, png
from oneglance_core.glyphs import TRAINING_SEEDS


def test_characters_are_reproducible_and_never_those_of_training() -> None:
    one, same, other = (draw_collection(5, 2, seed) for seed in (3, 3, 4))
    assert one == same
    assert {s.enrolled_from.read() for s in one.subjects}.isdisjoint(s.enrolled_from.read() for s in other.subjects)
    assert len({s.id for s in one.subjects} | {s.id for s in one.strangers}) == 7
    many = draw_collection(3, 25, 0)
    assert len({s.id for s in many.subjects} | {s.id for s in (*many.strangers, *many.calibration_strangers)}) == 53
    assert not one.calibration_strangers  # too few to set a threshold by
    assert {len(s.probes) for s in one.subjects} | {len(s.probes) for s in one.strangers} == {drawings.PROBES}
    last = drawings.MAX_SEED * (drawings.MAX_CHARACTERS // drawings.ALPHABET)
    assert last + drawings.MAX_CHARACTERS // drawings.ALPHABET <= TRAINING_SEEDS.start


def test_a_folder_is_read_by_its_own_names(folder: Path) -> None:
    collection = read_folder(folder, 200, 100, 0)
    ids = {s.id for s in collection.subjects} | {s.id for s in collection.strangers}
    assert ids == {"alpha", "beta & <b>", "group:a", "group:b", "group:c", "group:d"}
    assert len(collection.strangers) == 2
    assert all(s.enrolled_from.caption.endswith("/0.png") for s in collection.subjects)
    assert list(collection.mated())
    assert collection == read_folder(folder, 200, 100, 0)
    assert {read_folder(folder, 200, 100, seed).strangers for seed in range(9)} != {collection.strangers}
    capped = read_folder(folder, 2, 1, 0)
    assert (len(capped.subjects), len(capped.strangers)) == (2, 1)


def _nothing(root: Path) -> None: ...


def _empty(root: Path) -> None:
    root.mkdir()


def _flat(root: Path) -> None:
    root.mkdir()
    (root / "a.png").write_bytes(b"")


def _one_subject(root: Path) -> None:
    (root / "a").mkdir(parents=True)
    (root / "a" / "1.png").write_bytes(b"")
    (root / "a" / "2.png").write_bytes(b"")


def _one_picture_each(root: Path) -> None:
    for name in "abc":
        (root / name).mkdir(parents=True)
        (root / name / "1.png").write_bytes(b"")


def _no_real_pictures(root: Path) -> None:
    for name in "abc":
        (root / name).mkdir(parents=True)
        for i in range(3):
            (root / name / f"{i}.png").write_bytes(b"no picture")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (_nothing, "no such folder"),
        (_empty, "no pictures found"),
        (_flat, "one folder per subject"),
        (_one_subject, "one subject only"),
        (_one_picture_each, "none is left to identify"),
        (_no_real_pictures, "not a picture"),
    ],
)
def test_bad_folders_are_refused_in_words(
    make: Callable[[Path], None], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "pictures")
    assert main(["demo", "--images", str(tmp_path / "pictures"), "--out", str(tmp_path / "page.html")]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))


def test_bad_settings_are_refused_before_anything_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "something").write_text("precious")
    for arguments, message in (
        (["--out", str(tmp_path / "nowhere" / "page.html")], "can't write"),
        (["--keep-data", str(tmp_path / "kept")], "empty folder"),
        (["--subjects", "1"], "2 subjects"),
        (["--seed", "-1"], "--seed must be at least 0, got -1"),
        (["--fpir", "1"], "--fpir must be less than 1, got 1.0"),
        (["--seed", str(2**31)], "a seed is between"),
    ):
        assert main(["demo", "--out", str(tmp_path / "page.html"), *arguments]) == 1
        assert message in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["something"]


def test_the_landscape_is_always_the_same_and_a_png_anybody_reads() -> None:
    small = landscape(40)
    assert small.shape == (40, 60, 3)
    assert (landscape(40) == small).all()
    assert small[:10].mean(axis=(0, 1))[2] > small[:10].mean(axis=(0, 1))[0]  # the sky is blue
    with Image.open(io.BytesIO(png(small))) as read:
        read.load()
        assert read.format == "PNG"
        assert (np.asarray(read) == small).all()


def test_pictures_become_small_pngs(tmp_path: Path) -> None:
    Image.new("RGBA", (300, 200), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    uri = Picture(tmp_path / "clear.png", "clear").data_uri()
    assert uri.startswith("data:image/png;base64,")
    assert len(uri) < 600
