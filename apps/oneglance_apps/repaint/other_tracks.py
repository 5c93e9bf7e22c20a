"""Everything of a video file but its pictures: sound, subtitles, chapters and titles, copied. Needs PyAV."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.container import OutputContainer

COPIED = ("audio", "subtitle")
OF_THE_CONTAINER = (
    "encoder",
    "major_brand",
    "minor_version",
    "compatible_brands",
    "duration",
)  # the new one's are written
OF_A_TRACK = ("duration", "encoder", "number_of_bytes", "number_of_frames", "bps", "vendor_id", "handler_name")


class OtherTracks:
    """The sound and subtitle tracks of a file, copied packet by packet, and its chapters and titles; times are reduced
    by ``start`` seconds.

    copied, left: the tracks, in words; those left can't be in a container of the format, or are of another kind.
    has_sound: whether all sound is copied; None when there is none.
    """

    def __init__(self, path: Path, container_format: str, start: float) -> None:
        self._container = av.open(f"file:{path}")
        pictures: Any = self._container.streams.best("video")
        self.frame_rate = pictures.average_rate or 25
        others = [stream for stream in self._container.streams if stream.index != pictures.index]
        self._tracks: list[Any] = [
            stream for stream in others if stream.type in COPIED and _can_hold(container_format, stream)
        ]
        self.copied = [_words(stream) for stream in self._tracks]
        self.left = [_words(stream) for stream in others if stream not in self._tracks]
        sound = [stream for stream in others if stream.type == "audio"]
        self.has_sound = all(stream in self._tracks for stream in sound) if sound else None
        self._start = start
        self._outputs: dict[int, Any] = {}
        self._packets: Iterator[Any] = iter(())
        self._next_packet: Any = None

    def copy_to(self, container: OutputContainer) -> None:
        """Add the tracks, chapters and titles to a container whose header is not written yet."""
        container.metadata.update(_kept(self._container.metadata, OF_THE_CONTAINER))
        chapters = self._container.chapters()
        for chapter in chapters:
            shift = round(self._start / chapter["time_base"]) if chapter["time_base"] else 0
            chapter["start"], chapter["end"] = max(0, chapter["start"] - shift), max(0, chapter["end"] - shift)
        if chapters:
            container.set_chapters(chapters)
        for stream in self._tracks:
            output: Any = container.add_stream_from_template(stream, opaque=True)
            output.metadata.update(_kept(stream.metadata, OF_A_TRACK))
            output.disposition = stream.disposition
            self._outputs[stream.index] = output
        if self._tracks:
            self._packets = self._container.demux(*self._tracks)

    def until(self, seconds: float | None) -> Iterator[Any]:
        """The next packets, up to a time in the output; None: all that are left."""
        while True:
            try:
                packet = self._next_packet or next(self._packets)
            except (StopIteration, av.FFmpegError):  # the end, or the file breaks off
                return
            self._next_packet = None
            if packet.dts is None or packet.time_base is None:
                continue
            at = float(packet.dts * packet.time_base) - self._start
            if seconds is not None and at > seconds:
                self._next_packet = packet
                return
            shift = round(self._start / packet.time_base)
            packet.dts -= shift
            packet.pts = None if packet.pts is None else packet.pts - shift
            packet.stream = self._outputs[packet.stream.index]
            yield packet

    def close(self) -> None:
        self._container.close()


def _can_hold(container_format: str, stream: Any) -> bool:
    """Only writing the header shows whether a container can hold a track."""
    try:
        with av.open(io.BytesIO(), "w", format=container_format) as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _kept(metadata: dict[str, str], but: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in metadata.items() if name.lower().partition("-")[0] not in but}


def _words(stream: Any) -> str:
    """``subtitle srt (eng)``, ``audio aac``, ``attachment``."""
    codec = stream.codec_context.name if stream.codec_context else ""
    language = stream.metadata.get("language", "")
    return " ".join(filter(None, (stream.type, codec, f"({language})" if language else "")))
