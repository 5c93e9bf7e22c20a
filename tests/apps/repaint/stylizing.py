"""Pictures, videos and sounds to stylize, and what became of them."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.apps.watch.videos import Picture

Capture = pytest.CaptureFixture[str]
Run = Callable[..., int]
MOSS = ("--style", "moss")


def noise(seed: int, height: int = 48, width: int = 64) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def blobs(seed: int, height: int = 48, width: int = 64) -> Picture:
    """A smooth picture, which a video codec keeps well."""
    small = Image.fromarray(noise(seed, 4, 5))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC))


def pixels(path: Path) -> Picture:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def left_behind(path: Path) -> list[str]:
    return sorted(p.name for p in path.rglob("*") if p.name.endswith(".part"))


def names(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def read_video(path: Path) -> tuple[Any, list[Picture], list[float]]:
    """The stream of a video, its frames and their times."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        assert stream.codec_context.name == "h264"
        return (
            stream,
            [np.asarray(f.to_ndarray(format="rgb24"), np.uint8) for f in frames],
            [float(f.time) for f in frames],
        )


def write_sound(path: Path, codec: str, video: str = "mpeg4", frames: int = 20) -> None:
    """A video of 20 frames a second: gray pictures, and a tone of one second."""
    with av.open(str(path), "w") as container:
        pictures: Any = container.add_stream(video, rate=20)
        pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
        sound: Any = container.add_stream(codec, rate=48_000)
        sound.layout, sound.bit_rate = "mono", 96_000
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * i % 250, np.uint8), format="rgb24")
            container.mux(pictures.encode(frame))
        tone = (8000 * np.sin(np.arange(48_000) * 2 * np.pi * 440 / 48_000)).astype(np.int16)[np.newaxis]
        for at in range(0, 48_000, 1024):
            part = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone[:, at : at + 1024]), "s16", "mono")
            part.sample_rate, part.pts, part.time_base = 48_000, at, Fraction(1, 48_000)
            container.mux(sound.encode(part))
        container.mux(pictures.encode(None))
        container.mux(sound.encode(None))
