"""Pictures are read with the right subjects and groups, and bad ones are named."""

import io
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from oneglance_core.folder import read_model_folder
from oneglance_core.manifests import InputSpec
from oneglance_core.pictures import decode_photo
from oneglance_exporter import cli
from oneglance_exporter.data.examples import Examples
from oneglance_exporter.data.files import Content, labelled_files
from oneglance_exporter.data.photos import LIMITS
from oneglance_exporter.data.reading import LeftOut, bring_all, read_examples
from oneglance_exporter.errors import DataError
from oneglance_exporter.faces import bringing_faces
from tests.face_models import face_models, photo


def png(picture: npt.NDArray[np.integer]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def gray_of(height: int, width: int) -> InputSpec:
    return InputSpec(kind="image", shape=(height, width, 1), dtype="uint8", color="gray")


GRAY = np.full((10, 10), 200, np.uint8)


def folder_of(root: Path, *files: str, picture: npt.NDArray[np.integer] = GRAY) -> Path:
    for name in files:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(picture))
    return root


def zip_of(path: Path, *files: str, content: bytes | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in files:
            archive.writestr(name, png(GRAY) if content is None else content)
    return path


def test_subject_is_the_parent_folder_and_group_the_one_around_it(tmp_path: Path) -> None:
    folder_of(tmp_path, "top/Greek/a/1.png", "top/Greek/a/2.png", "top/Greek/b/1.png", "top/Greek/b/2.png")
    folder_of(tmp_path, "top/Latin/a/1.png", "top/Latin/a/2.png", "top/Latin/a/3.PNG", "top/notes.txt/x")
    (tmp_path / "top" / "readme.txt").write_text("not a picture")
    pictures = read_examples([tmp_path], gray_of(10, 10))
    assert pictures.subjects == ("Greek/a", "Greek/b", "Latin/a")
    assert pictures.groups == ("Greek", "Latin")
    assert pictures.group_of.tolist() == [0, 0, 1]
    assert pictures.subject_of.tolist() == [0, 0, 1, 1, 2, 2, 2]
    assert [m.tolist() for m in pictures.members()] == [[0, 1], [2, 3], [4, 5, 6]]
    assert pictures.inputs.shape == (7, 10, 10, 1)
    assert pictures.inputs.dtype == np.uint8


def test_a_zip_reads_as_the_folder_it_packs(tmp_path: Path) -> None:
    names = ["top/a/1.png", "top/a/2.png", "top/b/1.png", "top/b/2.png"]
    zipped = zip_of(tmp_path / "z.zip", *names, "top/a/._1.png")
    from_folder = read_examples([folder_of(tmp_path / "f", *names)], gray_of(10, 10))
    from_zip = read_examples([zipped], gray_of(10, 10))
    assert from_zip.subjects == from_folder.subjects == ("a", "b")
    assert from_zip.groups == ("",)
    np.testing.assert_array_equal(from_zip.inputs, from_folder.inputs)


def test_a_single_subject_keeps_its_name(tmp_path: Path) -> None:
    assert read_examples([folder_of(tmp_path, "top/a/1.png", "top/a/2.png")], gray_of(10, 10)).subjects == ("a",)


def test_equal_subjects_of_two_sources_are_one_and_files_count_once(tmp_path: Path) -> None:
    first = zip_of(tmp_path / "1.zip", "one/Greek/a/1.png", "one/Greek/a/2.png", "one/Latin/b/1.png")
    second = zip_of(tmp_path / "2.zip", "two/Greek/a/2.png", "two/Greek/a/3.png", "two/Latin/b/2.png")
    pictures = read_examples([first, second], gray_of(10, 10))
    assert pictures.subjects == ("Greek/a", "Latin/b")
    assert np.bincount(pictures.subject_of).tolist() == [3, 2]


def test_other_sizes_are_brought_to_the_input_by_pillows_box_filter(tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (30, 20), dtype=np.uint8)
    folder_of(tmp_path, "a/1.png", "a/2.png", picture=big)
    expected = np.asarray(Image.fromarray(big).resize((5, 6), Image.Resampling.BOX))
    np.testing.assert_array_equal(read_examples([tmp_path], gray_of(6, 5)).inputs[0, :, :, 0], expected)


def test_transparency_is_white_paper_and_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[0, :, 3] = 255  # one row of opaque black, the rest black but transparent
    deep = np.full((4, 4), 0x8000, np.uint16)
    folder_of(tmp_path, "a/1.png", picture=clear)
    folder_of(tmp_path, "a/2.png", picture=deep)
    first, second = read_examples([tmp_path], gray_of(4, 4)).inputs[..., 0]
    assert first.tolist() == [[0] * 4] + [[255] * 4] * 3
    assert second.tolist() == [[128] * 4] * 4


def test_hidden_files_are_no_pictures_in_folders_as_in_zips(tmp_path: Path) -> None:
    names = ["top/a/1.png", "top/a/2.webp", "top/a/._1.png", "__MACOSX/top/a/._2.webp"]
    zipped = zip_of(tmp_path / "z.zip", *names)
    folder = folder_of(tmp_path / "f", *names)
    for source in (zipped, folder):
        pictures = read_examples([source], gray_of(10, 10))
        assert pictures.files == (f"{source}: top/a/1.png", f"{source}: top/a/2.webp")


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.zip: no such file"):
        read_examples([tmp_path / "nowhere.zip"], gray_of(10, 10))


def test_a_source_without_pictures_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"empty\.zip: no pictures"):
        read_examples([zip_of(tmp_path / "empty.zip", "a/readme.txt")], gray_of(10, 10))
    (tmp_path / "bare").mkdir()
    with pytest.raises(DataError, match="bare: no pictures"):
        read_examples([tmp_path / "bare"], gray_of(10, 10))


