"""Who walks by the gate, when: a random script, and its pictures."""

import io
import random
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from PIL import Image, ImageFilter

FPS = 10
SIZE = (640, 360)
START_SECONDS = 12.0  # until then nobody comes: watch starts, and finds the camera
PAUSE_SECONDS = (4.5, 6.0)  # between scenes: longer than --gone
Kind = Literal["alone", "pair", "tailgating", "fast", "far", "blurred", "stranger"]
KINDS: tuple[Kind, ...] = ("alone", "pair", "tailgating", "fast", "far", "blurred", "stranger")


@dataclass(frozen=True)
class Walk:
    """One person in view from ``begin`` to ``end``, in seconds of the script. subject: None: a stranger."""

    kind: Kind
    subject: str | None
    photo: bytes
    begin: float
    end: float
    x: int
    side: int = 250
    blur: float = 0.0


def script(
    known: Mapping[str, Sequence[bytes]], strangers: Sequence[bytes], seconds: float, seed: int = 1
) -> list[Walk]:
    """Scenes in random order until ``seconds``. ``known``: photos per subject that are not enrolled."""
    chance = random.Random(seed)
    walks: list[Walk] = []
    now = START_SECONDS
    names = list(known)
    while now < seconds - 8:
        kind = chance.choice(KINDS)
        first, second = chance.sample(names, 2)
        photo, other = chance.choice(known[first]), chance.choice(known[second])
        stranger = chance.choice(strangers)
        x = chance.randrange(20, 120)
        end = now + 1.5
        if kind == "pair":
            walks += [Walk(kind, first, photo, now, end, x), Walk(kind, second, other, now, end, x + 260)]
        elif kind == "tailgating":
            walks += [Walk(kind, first, photo, now, end, x), Walk(kind, None, stranger, end + 0.5, end + 1.5, x)]
            end += 1.5
        elif kind == "far":
            walks.append(Walk(kind, first, photo, now, end, x + 100, side=200))
        elif kind == "blurred":
            walks.append(Walk(kind, first, photo, now, end, x, blur=6.0))
        elif kind == "stranger":
            walks.append(Walk(kind, None, stranger, now, end + 1.0, x))
            end += 1.0
        else:
            walks.append(Walk(kind, first, photo, now, end - (0.7 if kind == "fast" else 0), x))
        now = end + chance.uniform(*PAUSE_SECONDS)
    return walks


def pictures(walks: Sequence[Walk], seconds: float) -> Iterator[Image.Image]:
    """Ten a second; who walks moves a pixel or two from one to the next."""
    cut: dict[int, Image.Image] = {}
    for number in range(round(seconds * FPS)):
        now = number / FPS
        picture = Image.new("RGB", SIZE, (96, 96, 96))
        for i, walk in enumerate(walks):
            if walk.begin <= now < walk.end:
                if i not in cut:
                    face = Image.open(io.BytesIO(walk.photo)).convert("RGB").resize((walk.side, walk.side))
                    cut[i] = face.filter(ImageFilter.GaussianBlur(walk.blur)) if walk.blur else face
                picture.paste(cut[i], (walk.x + round(15 * (now - walk.begin)), 60))
        yield picture


def encoded(frames: Iterator[Image.Image]) -> Iterator[bytes]:
    """H.264 access units, each with its length before it; one in ten can be begun with."""
    codec: Any = av.CodecContext.create("libx264", "w")
    codec.width, codec.height = SIZE
    codec.pix_fmt, codec.time_base, codec.framerate = "yuv420p", Fraction(1, FPS), Fraction(FPS, 1)
    # One slice a picture: GStreamer would repeat its parameters between those of a picture, and so cut it in two.
    codec.options = {"threads": "1", "preset": "veryfast", "tune": "zerolatency", "crf": "18", "g": str(FPS), "bf": "0"}
    for i, picture in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")
        frame.pts, frame.time_base = i, Fraction(1, FPS)
        for packet in codec.encode(frame):
            data = bytes(packet)
            yield struct.pack(">I", len(data)) + data
