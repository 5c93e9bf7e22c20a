"""What it takes to read and encode a call's examples, from their headers: they are charged before they are decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from oneglance_core.manifests import InputSpec
from oneglance_core.pictures import PictureError, PictureLimits, read_header
from oneglance_core.sound_header import SoundError, SoundHeader
from oneglance_core.sounds import SoundLimits, checked_header
from oneglance_server.calls import Call
from oneglance_server.errors import InvalidRequest
from oneglance_server.offload import Threads
from oneglance_server.service.content import Content, Picture, Sound, Tensor

PIXELS_PER_ENCODING = 16_384  # take about as long to decode as a small picture to encode
_PIXELS_PER_SAMPLE = 4  # take about as long to decode as a sample of a sound to decode and resample
_COUNTED_ON_THE_LOOP = 4096  # bytes of files: drawings take 0.05 ms, whatever is in them 2 ms at most
_HEADER_BYTES = 1 << 16  # of a file; to look through them for its header takes about as long as a short read

Header = TypeVar("Header")


@dataclass(frozen=True, slots=True)
class ContentLimits:
    """Of one picture, of one sound, and of all pictures (in pixels) and all sounds (in seconds) of one call."""

    pictures: PictureLimits
    sounds: SoundLimits
    call_pixels: int
    call_sound_seconds: float


class Work:
    """``headers``: where the headers of files are read."""

    def __init__(self, headers: Threads, limits: ContentLimits) -> None:
        self._headers = headers
        self._limits = limits

    async def of(self, call: Call, contents: Sequence[Content], spec: InputSpec) -> dict[str, int]:
        """What it takes to read each and to encode it, in pixels of a picture that take as long; by path.

        What takes no more than to encode it once isn't in it.

        Raises InvalidRequest for too much in all.
        """
        work: dict[str, int] = {}
        pictures = [content for content in contents if isinstance(content, Picture)]
        if pictures:
            paths = [picture.path for picture in pictures]
            counts = await self.pixels_of(call, [picture.data for picture in pictures], paths)
            work.update(zip(paths, counts, strict=True))
        sounds = [content for content in contents if isinstance(content, Sound)]
        if sounds and spec.sound is not None:
            work |= await self._count_samples(call, sounds, spec, spec.sound.sample_rate)
        if spec.windows is not None:
            for content in contents:
                if isinstance(content, Tensor):
                    work[content.path] = PIXELS_PER_ENCODING * spec.windows.count(content.shape[0])
        return work

    async def pixels_of(self, call: Call, pictures: Sequence[bytes], paths: Sequence[str]) -> list[int]:
        """Of each picture; 0 of one that can't be read. Raises InvalidRequest for too many in all, QuotaExceeded."""
        counts = await self._looked_at(call, pictures, lambda picture: _pixels_of(picture, self._limits.pictures))
        total, most = 0, self._limits.call_pixels
        for path, pixels in zip(paths, counts, strict=True):
            total += pixels
            if total > most:
                raise InvalidRequest.field(
                    path,
                    f"{total} pixels up to this picture, at most {most} in one call",
                    reason="TOO_MANY",
                    limit=most,
                )
        call.spend("pixels", total)
        return counts

    async def _count_samples(
        self, call: Call, sounds: Sequence[Sound], spec: InputSpec, sample_rate: int
    ) -> dict[str, int]:
        limits = self._limits
        headers = await self._looked_at(
            call, [sound.data for sound in sounds], lambda sound: _header_of(sound, limits.sounds)
        )
        work: dict[str, int] = {}
        seconds = 0.0
        for sound, header in zip(sounds, headers, strict=True):
            if header is None:
                continue
            seconds += header.seconds
            if seconds > limits.call_sound_seconds:
                raise InvalidRequest.field(
                    sound.path,
                    f"{seconds:.1f} s up to this sound, at most {limits.call_sound_seconds:g} s in one call",
                    reason="TOO_MANY",
                    limit=limits.call_sound_seconds,
                )
            windows = spec.windows.count(round(header.seconds * sample_rate)) if spec.windows else 1
            samples = header.frames * header.channels
            work[sound.path] = _PIXELS_PER_SAMPLE * samples + PIXELS_PER_ENCODING * windows
        return work

    async def _looked_at(self, call: Call, files: Sequence[bytes], look: Callable[[bytes], Header]) -> list[Header]:
        """What ``look`` finds in each; off the event loop, unless they are small."""
        size = sum(map(len, files))
        if size <= _COUNTED_ON_THE_LOOP:
            return [look(file) for file in files]
        return await self._headers.run_long(
            call, size // _HEADER_BYTES + len(files), lambda: [look(file) for file in files]
        )


def _pixels_of(picture: bytes, limits: PictureLimits) -> int:
    """What its header says; 0 for what can't be used, which is told when its turn comes."""
    try:
        header = read_header(picture, limits)
    except (PictureError, MemoryError):
        return 0
    return header.width * header.height


def _header_of(sound: bytes, limits: SoundLimits) -> SoundHeader | None:
    """None for what can't be used, which is told when its turn comes."""
    try:
        return checked_header(sound, limits)
    except SoundError:
        return None
