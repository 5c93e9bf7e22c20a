"""``oneglance stylize`` and ``list-styles``: pictures, folders of them and videos in the style of others."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import Message

from oneglance.client.errors import OneglanceError
from oneglance.client.sync_client import Client
from oneglance.v1.stylization_pb2 import StylizedPicture
from oneglance_apps.cli import client as calls
from oneglance_apps.cli import show
from oneglance_apps.cli.client import Options, command
from oneglance_apps.repaint.files import FILMS, FORMATS, SUFFIXES, check_out, picture_format
from oneglance_apps.repaint.folder import Outcome, plan, repaint_folder
from oneglance_apps.repaint.look import Look, repaint
from oneglance_apps.signals import signals_unwind
from oneglance_core.defaults import PICTURE_QUALITY, STEADINESS
from oneglance_core.files import replacing
from oneglance_core.progress import Progress

if TYPE_CHECKING:
    from oneglance_apps.repaint.video import Film

PIPE = "-"
VIDEOS = (*FILMS, ".avi", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp", ".ogv", ".y4m")
DESCRIPTION = """\
Repaint pictures, or a video, in the style of others. `oneglance list-styles`
tells the styles that the server has.

IN is a picture, a folder of pictures, or a video; - is a picture from stdin.
OUT is what it becomes: a picture's suffix decides its format; - is stdout. A
folder becomes a folder with the same names below it; hidden files are passed by.
A video becomes H.264 in .mp4, .m4v, .mov or .mkv, with the same times, size and
sound; it needs: pip install 'oneglance[watch]'.

Whatever ends it, an output is there whole or not at all. In a folder, pictures
whose output is there already are skipped, so the same command again goes on
where it was ended.
"""
EPILOG = """\
examples:
  oneglance stylize cat.jpg cat-wave.jpg --style wave
  oneglance stylize cat.jpg out.webp --style wave=0.7 --style ink=0.3   a blend
  oneglance stylize cat.jpg out.png --style ink --strength 0.6 --keep-colors
  oneglance stylize photos/ painted/ --style wave --max-side 1600 --format jpeg
  oneglance stylize walk.mp4 walk-ink.mp4 --style ink --steadiness 0.9
  curl -s https://... | oneglance stylize - - --style wave --format png > out.png

