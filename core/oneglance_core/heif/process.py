"""Decodes one HEIC or AVIF, as a process of its own: ``python -I -B process.py FORMAT WIDTH HEIGHT MEMORY SECONDS
FOLDER...``, the folders that have Pillow and pillow-heif.

The codecs are large and have had faults that a made-up file could use. So what decodes a file knows no key and no
gallery, has a ceiling of memory and of processor time, can open neither file nor socket, and ends with the picture.

Reads the file from stdin. Writes ``MODE WIDTH HEIGHT PROFILE`` and a line end, then an ICC profile of PROFILE bytes,
and the samples, upright, 8 bits each, to stdout; or says on stderr why not. It imports nothing of oneglance.

Exit status: 0, 1 for a file that can't be decoded, 3 for more memory than it may have.
"""

import ctypes
import io
import resource
import signal
import sys
from importlib import import_module

DAMAGED, TOO_LARGE = 1, 3
_END_WITH_PARENT = 1  # PR_SET_PDEATHSIG
_STRIP_PIXELS = 1 << 20
_MAX_PROFILE_BYTES = 4 << 20  # larger ones are not used


def main(format: str, width: int, height: int, memory: int, seconds: int) -> int:
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, seconds)
    _limit(resource.RLIMIT_AS, memory)
    _limit(resource.RLIMIT_FSIZE, 64 + _MAX_PROFILE_BYTES + 4 * width * height)
    ctypes.CDLL(None).prctl(_END_WITH_PARENT, signal.SIGKILL)
    data = sys.stdin.buffer.read()
    try:
        from PIL import AvifImagePlugin, Image, ImageOps

        Image.MAX_IMAGE_PIXELS = None  # the size was looked at
        if format == "HEIC":
            import pillow_heif

            pillow_heif.options.DECODE_THREADS = 1
            pillow_heif.options.THUMBNAILS = False
            pillow_heif.options.AUX_IMAGES = False
            pillow_heif.options.DEPTH_IMAGES = False
        else:
            AvifImagePlugin.DEFAULT_MAX_THREADS = 1
        import_module("PIL.TiffImagePlugin")  # it reads EXIF; from here on nothing can be opened
        _limit(resource.RLIMIT_NOFILE, 0)
        if format == "HEIC":
            picture = pillow_heif.open_heif(io.BytesIO(data)).to_pillow()
            picture.info.pop("exif", None)  # it is upright already, whatever EXIF says
        else:
            picture = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
        if min(picture.size) > min(width, height) or max(picture.size) > max(width, height):
            return _say(DAMAGED, f"{picture.width} x {picture.height} pixels, its header says {width} x {height}")
        picture.load()
        if format == "AVIF":
            picture = ImageOps.exif_transpose(picture)
        if picture.mode.startswith("I;16"):  # gray of 10 or 12 bits, scaled to 16: the higher byte
            picture = Image.frombytes("L", picture.size, picture.tobytes()[1::2])
        mode = "RGBA" if picture.has_transparency_data else "L" if picture.mode == "L" else "RGB"
        profile = picture.info.get("icc_profile") or b""
        if len(profile) > _MAX_PROFILE_BYTES:
            profile = b""
        out = sys.stdout.buffer
        out.write(f"{mode} {picture.width} {picture.height} {len(profile)}\n".encode() + profile)
        rows = max(1, _STRIP_PIXELS // picture.width)
        for top in range(0, picture.height, rows):
            strip = picture.crop((0, top, picture.width, min(top + rows, picture.height)))
            out.write(strip.convert(mode).tobytes())
        out.flush()
    except MemoryError:
        return _say(TOO_LARGE, "more memory than it may have")
    except Exception as error:
        return _say(DAMAGED, str(error) or type(error).__name__)
    return 0


def _limit(which: int, most: int) -> None:
    """No more than so much, nor than the host allows."""
    hard = resource.getrlimit(which)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(which, (most, most))


def _say(status: int, text: str) -> int:
    print(text[:500], file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.path += sys.argv[6:]
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:6])))
