"""HEIC and AVIF: the pixels, and every made-up file refused in words, within memory and time."""

import contextlib
import importlib.util
import io
import os
import resource
import struct
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pillow_heif
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oneglance_core.heif import decoding
from oneglance_core.heif.header import MAX_BOXES, MAX_ITEMS, heif_header
from oneglance_core.manifests import InputSpec
from oneglance_core.pictures import (
    PictureError,
    PictureLimits,
    decode_layers,
    decode_photo,
    encoder_input,
    read_header,
)

LIMITS = PictureLimits(max_image_bytes=1 << 24, max_image_pixels=4_000_000)
SHADES = np.random.default_rng(5).integers(40, 216, (6, 8, 3), dtype=np.uint8)
PIXELS = np.kron(SHADES, np.ones((16, 16, 1), np.uint8))  # 96 x 128


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    if kind == "AVIF":
        picture.save(buffer, kind, **{"quality": 90, "subsampling": "4:4:4", **options})
    else:
        file = pillow_heif.from_pillow(picture)
        file.save(buffer, **{"quality": 95, "chroma": 444, **options})
    return buffer.getvalue()


FILES = {kind: saved(Image.fromarray(PIXELS), kind) for kind in ("HEIC", "AVIF")}
both = pytest.mark.parametrize("kind", FILES)


def refused(data: bytes, limits: PictureLimits = LIMITS) -> tuple[str, str]:
    with pytest.raises(PictureError) as caught:
        decode_photo(data, limits)
    return caught.value.reason, str(caught.value)


def box(kind: bytes, *content: bytes) -> bytes:
    body = b"".join(content)
    return struct.pack(">I4s", 8 + len(body), kind) + body


def file_of(*properties: tuple[int, int], items: int = 1, more: bytes = b"") -> bytes:
    """A HEIC whose header says these sizes, the first of them the picture's, and that has nothing else."""
    sizes = [box(b"ispe", struct.pack(">III", 0, *size)) for size in properties]
    entries = b"".join(struct.pack(">HBB", i + 1, 1, 1) for i in range(items))
    return box(b"ftyp", b"heic", bytes(4), b"mif1heic") + box(
        b"meta",
        bytes(4),
        box(b"pitm", bytes(4), b"\0\1"),
        box(b"iprp", box(b"ipco", *sizes), box(b"ipma", bytes(4), struct.pack(">I", items), entries)),
        more,
    )


@both
def test_the_pixels_and_the_size_come_out(kind: str) -> None:
    data = FILES[kind]
    assert np.abs(decode_photo(data, LIMITS).astype(int) - PIXELS).mean() < 3
    header = read_header(data, LIMITS)
    assert (header.format, header.width, header.height, header.color) == (kind, 128, 96, True)
    spec = InputSpec(kind="image", shape=(6, 8, 1), dtype="uint8", color="gray")
    gray = np.asarray(Image.fromarray(SHADES).convert("L"), int)
    assert np.abs(encoder_input(data, spec, LIMITS)[..., 0] - gray).mean() < 5
    assert decode_layers(data, LIMITS, max_side=64).pixels.shape == (48, 64, 3)


@both
def test_transparency_is_laid_on_white_or_kept(kind: str) -> None:
    alpha = np.zeros((96, 128), np.uint8)
    alpha[:, :64] = 255
    data = saved(Image.fromarray(np.dstack([PIXELS, alpha])), kind)
    photo = decode_photo(data, LIMITS)
    assert (photo[:, 80:] > 250).all()
    assert np.abs(photo[:, :48].astype(int) - PIXELS[:, :48]).mean() < 3
    kept = decode_layers(data, LIMITS, keep_alpha=True).alpha
    assert kept is not None
    assert np.abs(kept.astype(int) - alpha).max() < 8


@both
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_picture_is_upright_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(PIXELS), kind, exif=exif.tobytes())
    jpeg = io.BytesIO()
    Image.fromarray(PIXELS).save(jpeg, "JPEG", quality=95, subsampling=0, exif=exif)
    turned = decode_photo(jpeg.getvalue(), LIMITS)
    photo = decode_photo(data, LIMITS)
    assert photo.shape == turned.shape
    assert np.abs(photo.astype(int) - turned).mean() < 3


def test_a_picture_of_tiles() -> None:
    before = pillow_heif.options.GRID_TILE_SIZE
    pillow_heif.options.GRID_TILE_SIZE = 64
    try:
        large = np.kron(PIXELS, np.ones((3, 3, 1), np.uint8))
        data = saved(Image.fromarray(large), "HEIC")
    finally:
        pillow_heif.options.GRID_TILE_SIZE = before
    assert b"grid" in data
    assert np.abs(decode_photo(data, LIMITS).astype(int) - large).mean() < 3


