"""Labelled data in Parquet: paths, contents and tensors, read as the folder that they were made from."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from oneglance_core.manifests import InputSpec
from oneglance_exporter.api import export, train
from oneglance_exporter.data.reading import read_examples
from oneglance_exporter.errors import DataError
from oneglance_exporter.runtime import encoder_of

arrow: Any = pytest.importorskip("pyarrow", reason="pip install 'oneglance[parquet]'")
from pyarrow import parquet  # noqa: E402

GRAY = InputSpec(kind="image", shape=(10, 10, 1), dtype="uint8", color="gray")
SIGNAL = InputSpec(kind="signal", shape=(6, 2), dtype="float32")
PIXELS = {(s, i): np.full((10, 10, 1), 40 * i + 10 * n, np.uint8) for n, s in enumerate("abc") for i in range(3)}
LABELS = [subject for subject, _ in PIXELS]


def png(pixels: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(file, "PNG")
    return file.getvalue()


def folder_of(root: Path) -> Path:
    for (subject, number), pixels in PIXELS.items():
        (root / subject).mkdir(parents=True, exist_ok=True)
        (root / subject / f"{number}.png").write_bytes(png(pixels))
    return root


def table(file: Path, columns: dict[str, Any]) -> Path:
    parquet.write_table(arrow.table(columns), file, row_group_size=4)
    return file


def paths(root: Path) -> dict[str, Any]:
    folder_of(root / "files")
    return {"path": [f"files/{subject}/{number}.png" for subject, number in PIXELS], "label": LABELS}


def contents(root: Path) -> dict[str, Any]:
    return {"bytes": [png(pixels) for pixels in PIXELS.values()], "label": LABELS}


def structs_in_another_order(root: Path) -> dict[str, Any]:
    """As datasets of Hugging Face have them, with numbers for labels."""
    rows = [({"bytes": png(pixels), "path": None}, "abc".index(subject)) for (subject, _), pixels in PIXELS.items()]
    rows = rows[::2] + rows[1::2]
    return {"image": [content for content, _ in rows], "label": [label for _, label in rows]}


def flat_lists(root: Path) -> dict[str, Any]:
    flat = [pixels.ravel() for pixels in PIXELS.values()]
    return {"input": arrow.array(flat, arrow.list_(arrow.uint8())), "shape": [[10, 10, 1]] * 9, "label": LABELS}


def nested_lists(root: Path) -> dict[str, Any]:
    kind = arrow.list_(arrow.list_(arrow.list_(arrow.uint8(), 1)))
    return {"input": arrow.array([pixels.tolist() for pixels in PIXELS.values()], kind), "label": LABELS}


def tensors(root: Path) -> dict[str, Any]:
    stacked = np.stack(list(PIXELS.values()))
    return {"input": arrow.FixedShapeTensorArray.from_numpy_ndarray(stacked), "label": LABELS}


@pytest.mark.parametrize("made", [paths, contents, structs_in_another_order, flat_lists, nested_lists, tensors])
def test_every_kind_of_column_reads_as_the_folder(tmp_path: Path, made: Callable[[Path], dict[str, Any]]) -> None:
    folder = read_examples([folder_of(tmp_path / "folder")], GRAY)
    packed = read_examples([table(tmp_path / "all.parquet", made(tmp_path))], GRAY)
    assert packed.subject_of.tolist() == folder.subject_of.tolist()
    for number in range(3):
        own, theirs = packed.inputs[packed.subject_of == number], folder.inputs[folder.subject_of == number]
        assert {row.tobytes() for row in own} == {row.tobytes() for row in theirs}


def test_signals_of_several_lengths(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal((length, 2)) for length in (5, 6, 4, 6)]
    file = table(tmp_path / "all.parquet", {"input": [wave.tolist() for wave in waves], "label": [1, 1, 2, 2]})
    examples = read_examples([file], SIGNAL.model_copy(update={"fit": "pad"}))
    assert examples.subjects == ("1", "2")
    np.testing.assert_array_equal(examples.inputs[1], waves[1].astype(np.float32))
    np.testing.assert_array_equal(examples.inputs[2][:4], waves[2].astype(np.float32))


def test_an_encoder_is_trained_and_exported_from_tensors(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    waves = [rng.standard_normal((12, 2)).tolist() for _ in range(8)]
    file = table(tmp_path / "all.parquet", {"input": waves, "label": [number // 2 for number in range(8)]})
    train(file, tmp_path / "run", input="signal", steps=2, classes_per_batch=4, examples_per_class=2, dimension=8)
    manifest = export(tmp_path / "run", tmp_path / "model", "mine")
    assert manifest.input.shape == (12, 2)
    found = encoder_of((tmp_path / "model" / "model.onnx").read_bytes(), 1)(np.array(waves, np.float32))
    assert found.shape == (8, 8)


WAVE = [[1.0, 2.0]] * 6


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"input": [WAVE], "name": ["a"]},
            "needs the column label, and one of path, bytes, image, input; has input, name",
        ),
        ({"input": [WAVE], "path": ["a"], "label": ["a"]}, "needs the column label, and one of"),
        ({"input": [WAVE, WAVE], "label": ["a", None]}, "row 1 has no label"),
        ({"input": [WAVE, WAVE], "label": ["a", " "]}, "row 1 has no label"),
        ({"input": [WAVE, None], "label": ["a", "a"]}, "row 1 has no content"),
        ({"path": ["", ""], "label": ["a", "a"]}, "row 0 has no content: an empty path"),
        (
            {"input": [WAVE, [[1.0], [1.0, 2.0]]], "label": ["a", "a"]},
            "row 1 has no content: all input arrays must have",
        ),
        ({"input": [WAVE, [[1.0, float("nan")]] * 6], "label": ["a", "a"]}, "row 1: .*NaN, infinite"),
        ({"input": [WAVE, [[1.0, None]] * 6], "label": ["a", "a"]}, "row 1: .*NaN, infinite"),
        ({"input": [["x"], ["y"]], "label": ["a", "a"]}, "row 0 has no content: numbers are needed"),
        (
            {"input": [[1.0] * 12] * 2, "shape": [[6, 2], [5, 2]], "label": ["a", "a"]},
            "row 1 has no content: cannot reshape",
        ),
        ({"input": [1.0, 2.0], "label": ["a", "a"]}, "the column input is double: neither text"),
        ({"image": [{"path": "x"}], "label": ["a"]}, "the column image is struct.*: neither text"),
        ({"path": ["x.npy"], "label": ["a"]}, r"row 0: x\.npy: no such file"),
        ({"bytes": [b"nothing", b"x"], "label": ["a", "a"]}, "row 0: "),
        (
            {"input": arrow.array([], arrow.list_(arrow.float32())), "label": arrow.array([], arrow.string())},
            "no arrays",
        ),
    ],
)
def test_rows_and_columns_that_can_not_be_used_are_named(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    file = table(tmp_path / "all.parquet", columns)
    with pytest.raises(DataError, match=rf"all\.parquet: {message}"):
        read_examples([file], SIGNAL)


def test_a_row_that_can_not_be_used_is_left_out_on_request(tmp_path: Path) -> None:
    waves = [WAVE, WAVE, None, [[1.0], [1.0, 2.0]], WAVE, WAVE, [[1.0, float("nan")]] * 6]
    file = table(tmp_path / "all.parquet", {"input": waves, "label": list("aaabbbb")})
    told: list[str] = []
    small: dict[str, Any] = {"classes_per_batch": 2, "examples_per_class": 2, "dimension": 8}
    train(file, tmp_path / "run", input="signal", steps=1, on_broken="skip", tell=told.append, **small)
    left_out = [line.partition("all.parquet: ")[2][:6] for line in told if line.startswith("left out: ")]
    assert left_out == ["row 2 ", "row 3 ", "row 6:"]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    file = table(tmp_path / "all.parquet", contents(tmp_path))
    whole = file.read_bytes()
    for content in (b"no parquet", whole[:-40], whole[:100] + bytes(200) + whole[300:]):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"all\.parquet"):
            read_examples([file], GRAY)


def test_without_pyarrow_the_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = table(tmp_path / "all.parquet", contents(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError, match=r"all\.parquet: pip install 'oneglance\[parquet\]'"):
        read_examples([file], GRAY)