def test_a_file_that_is_no_zip_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"PK no")
    with pytest.raises(DataError, match=r"x\.zip: neither a folder nor a zip"):
        read_examples([tmp_path / "x.zip"], gray_of(10, 10))


def test_a_damaged_zip_is_named(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "z.zip", "top/a/1.png", "top/a/2.png")
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF  # inside the first picture: its CRC fails
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"z\.zip: damaged zip"):
        read_examples([path], gray_of(10, 10))


@pytest.mark.parametrize("content", [b"", b"not a picture", png(GRAY)[:40]])
def test_an_undecodable_picture_is_named(tmp_path: Path, content: bytes) -> None:
    folder_of(tmp_path, "a/1.png")
    (tmp_path / "a" / "2.png").write_bytes(content)
    with pytest.raises(DataError, match=r"a/2\.png: can't be decoded"):
        read_examples([tmp_path], gray_of(10, 10))


def test_a_subject_with_one_picture_is_named(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/1.png", "a/2.png", "b/1.png")
    with pytest.raises(DataError, match=r"'b' has 1 picture"):
        read_examples([tmp_path], gray_of(10, 10))
    assert read_examples([tmp_path], gray_of(10, 10), least=1).subjects == ("a", "b")


def pale(content: Content) -> npt.NDArray[np.uint8] | None:
    """Nothing of a dark picture."""
    assert isinstance(content, bytes)
    pixels = decode_photo(content, LIMITS)
    return pixels if pixels.mean() > 100 else None


def brought(root: Path, least: int = 2) -> tuple[Examples, LeftOut]:
    """The pale pictures."""
    return bring_all(labelled_files([root]), pale, least)


def test_who_has_too_few_pictures_once_some_are_left_out_is_left_out_too(tmp_path: Path) -> None:
    dark = np.zeros((10, 10), np.uint8)
    folder_of(tmp_path, "x/a/1.png", "x/a/2.png", "x/b/1.png", "y/c/1.png", "y/c/2.png")
    folder_of(tmp_path, "x/a/3.png", "x/b/2.png", "z/d/1.png", "z/d/2.png", picture=dark)
    pictures, left_out = brought(tmp_path)
    assert pictures.subjects == ("x/a", "y/c")
    assert pictures.groups == ("x", "y")
    assert pictures.group_of.tolist() == [0, 1]
    assert pictures.subject_of.tolist() == [0, 0, 1, 1]
    assert pictures.inputs.shape == (4, 10, 10, 3)
    assert left_out == LeftOut(files=4, subjects=("x/b", "z/d"))
    assert brought(tmp_path, least=1)[1] == LeftOut(files=4, subjects=("z/d",))


def test_who_never_had_enough_pictures_is_named_even_if_others_are_left_out(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/1.png", "a/2.png", "b/1.png", "c/1.png", "c/2.png")
    folder_of(tmp_path, "c/1.png", "c/2.png", picture=np.zeros((10, 10), np.uint8))
    with pytest.raises(DataError, match="'b' has 1 picture"):
        brought(tmp_path)


def test_nobody_left_is_said(tmp_path: Path) -> None:
    folder_of(tmp_path, "a/1.png", "b/1.png")
    folder_of(tmp_path, "a/2.png", "b/2.png", picture=np.zeros((10, 10), np.uint8))
    with pytest.raises(DataError, match="nobody of whom 2 pictures or more could be used"):
        brought(tmp_path)


def test_photos_without_a_face_are_counted_with_the_people_they_cost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = face_models(tmp_path / "models")
    photos = tmp_path / "photos"
    for person in range(1, 7):
        for i in range(4):
            picture = photo({(16 + 4 * i, 16): person} if person > 1 or not i else {})
            folder_of(photos, f"{person}/{i}.png", picture=picture)
    bring = bringing_faces(read_model_folder(models / "encoder"), None, threads=1)
    pictures, left_out = bring_all(labelled_files([photos]), bring)
    assert left_out == LeftOut(files=3, subjects=("1",))
    assert pictures.subjects == ("2", "3", "4", "5", "6")
    assert len(pictures.inputs) == 20
    options = ["--model", str(models / "encoder"), "--data", str(photos), "--ways", "3", "--trials", "10"]
    assert cli.main(["evaluate", *options]) == 0
    assert "no face found in 3 pictures; they are left out, and so are 1 of 6 people" in capsys.readouterr().err


def test_a_picture_outside_a_subjects_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1\.png lies in no subject's folder"):
        read_examples([folder_of(tmp_path / "f", "1.png")], gray_of(10, 10))
    with pytest.raises(DataError, match=r"1\.png lies in no subject's folder"):
        read_examples([zip_of(tmp_path / "z.zip", "1.png")], gray_of(10, 10))


def test_omniglot_has_the_published_counts(omniglot: Path) -> None:
    backgrounds = [omniglot / f"images_background_small{i}.zip" for i in (1, 2)]
    training = read_examples(backgrounds, gray_of(105, 105))
    validation = read_examples([omniglot / "images_validation.zip"], gray_of(105, 105))
    assert (len(training.subjects), len(training.groups), len(training.inputs)) == (242, 8, 4840)
    assert (len(validation.subjects), len(validation.groups), len(validation.inputs)) == (277, 10, 5540)
    assert not set(training.groups) & set(validation.groups)