@pytest.mark.parametrize("mode", ["I;16", "RGB;16"])
def test_ten_bits_a_sample_become_eight(mode: str) -> None:
    deep = np.repeat(np.linspace(0, 65535, 128, dtype=np.uint16)[np.newaxis], 96, axis=0)
    samples = deep if mode == "I;16" else np.repeat(deep[..., np.newaxis], 3, axis=2)
    buffer = io.BytesIO()
    pillow_heif.from_bytes(mode, (128, 96), samples.tobytes()).save(buffer, quality=95)
    photo = decode_photo(buffer.getvalue(), LIMITS)
    assert np.abs(photo[..., 1] - deep / 257.0).mean() < 4


@both
def test_limits_hold_before_anything_is_decoded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "run", start)
    few = PictureLimits(1 << 24, 128 * 96 - 1)
    assert refused(FILES[kind], few) == ("IMAGE_TOO_LARGE", f"128 x 96 pixels, at most {128 * 96 - 1} in all")
    assert refused(FILES[kind], PictureLimits(100, 1 << 20))[0] == "IMAGE_TOO_LARGE"
    with pytest.raises(PictureError):
        read_header(FILES[kind], few)
    read_header(FILES[kind], LIMITS)


@pytest.mark.parametrize(
    ("data", "reason", "word"),
    [
        (file_of((1 << 31, 1 << 31)), "IMAGE_TOO_LARGE", "pixels"),
        (file_of((10, 10), (60_000, 60_000)), "IMAGE_TOO_LARGE", "pixels"),  # a tile of it
        (file_of((10, 10), items=MAX_ITEMS + 1), "IMAGE_UNDECODABLE", "pictures and tiles"),
        (file_of((10, 10), more=box(b"free") * (MAX_BOXES + 1)), "IMAGE_UNDECODABLE", ""),
        (file_of((0, 10)), "IMAGE_UNDECODABLE", "size"),
        (file_of(), "IMAGE_UNDECODABLE", "size"),
        (file_of((10, 10)), "IMAGE_UNDECODABLE", ""),
        (box(b"ftyp", b"heic", bytes(4)), "IMAGE_UNDECODABLE", "meta"),
        (box(b"free") * 9999, "IMAGE_UNDECODABLE", ""),
        (box(b"ftyp", b"avif", bytes(4)) + box(b"free") * 9999, "IMAGE_UNDECODABLE", "boxes"),
    ],
)
def test_made_up_headers_are_refused(data: bytes, reason: str, word: str) -> None:
    started = time.monotonic()
    told = refused(data, PictureLimits(1 << 24, 50_000_000))
    assert told[0] == reason
    assert word in told[1]
    assert time.monotonic() - started < 60


@both
def test_a_header_that_says_less_than_there_is(kind: str) -> None:
    data = FILES[kind].replace(struct.pack(">II", 128, 96), struct.pack(">II", 16, 12))
    assert data != FILES[kind]
    if kind == "HEIC":
        assert refused(data)[0] == "IMAGE_UNDECODABLE"
    else:  # libavif brings it to the size that the header says, within the memory of one
        assert decode_photo(data, LIMITS).shape == (12, 16, 3)