exit status: 0 done; 1 refused, or some pictures of a folder failed (they are
named, the others are done); 2 misused; 130 Ctrl-C, 143 SIGTERM.
"""


@command("list the styles that the server can repaint pictures in")
def list_styles(client: Client, o: Options) -> Iterable[Message]:
    return client.list_styles()


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "stylize",
        help="repaint a picture, a folder of pictures or a video in the style of others",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[calls.common(300.0, "a video has none")],
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("source", metavar="IN", help="a picture, a folder of pictures, a video, or - for a picture from stdin")
    add("out", metavar="OUT", help="what it becomes, or - for stdout")
    add(
        "--style",
        metavar="NAME[=WEIGHT]",
        action="append",
        type=_style,
        required=True,
        help="may be repeated, for a blend: weights sum to 1; without weights, equal parts",
    )
    add("--stylizer", metavar="MODEL", default="", help="name or digest of a loaded stylizer [the only one]")
    add("--strength", type=float, metavar="SHARE", help="how much of the stylized picture, 0 to 1 [1]")
    add("--keep-colors", action="store_true", help="take only brightness from the stylized picture")
    add("--max-side", type=int, default=0, metavar="PIXELS", help="shrink larger pictures to that first [0: never]")
    add("--format", choices=list(SUFFIXES), default="", help="of pictures [as OUT's name says, or in a folder IN's]")
    add(
        "--quality",
        type=int,
        default=0,
        metavar="N",
        help=f"of jpeg and webp, 1 to 100 [{PICTURE_QUALITY}; of a video's frames 95]",
    )
    add(
        "--steadiness",
        type=float,
        metavar="SHARE",
        help=f"of a video: how much of what rests is kept, 0 to <1 [{STEADINESS}]",
    )
    add("--in-flight", type=_whole, default=4, metavar="N", help="of a folder: calls under way at once [4]")
    add("--overwrite", action="store_true", help="replace outputs that are there already")


def run(o: Options) -> int:
    try:
        with signals_unwind():
            return calls.run(o, lambda client: _stylize(client, o))
    except ModuleNotFoundError as error:
        if error.name not in ("av", "PIL"):
            raise
        print(f"oneglance: {error}; videos need: pip install 'oneglance[watch]'", file=sys.stderr)
        return 1


def _stylize(client: Client, o: Options) -> None:
    look = Look(_styles(o.style), o.stylizer, o.strength, o.keep_colors, o.quality, o.max_side)
    source = Path(o.source)
    if o.source != PIPE and source.is_dir():
        if o.out == PIPE or Path(o.out).suffix.lower() in (*FORMATS, *FILMS):
            raise ValueError(f"{source} is a folder of pictures, so OUT is a folder, too; not {o.out}")
        _folder(client, look, source, Path(o.out), o)
        return
    if o.source != PIPE and not source.is_file():
        raise FileNotFoundError(f"{source}: no such picture, folder or video")
    out = Path(o.out)
    if o.out != PIPE and (out.is_dir() or o.out.endswith("/")):
        if o.source == PIPE:
            raise ValueError(f"{out}: a folder; name the file that stdin shall become")
        out = out / source.name
    if o.source != PIPE and o.out != PIPE and out.suffix.lower() in FILMS:
        _video(client, look, source, out, o)
    elif source.suffix.lower() in VIDEOS:
        raise ValueError(f"{source} is a video, so OUT ends in {', '.join(FILMS)}; not {o.out}")
    else:
        _picture(client, look, None if o.source == PIPE else source, None if o.out == PIPE else out, o)


def _picture(client: Client, look: Look, source: Path | None, out: Path | None, o: Options) -> None:
    format = o.format
    if out is not None:
        format = picture_format(out, o.format)
        check_out(out, source, overwrite=o.overwrite)
    data = source.read_bytes() if source else sys.stdin.buffer.read()
    picture = repaint(client, look, data, format)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as fresh:
            fresh.write_bytes(picture.image)
        print(_told(source, out, picture, o))
    else:
        sys.stdout.buffer.write(picture.image)
        sys.stdout.buffer.flush()
        print(_told(source, out, picture, o), file=sys.stderr)


def _folder(client: Client, look: Look, source: Path, out: Path, o: Options) -> None:
    planned = plan(source, out, o.format)
    total = len(planned.tasks)
    painted = failed = skipped = 0
    begun = time.monotonic()
    outcomes = repaint_folder(
        client,
        look,
        planned.tasks,
        in_flight=o.in_flight,
        overwrite=o.overwrite,
        patience_seconds=o.timeout,
    )
    try:
        with Progress() as progress:
            for outcome in outcomes:
                painted += outcome.picture is not None
                failed += outcome.error is not None
                skipped += outcome.skipped
                _tell(outcome, progress, o)
                done = painted + failed + skipped
                progress.show(done, total, f"{done} of {total} pictures")
    finally:
        words = [
            f"{painted} stylized in {time.monotonic() - begun:.1f} s",
            f"{skipped} skipped, as their outputs exist (--overwrite replaces them)" if skipped else "",
            f"{failed} failed" if failed else "",
            f"{rest} not done" if (rest := total - painted - failed - skipped) else "",
            f"{planned.left_out} other files left out" if planned.left_out else "",
        ]
        print(f"oneglance: {'; '.join(filter(None, words))}", file=sys.stderr)
    o.status = 1 if failed else 0


def _tell(outcome: Outcome, progress: Progress, o: Options) -> None:
    source, out = outcome.task.source, outcome.task.out
    if outcome.picture is not None:
        progress.say(_told(source, out, outcome.picture, o))
    elif outcome.error is not None:
        refused = outcome.error if isinstance(outcome.error, OneglanceError) else None
        words = refused.message.removeprefix("image: ") if refused else str(outcome.error)
        progress.say(f"oneglance: {source}: {words}", error=True)
        if o.json:
            told = _fields(show.error_message(refused)) if refused else {"message": str(outcome.error)}
            progress.say(json.dumps({"in": str(source), "error": told}))
    elif o.json:
        progress.say(json.dumps({"in": str(source), "out": str(out), "skipped": True}))


def _video(client: Client, look: Look, source: Path, out: Path, o: Options) -> None:
    if o.format:
        raise ValueError(f"--format is of pictures; {out} is a video")
    check_out(out, source, overwrite=o.overwrite)
    from oneglance_apps.repaint.video import repaint_video
    from oneglance_apps.watch.frames import SourceError

    begun = time.monotonic()

    def show_progress(film: "Film", length: float | None) -> None:
        whole = f" of {length:.1f}" if length else ""
        progress.show(film.seconds, length, f"{film.frames} frames, {film.seconds:.1f}{whole} s")

    try:
        with Progress() as progress:
            film = repaint_video(client, look, source, out, steadiness=o.steadiness, show=show_progress)
    except SourceError as error:
        print(f"oneglance: {error}", file=sys.stderr)
        o.status = 1
        return
    print(_film_told(source, out, film, o))
    seconds = time.monotonic() - begun
    words = [
        f"{film.frames} frames in {seconds:.1f} s, {film.frames / seconds:.1f} a second",
        f"{film.damaged} damaged packets skipped" if film.damaged else "",
        f"the sound is left out, {out.suffix} can't hold it" if film.sound is False else "",
    ]
    print(f"oneglance: {'; '.join(filter(None, words))}", file=sys.stderr)
    if film.broken:
        print(f"oneglance: {film.broken}", file=sys.stderr)
        o.status = 1


def _told(source: Path | None, out: Path | None, picture: StylizedPicture, o: Options) -> str:
    """A line about a picture that came out."""
    if not o.json:
        return f"{out or PIPE}: {show.as_text(picture)}"
    about = StylizedPicture()
    about.CopyFrom(picture)
    about.ClearField("image")
    return json.dumps({"in": str(source or PIPE), "out": str(out or PIPE), **_fields(about, "image")})


def _film_told(source: Path, out: Path, film: "Film", o: Options) -> str:
    """A line about a video that came out."""
    assert film.frame is not None
    if not o.json:
        by = f"by stylizer {film.frame.stylizer_digest[:12]} on {film.frame.execution_provider}"
        return f"{out}: {film.frames} frames, {film.width} x {film.height} h264, {by}"
    about = {"frames": film.frames, "seconds": round(film.seconds, 3), "width": film.width, "height": film.height}
    rest = _fields(film.frame, "image", "format", "width", "height")
    return json.dumps({"in": str(source), "out": str(out), **about, "sound": film.sound, **rest})


def _fields(message: Message, *left_out: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(show.as_json(message))
    return {name: value for name, value in fields.items() if name not in left_out}


def _styles(given: list[tuple[str, float | None]]) -> str | Mapping[str, float]:
    names = [name for name, _ in given]
    if len(set(names)) != len(names):
        raise ValueError("--style: the same style twice")
    weights = [weight for _, weight in given if weight is not None]
    if not weights:
        return names[0] if len(names) == 1 else {name: 1 / len(names) for name in names}
    if len(weights) != len(names):
        raise ValueError("--style: give every style a weight, or none")
    return dict(zip(names, weights, strict=True))


def _style(text: str) -> tuple[str, float | None]:
    name, equals, weight = text.partition("=")
    try:
        return name, float(weight) if equals else None
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither NAME nor NAME=WEIGHT") from error


def _whole(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 64:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 to 64")
    return number
