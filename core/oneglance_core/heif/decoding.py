"""The pixels of a HEIC or AVIF, decoded by a process of its own; ``process.py`` says why, and which limits it has."""

import importlib.util
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from PIL import Image

from oneglance_core.heif.header import HeifHeader
from oneglance_core.picture_error import PictureError

MAX_PIXELS = 64_000_000  # whatever the other limits are: decoding takes 11 bytes a pixel
_PROCESS = Path(__file__).with_name("process.py")
_MEMORY, _MEMORY_A_PIXEL = 256 << 20, 16
_SECONDS, _PIXELS_A_SECOND = 2, 1_000_000  # of processor time; 40 million a second are usual
_PATIENCE = 20  # so many times as long on the clock, on a machine with too much to do
_FIRST_LINE = 64
_TOO_LARGE = 3
_OUT_OF_TIME = -signal.SIGXCPU
_KILLED = -signal.SIGKILL
_NO_CODEC = "HEIC pictures need pillow-heif where they are decoded: pip install 'oneglance[heic]'"


def check_heif(header: HeifHeader) -> None:
    """Raises PictureError for a picture that would not be decoded here, whatever is in it."""
    if header.most_pixels > MAX_PIXELS:
        raise PictureError("IMAGE_TOO_LARGE", f"{header.most_pixels} pixels, at most {MAX_PIXELS} of a {header.format}")
    if header.format == "HEIC" and importlib.util.find_spec("pillow_heif") is None:
        raise PictureError("IMAGE_UNDECODABLE", _NO_CODEC)


def decode_heif(data: bytes, header: HeifHeader) -> Image.Image:
    """Upright, in mode L, RGB or RGBA, with its ICC profile in ``info``.

    Raises PictureError; MemoryError where no process can be started for it.
    """
    check_heif(header)
    pixels = header.width * header.height
    seconds = _SECONDS + pixels // _PIXELS_A_SECOND
    memory = _MEMORY + _MEMORY_A_PIXEL * header.most_pixels
    limits = map(str, (header.width, header.height, memory, seconds))
    # -B: what it may write at most would cut off the bytecode that Python writes for modules.
    with _nameless_file() as file:
        try:
            ended = subprocess.run(
                [sys.executable, "-I", "-B", _PROCESS, header.format, *limits, *_folders()],
                input=data,
                stdout=file,
                stderr=subprocess.PIPE,
                env={},
                timeout=_PATIENCE * seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise _too_much(f"{_PATIENCE * seconds} s") from error
        except OSError as error:
            raise MemoryError(f"no process to decode a picture: {error}") from error
        if ended.returncode == _OUT_OF_TIME:
            raise _too_much(f"{seconds} s of processor time")
        if ended.returncode == _KILLED:
            raise MemoryError("the process that decoded a picture was killed")
        if ended.returncode == _TOO_LARGE:
            raise _too_much(f"{memory >> 20} MiB of memory")
        if ended.returncode != 0:
            told = ended.stderr.decode(errors="replace").strip().splitlines()
            raise PictureError("IMAGE_UNDECODABLE", f"damaged picture: {told[-1] if told else 'its decoder failed'}")
        return _read(file.fileno())


def _folders() -> list[str]:
    """Where packages are that its isolation may hide: those of the user, or of PYTHONPATH."""
    found = (importlib.util.find_spec(name) for name in ("PIL", "pillow_heif"))
    return list({str(Path(one.origin).parents[1]) for one in found if one is not None and one.origin is not None})


def _read(written: int) -> Image.Image:
    with mmap.mmap(written, 0, prot=mmap.PROT_READ) as content:
        line, _, _ = content[:_FIRST_LINE].partition(b"\n")
        mode, width, height, of_profile = line.decode().split()
        size = int(width), int(height)
        start = len(line) + 1
        samples = start + int(of_profile)
        view = memoryview(content)[samples:]
        try:
            picture = Image.frombytes(mode, size, view)
            picture.info["icc_profile"] = content[start:samples]
            return picture
        finally:
            view.release()


def _nameless_file() -> IO[bytes]:
    """In memory; it is gone when it is closed."""
    return os.fdopen(os.memfd_create("picture"), "w+b")


def _too_much(limit: str) -> PictureError:
    return PictureError("IMAGE_TOO_LARGE", f"more work to decode than a picture of its size: more than {limit}")
