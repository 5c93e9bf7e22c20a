"""Labelled data of every source and kind: read alike, bad ones named, what is lost told."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from oneglance_core.manifests import InputSpec
from oneglance_core.pictures import encoder_input
from oneglance_core.tensors import TensorError, tensor_input
from oneglance_exporter.data.files import labelled_files
from oneglance_exporter.data.photos import LIMITS
from oneglance_exporter.data.reading import bring_all, bringing, read_examples
from oneglance_exporter.data.spelling import checked
from oneglance_exporter.data.storage import storage
from oneglance_exporter.data.survey import Statistics, Survey, array_spec
from oneglance_exporter.encoder.data import read_training_data
from oneglance_exporter.encoder.settings import TrainSettings
from oneglance_exporter.errors import DataError, RunError, SettingsError

Array = npt.NDArray[Any]
GRAY = InputSpec(kind="image", shape=(10, 10, 1), dtype="uint8", color="gray")
SIGNAL = InputSpec(kind="signal", shape=(6, 2), dtype="float32")


def png(pixels: Array) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def shade(level: int, size: tuple[int, ...] = (10, 10)) -> bytes:
    return png(np.full(size, level, np.uint8))


def folder_of(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return root


def tar_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return path


FILES = {f"{subject}/{i}.png": shade(40 * i + 10 * s) for s, subject in enumerate("abc") for i in range(3)}


def as_zip(root: Path) -> Path:
    with zipfile.ZipFile(root / "z.zip", "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
            archive.writestr(f"__MACOSX/{name.replace('/', '/._')}", b"no picture")
    return root / "z.zip"


def as_csv(root: Path) -> Path:
    folder_of(root / "flat", {name.replace("/", "-"): content for name, content in FILES.items()})
    lines = [f"flat/{name.replace('/', '-')},{name[0]}" for name in FILES]
    (root / "list.csv").write_text("\n".join(["path,label", *lines]))
    return root / "list.csv"


def as_shard(extension: str, label: Callable[[str], bytes]) -> Callable[[Path], Path]:
    def make(root: Path) -> Path:
        files: dict[str, bytes] = {}
        for name, content in FILES.items():
            key = name.replace("/", "")
            files |= {f"{key}.png": content, f"{key}.{extension}": label(name[0]), f"._{key}.png": b"no picture"}
        return tar_of(root / "shard.tar", files)

    return make


def as_folders_in_a_tar(root: Path) -> Path:
    return tar_of(root / "shard.tar", FILES)


def as_npz(root: Path) -> Path:
    pixels = [np.asarray(Image.open(io.BytesIO(content)))[..., None] for content in FILES.values()]
    np.savez(root / "all.npz", inputs=np.stack(pixels), subjects=np.array([name[0] for name in FILES]))
    return root / "all.npz"


@pytest.mark.parametrize(
    "made",
    [
        as_zip,
        as_csv,
        as_shard("cls", str.encode),
        as_shard("txt", lambda label: f"{label}\n".encode()),
        as_shard("json", lambda label: json.dumps({"label": label, "drawer": 3}).encode()),
        as_folders_in_a_tar,
        as_npz,
    ],
)
def test_every_source_reads_as_the_folder_it_packs(tmp_path: Path, made: Callable[[Path], Path]) -> None:
    hidden = {name.replace("/", "/._"): b"no picture" for name in FILES}
    folder = read_examples([folder_of(tmp_path / "folder", FILES | hidden)], GRAY)
    packed = read_examples([made(tmp_path)], GRAY)
    assert packed.subjects == folder.subjects == ("a", "b", "c")
    assert packed.subject_of.tolist() == folder.subject_of.tolist()
    np.testing.assert_array_equal(packed.inputs, folder.inputs)


def test_shards_are_one_set_and_their_names_keep_files_apart(tmp_path: Path) -> None:
    files = {"0.png": shade(1), "0.cls": b"7", "1.png": shade(9), "1.cls": b"8"}
    shards = [tar_of(tmp_path / f"{i}.tar", files) for i in range(2)]
    examples = read_examples(shards, GRAY)
    assert examples.subjects == ("7", "8")
    assert examples.subject_of.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"file,label\nx.png,a\n", "needs the columns path and label, has file, label"),
        ("l.csv", b"path,label\nx.png,a\n", r"line 2: x\.png: no such file"),
        ("l.csv", b"path,label\nx.png,\n", "line 2 has no label"),
        ("l.csv", b"path,label\n,a\n", "line 2 has no path"),
        ("l.csv", b"path,label\nx.doc,a\n", r"line 2: x\.doc ends in none of"),
        ("l.csv", b"path,label\n\xff,a\n", "can't be read"),
        ("s.tar", b"no tar at all", "no tar, or damaged"),
        ("a.npz", b"no npz", "can't be read"),
    ],
)
def test_an_unusable_list_or_pack_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: {message}"):
        read_examples([tmp_path / name], GRAY)


def test_a_shard_member_without_a_label_is_named(tmp_path: Path) -> None:
    shard = tar_of(tmp_path / "s.tar", {"0.png": shade(1), "0.cls": b"7", "1.png": shade(2)})
    with pytest.raises(DataError, match=r"s\.tar: 1\.png has no label"):
        read_examples([shard], GRAY)
    shard = tar_of(tmp_path / "t.tar", {"0.png": shade(1), "0.json": b"{}"})
    with pytest.raises(DataError, match=r"t\.tar: 0\.json: holds no label"):
        read_examples([shard], GRAY)


def test_a_shard_that_is_cut_off_is_named(tmp_path: Path) -> None:
    shard = tar_of(tmp_path / "s.tar", FILES)
    files = labelled_files([shard])
    shard.write_bytes(shard.read_bytes()[:600])
    with pytest.raises(DataError, match=r"s\.tar: a/1\.png: cut off|can't be decoded"):
        bring_all(files, bringing(GRAY))


def arrays(root: Path, *found: Array) -> Path:
    return folder_of(root, {f"{'ab'[i % 2]}/{i}.npy": npy(array) for i, array in enumerate(found)})


def test_arrays_are_given_as_they_are_with_channels_last(tmp_path: Path) -> None:
    rows = [np.random.default_rng(i).standard_normal((6, 2)) for i in range(4)]
    examples = read_examples([arrays(tmp_path, *rows)], SIGNAL)
    assert examples.inputs.shape == (4, 6, 2)
    assert examples.inputs.dtype == np.float32
    np.testing.assert_array_equal(examples.inputs[1], rows[2].astype(np.float32))
    file = io.BytesIO()
    np.savez(file, only=rows[0])
    (tmp_path / "a" / "0.npy").unlink()
    folder_of(tmp_path, {"a/0.npz": file.getvalue()})
    np.testing.assert_array_equal(read_examples([tmp_path], SIGNAL).inputs, examples.inputs)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([[1.0, np.nan]] * 6), "NaN, infinite"),
        (np.array([[1.0, np.inf]] * 6), "NaN, infinite"),
        (np.full((6, 2), 1e300), "too large for float32"),
        (np.zeros((6, 3)), "has 3 channels, the encoder takes 2"),
        (np.zeros((7, 2)), "is 7 x 2, the encoder takes 6 x 2"),
        (np.zeros((6, 2, 1)), "has 3 axes; 1 are needed, or 2 with the channels last"),
        (np.zeros((0, 2)), "is empty"),
        (np.array([["a", "b"]] * 6), "numbers are needed"),
    ],
)
def test_an_array_that_can_not_be_used_is_named(tmp_path: Path, array: Array, message: str) -> None:
    with pytest.raises(DataError, match=rf"b/1\.npy: .*{message}"):
        read_examples([arrays(tmp_path, np.zeros((6, 2)), array, np.zeros((6, 2)), np.zeros((6, 2)))], SIGNAL)


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a/0\.npy"):
        read_examples([arrays(tmp_path, np.array([{}, 1], dtype=object), *[np.zeros((6, 2))] * 3)], SIGNAL)


def test_arrays_of_other_lengths_are_cut_or_followed_by_zeros() -> None:
    spec = SIGNAL.model_copy(update={"fit": "pad"})
    long, short = np.arange(16.0).reshape(8, 2), np.ones((4, 2))
    np.testing.assert_array_equal(tensor_input(long, spec), long[:6])
    np.testing.assert_array_equal(tensor_input(short, spec), np.concatenate([short, np.zeros((2, 2))]))
    with pytest.raises(TensorError, match="the encoder takes uint8"):
        tensor_input(short, InputSpec(kind="signal", shape=(4, 2), dtype="uint8"))


def test_the_shape_of_arrays_is_theirs_or_said(tmp_path: Path) -> None:
    folder = arrays(tmp_path, *[np.zeros((length, 2), np.float32) for length in (5, 6, 6, 9)])
    with pytest.raises(DataError, match=r"3 sizes: 6 x 2 \(2\).*--fit pad"):
        array_spec([folder], "signal", (), None)
    assert array_spec([folder], "signal", (), "pad").shape == (9, 2)
    assert array_spec([folder], "signal", (6,), "pad").shape == (6, 2)
    with pytest.raises(SettingsError, match="--size takes 1 number"):
        array_spec([folder], "signal", (6, 6), None)
    with pytest.raises(DataError, match="no array of 3 axes"):
        array_spec([folder], "volume", (), None)
    bytes_only = arrays(tmp_path / "bytes", *[np.zeros((4, 5), np.uint8)] * 4)
    spec = array_spec([bytes_only], "plane", (), None)
    assert (spec.shape, spec.dtype) == ((4, 5, 1), "uint8")


@pytest.mark.parametrize("size", [(20, 10), (10, 20), (7, 10), (30, 31)])
def test_the_aspect_is_kept_by_white_sides_or_by_cutting(size: tuple[int, int]) -> None:
    content = shade(50, size)
    spec = InputSpec(kind="image", shape=(12, 12, 1), dtype="uint8", color="gray")
    stretched, padded, cropped = (
        encoder_input(content, spec.model_copy(update={"fit": fit}), LIMITS)[..., 0] for fit in (None, "pad", "crop")
    )
    assert (stretched == 50).all()
    assert (cropped == 50).all()
    inside = [max(1, round(side * 12 / max(size))) for side in size]
    assert (padded == 50).sum() == inside[0] * inside[1]
    assert (padded == 255).sum() == 144 - inside[0] * inside[1]
    assert (padded[6] == 50).any()


def test_what_juts_out_is_cut_off_on_both_sides() -> None:
    bands = np.full((10, 30), 200, np.uint8)
    bands[:, 10:20] = 100
    spec = InputSpec(kind="image", shape=(10, 10, 1), dtype="uint8", color="gray", fit="crop")
    assert (encoder_input(png(bands), spec, LIMITS) == 100).all()
    upright = encoder_input(png(bands.T), spec.model_copy(update={"fit": "pad"}), LIMITS)[..., 0]
    assert (upright[:, 3:6] < 255).all()
    assert (upright[:, [0, 1, 2, 6, 7, 8, 9]] == 255).all()


def test_a_fit_is_part_of_the_contract_and_the_old_digests_stay() -> None:
    assert "fit" not in GRAY.contract()
    assert GRAY.model_copy(update={"fit": "pad"}).contract()["fit"] == "pad"
    with pytest.raises(ValueError, match="crop is for images"):
        InputSpec(kind="signal", shape=(4, 2), dtype="float32", fit="crop")


def read(root: Path, told: list[str], **settings: Any) -> Any:
    made = TrainSettings(data=(str(root),), steps=1, **settings)
    return read_training_data(made, root, told.append)


def test_what_is_lost_on_the_way_in_is_told(tmp_path: Path) -> None:
    red = np.zeros((20, 40, 3), np.uint8)
    red[..., 0] = 200
    gray = png(np.full((20, 40, 3), 90, np.uint8))
    folder_of(tmp_path, {"a/0.png": png(red), "a/1.png": gray, "b/0.png": shade(3), "b/1.png": shade(4)})
    told: list[str] = []
    read(tmp_path, told, size=(10, 10), augment="none")
    assert told[0] == "the encoder takes images of 10 x 10 x 1, uint8; others are stretched"
    assert "4 examples of 2 subjects in 1 group(s); 2 to 2 of each" in told[1]
    assert "20 x 40 (2), 10 x 10 (2)" in told[1]
    lost = "\n".join(told[2:])
    assert "lost: colour: 1 of 4 pictures become gray; --color rgb keeps it" in lost  # a gray one in colours isn't lost
    assert "lost: detail: 2 of 4 pictures are larger than 10 x 10" in lost
    assert "lost: aspect: 2 of 4 pictures are stretched; --fit pad or --fit crop keeps it" in lost
    told.clear()
    read(tmp_path, told, size=(40, 40), color="rgb", fit="pad")
    assert not [line for line in told if "lost" in line]
    told.clear()
    read(tmp_path, told, size=(40, 40), color="rgb", fit="crop")
    assert [line.partition("lost: ")[2] for line in told if "lost" in line] == [
        "edges: of 2 of 4 pictures two are cut off; --fit pad keeps them"
    ]


def test_signals_that_are_cut_are_told(tmp_path: Path) -> None:
    arrays(tmp_path, *[np.ones((length, 1)) for length in (5, 8, 9, 4)])
    told: list[str] = []
    data = read(tmp_path, told, input="signal", size=(5,), fit="pad")
    assert data.spec.shape == (5, 1)
    assert "lost: ends: 2 of 4 arrays are cut off at 5; see --size" in told[-1]


def test_broken_files_are_named_and_left_out_on_request(tmp_path: Path) -> None:
    folder_of(tmp_path, FILES | {"a/9.png": b"no picture", "d/0.png": shade(1), "d/1.png": b""})
    told: list[str] = []
    with pytest.raises(DataError, match=r"a/9\.png: can't be decoded"):
        read(tmp_path, told)
    told.clear()
    data = read(tmp_path, told, on_broken="skip")
    assert data.examples.subjects == ("a", "b", "c")
    assert len(data.examples.inputs) == 9
    assert next(line for line in told if line.startswith("left out: ")).startswith(f"left out: {tmp_path}: a/9.png")
    assert "--data: 2 file(s) are left out, and so are all of 1 subject(s), as 'd'" in told


def test_one_class_one_picture_and_an_empty_split_are_named(tmp_path: Path) -> None:
    folder_of(tmp_path, FILES)
    folder_of(tmp_path / "x", {"a/1.png": shade(1), "a/2.png": shade(2)})
    with pytest.raises(DataError, match=r"--data: one subject only \('a'\)"):
        read(tmp_path / "x", [])
    with pytest.raises(DataError, match=r"--validation: one subject only"):
        read(tmp_path, [], validation=(str(tmp_path / "x"),))
    (tmp_path / "y").mkdir()
    with pytest.raises(DataError, match="y: no pictures in it"):
        read(tmp_path, [], validation=(str(tmp_path / "y"),))
    with pytest.raises(DataError, match="'a' has 1 picture"):
        read(folder_of(tmp_path / "z", {"a/1.png": shade(1), "b/1.png": shade(2)}), [])


def test_subjects_of_two_spellings_are_refused_or_what_the_user_says(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {f"{name}/{i}.png": shade(i) for name in ("Ann Lee", "ann_lee", "Bo") for i in (1, 2)})
    folder_of(root, {"Ann Lee/3.png": shade(3)})
    with pytest.raises(DataError, match="'Ann Lee' and 'ann_lee' are one name in two spellings"):
        read(root, [])
    assert read(root, [], spellings="distinct").examples.subjects == ("Ann Lee", "Bo", "ann_lee")
    one = read(root, [], spellings="one").examples
    assert one.subjects == ("Ann Lee", "Bo")
    assert np.bincount(one.subject_of).tolist() == [5, 2]
    apart = folder_of(tmp_path / "x", {"Greek/a/1.png": shade(1), "Latin/a/1.png": shade(1)})
    assert len(checked(labelled_files([apart]), "refuse")) == 2
    accents = folder_of(tmp_path / "y", {"Zoe\u0308/1.png": shade(1), "Zo\u00eb/1.png": shade(1)})
    with pytest.raises(DataError, match="two spellings"):
        checked(labelled_files([accents]), "refuse")


def test_sets_beyond_memory_lie_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder_of(tmp_path / "data", FILES)
    whole = read(root, []).examples
    stored = read(root, [], memory_bytes=100).examples
    assert isinstance(stored.inputs, np.memmap)
    np.testing.assert_array_equal(stored.inputs, whole.inputs)
    assert sorted(path.name for path in root.iterdir()) == ["a", "b", "c"]

    def full(*arguments: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(RunError, match=r"no room for .* bytes of examples: .*No space left"):
        storage(tmp_path, 10)((4, 4), np.dtype(np.float32))


def test_statistics_are_of_the_examples(tmp_path: Path) -> None:
    examples = read_examples([folder_of(tmp_path, FILES | {"a/5.png": shade(9)})], GRAY)
    assert Statistics.of(examples) == Statistics(10, 3, 1, 3, 3.0, 4)
    survey = Survey(GRAY)
    bring_all(labelled_files([tmp_path]), survey.watching(bringing(GRAY)))
    assert survey.told() == "10 x 10 (10)"