@both
def test_a_truncated_file_is_refused_wherever_it_ends(kind: str) -> None:
    data = FILES[kind]
    for end in (*range(12, 60, 12), *range(60, len(data) - 1, len(data) // 12), len(data) - 1):
        assert refused(data[:end])[0] == "IMAGE_UNDECODABLE"


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(sorted(FILES)),
    flips=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_damage_is_refused_or_decoded_but_never_anything_else(kind: str, flips: list[tuple[float, int]]) -> None:
    data = bytearray(FILES[kind])
    for where, value in flips:
        data[int(where * (len(data) - 1))] = value
    with contextlib.suppress(PictureError):
        assert decode_photo(bytes(data), LIMITS).dtype == np.uint8


@settings(max_examples=300)
@given(
    st.sampled_from([b"heic", b"avif", b"mif1"]), st.binary(max_size=200), st.integers(0, 400), st.binary(max_size=8)
)
def test_any_header_is_read_or_refused(brand: bytes, rest: bytes, at: int, change: bytes) -> None:
    good = bytearray(file_of((10, 10)))
    good[at : at + len(change)] = change
    for data in (box(b"ftyp", brand, bytes(4)) + rest, bytes(good)):
        with contextlib.suppress(ValueError):
            heif_header(data)


def outcome(code: str) -> tuple[str, str]:
    """What becomes of a picture whose decoder runs this code instead."""
    kept = decoding._PROCESS
    script = f"import os, resource, signal, sys, time\nsys.stdin.buffer.read()\n{code}"
    decoding._PROCESS = "-c"  # type: ignore[assignment]
    run = subprocess.run

    def other(command: list[Any], **options: Any) -> Any:
        return run([sys.executable, "-I", "-c", script, *command[3:]], **options)

    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(subprocess, "run", other)
            return refused(FILES["HEIC"])
    finally:
        decoding._PROCESS = kept


def test_a_decoder_that_fails_in_any_way_is_told() -> None:
    assert outcome("os.kill(os.getpid(), signal.SIGSEGV)") == (
        "IMAGE_UNDECODABLE",
        "damaged picture: its decoder failed",
    )
    assert outcome("os.abort()")[0] == "IMAGE_UNDECODABLE"
    assert outcome("resource.setrlimit(resource.RLIMIT_CPU, (1, 2))\nwhile True: pass") == (
        "IMAGE_TOO_LARGE",
        "more work to decode than a picture of its size: more than 2 s of processor time",
    )
    assert outcome("sys.exit(3)")[1].endswith("MiB of memory")
    with pytest.raises(MemoryError):  # the system ended it, for want of memory
        outcome("os.kill(os.getpid(), signal.SIGKILL)")


def test_want_of_processes_is_not_blamed_on_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "run", full)
    with pytest.raises(MemoryError):
        decode_photo(FILES["HEIC"], LIMITS)


def test_without_its_library_a_heic_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    reason, words = refused(FILES["HEIC"])
    assert reason == "IMAGE_UNDECODABLE"
    assert "oneglance[heic]" in words
    assert decode_photo(FILES["AVIF"], LIMITS).shape == PIXELS.shape


def test_what_decodes_knows_no_secret_and_opens_nothing(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its environment is empty, and once the codec runs no file and no socket can be opened."""
    monkeypatch.setenv("ONEGLANCE_MASTER_KEY", "secret")
    seen: dict[str, Any] = {}
    run = subprocess.run

    def watched(command: Any, **options: Any) -> Any:
        seen.update(options, command=command)
        return run(command, **options)

    monkeypatch.setattr(subprocess, "run", watched)
    decode_photo(FILES["HEIC"], LIMITS)
    assert seen["env"] == {}
    assert "-B" in seen["command"]  # else it would leave bytecode behind that is cut off at the limit
    check = "\n".join(
        (
            "import resource, runpy, sys",
            "import pillow_heif",
            "def opens(*_, **__):",
            "    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (0, 0)",
            "    try: open('/etc/hostname')",
            "    except OSError: raise ValueError('as it should be')",
            "    raise ValueError('it could open a file')",
            "pillow_heif.open_heif = opens",
            "sys.argv = ['process.py', 'HEIC', '128', '96', str(1 << 30), '20']",
            f"runpy.run_path({os.fspath(decoding._PROCESS)!r}, run_name='__main__')",
        )
    )
    ended = run([sys.executable, "-I", "-c", check], input=FILES["HEIC"], capture_output=True, check=False)
    assert ended.stderr.decode().strip() == "as it should be"


def test_memory_of_the_decoder_is_bounded() -> None:
    """A picture that takes more than it may is refused, and this process hardly grows."""
    data = saved(Image.new("RGB", (4096, 4096), (9, 8, 7)), "AVIF", speed=10)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lying = data.replace(struct.pack(">II", 4096, 4096), struct.pack(">II", 64, 64))
    for memory, mended in ((60, lying), (100, data)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decoding, "_MEMORY", memory << 20)
            patch.setattr(decoding, "_MEMORY_A_PIXEL", 0)
            assert refused(mended, PictureLimits(1 << 24, 20_000_000))[0] in ("IMAGE_TOO_LARGE", "IMAGE_UNDECODABLE")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # KB


def test_a_grid_of_which_tiles_are_missing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its decoder fills them in without a word."""
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 64)
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    pillow_heif.from_pillow(Image.fromarray(noise).resize((320, 240))).save(buffer)
    grid = buffer.getvalue()
    assert b"grid" in grid
    assert heif_header(grid) is not None
    for cut in (1, 100, len(grid) // 2, len(grid) - len(grid) // 5):
        with pytest.raises(ValueError, match="ends too early"):
            heif_header(grid[:-cut])
