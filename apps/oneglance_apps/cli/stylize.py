"""``oneglance stylize`` and ``list-styles``: repaint pictures, folders of pictures and videos in a style."""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from google.protobuf.message import Message

from oneglance.client.requests import StyleLike, StylesLike
from oneglance.client.sync_client import Client
from oneglance_apps.cli import stylize_text
from oneglance_apps.cli.arguments import MOST_COUNT
from oneglance_apps.cli.commands import Options, argument, call_options, command, run_with_client
from oneglance_apps.picture_formats import FORMAT_OF_SUFFIX, FRAME_QUALITY, SUFFIX_OF_FORMAT
from oneglance_apps.repaint.files import VIDEO_CONTAINERS, check_out, picture_format
from oneglance_apps.repaint.folder import TaskResult, plan, repaint_folder
from oneglance_apps.repaint.picture import repaint_picture
from oneglance_apps.repaint.style_choice import StyleChoice
from oneglance_apps.signals import exit_on_signals
from oneglance_core.defaults import LEAST_STROKE_SIZE, MOST_STROKE_SIZE, PICTURE_QUALITY, STEADINESS
from oneglance_core.files import replacing
from oneglance_core.printable import printable
from oneglance_core.progress import Progress
from oneglance_core.ranges import within

if TYPE_CHECKING:
    from oneglance_apps.repaint.video import VideoResult

PIPE = "-"
VIDEO_SUFFIXES = (
    *VIDEO_CONTAINERS,
    ".avi",
    ".webm",
    ".mpg",
    ".mpeg",
    ".ts",
    ".mts",
    ".m2ts",
    ".wmv",
    ".flv",
    ".3gp",
    ".ogv",
    ".y4m",
)
DESCRIPTION = """\
Repaint pictures, or a video, in the style of paintings. `oneglance list-styles`
lists the styles of the server.

IN is a picture, a folder of pictures, or a video; - is a picture from stdin.
OUT is the output: a picture's suffix decides its format; - is stdout. A folder
becomes a folder with the same names in it; hidden files are ignored. A video
becomes H.264 in .mp4, .m4v, .mov or .mkv, with the same times, size, sound and
subtitles; it needs: pip install 'oneglance[watch]'.

However the command ends, an output file is complete or absent. In a folder,
pictures whose output exists are skipped, so the same command can be repeated to
continue. So can that of a video, with --resume.
"""
EPILOG = """\
examples:
  oneglance stylize cat.jpg cat-oil.jpg --style oil
  oneglance stylize cat.jpg out.webp --style oil=0.7 --style pencil=0.3    a blend
  oneglance stylize cat.jpg out.png --style pencil --strength 0.6 --keep-colors
  oneglance stylize large.jpg out.jpg --style oil --stroke-size 3          bold
  oneglance stylize cat.jpg out.png --style-picture painting.jpg           any style
  oneglance stylize photos/ painted/ --style oil --max-side 1600 --format jpeg
  oneglance stylize walk.mp4 walk-pencil.mp4 --style pencil --steadiness 0.9
  curl -s https://... | oneglance stylize - - --style oil --format png > out.png

exit status: 0 done; 1 refused, the disk is full, a video was damaged or
incomplete (what could be read is written), or some pictures of a folder failed
(they are named, the others are done); 2 wrong arguments; 130 Ctrl-C, 143 SIGTERM.
"""


@command("list the styles that the server can repaint pictures in")
def list_styles(client: Client, o: Options) -> Iterable[Message]:
    return client.list_styles()


@command(
    "keep the style of a picture under a name, for a stylizer for any style; the picture isn't kept",
    argument("name", "as --style will say it", metavar="NAME"),
    argument("picture", "of the style", metavar="FILE"),
    argument("--title", "for people", metavar="TEXT", default=""),
    argument("--source", "where the picture is from", metavar="TEXT", default=""),
    argument("--license", "its terms", metavar="TEXT", default=""),
    argument("--stylizer", "name or digest of a stylizer for any style [the only one]", metavar="MODEL", default=""),
)
def create_style(client: Client, o: Options) -> Iterable[Message]:
    yield client.create_style(o.name, o.picture, title=o.title, source=o.source, license=o.license, stylizer=o.stylizer)


@command(
    "forget a style that create-style made",
    argument("name", "of list-styles", metavar="NAME"),
    argument("--stylizer", "name or digest of its stylizer [the only one for any style]", metavar="MODEL", default=""),
)
def delete_style(client: Client, o: Options) -> Iterable[Message]:
    client.delete_style(o.name, stylizer=o.stylizer)
    return ()


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "stylize",
        help="repaint a picture, a folder of pictures or a video in a style",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[call_options(300.0, "a video has none")],
    )
    parser.set_defaults(run=run, needs="videos need: pip install 'oneglance[watch]'")
    add = parser.add_argument
    add("source", metavar="IN", help="a picture, a folder of pictures, a video, or - for a picture from stdin")
    add("out", metavar="OUT", help="the output, or - for stdout")
    add(
        "--style",
        metavar="NAME[=WEIGHT]",
        action="append",
        type=_style,
        help="may be repeated, for a blend: weights sum to 1; without weights, equal parts",
    )
    add(
        "--style-picture",
        metavar="FILE[=WEIGHT]",
        action="append",
        dest="style",
        type=_style_picture,
        help="in the style of any picture, as --style; the server needs a stylizer for that",
    )
    add("--stylizer", metavar="MODEL", default="", help="name or digest of a loaded stylizer [the only one]")
    add("--strength", type=within(float), metavar="SHARE", help="how much of the stylized picture, 0 to 1 [1]")
    add("--keep-colors", action="store_true", help="take only brightness from the stylized picture")
    add(
        "--max-side",
        type=within(int, least=0, most=MOST_COUNT),
        default=0,
        metavar="PIXELS",
        help="shrink larger pictures to that first [0: never]",
    )
    add(
        "--stroke-size",
        type=within(float, least=LEAST_STROKE_SIZE, most=MOST_STROKE_SIZE),
        metavar="TIMES",
        help=f"size of strokes, times what the stylizer paints, {LEAST_STROKE_SIZE:g} to {MOST_STROKE_SIZE:g} [1]",
    )
    add(
        "--keep-faces",
        type=within(float, least=0, most=1),
        default=0.0,
        metavar="SHARE",
        help="how much of faces is kept as it was, 0 to 1; the server needs a face detector [0]",
    )
    add(
        "--format",
        choices=list(SUFFIX_OF_FORMAT),
        default="",
        help="of pictures [by OUT's suffix; in a folder by IN's]",
    )
    add(
        "--quality",
        type=within(int, least=0, most=100),
        default=0,
        metavar="N",
        help=f"of jpeg and webp, 1 to 100 [{PICTURE_QUALITY}; of a video's frames {FRAME_QUALITY}]",
    )
    add(
        "--steadiness",
        type=within(float),
        metavar="SHARE",
        help=f"of a video: how much of a still part is kept from frame to frame, 0 to <1 [{STEADINESS}]",
    )
    add(
        "--in-flight",
        type=within(int, least=1, most=64),
        default=4,
        metavar="N",
        help="of a folder: calls under way at once [%(default)s]",
    )
    add("--overwrite", action="store_true", help="replace outputs that exist")
    add(
        "--resume",
        action="store_true",
        help="of a video: keep what is painted until OUT is complete, in a hidden folder beside it, so that the same "
        "command goes on there, however it was ended",
    )


def run(o: Options) -> int:
    with exit_on_signals():
        return run_with_client(o, lambda client: _stylize(client, o))


def _stylize(client: Client, o: Options) -> None:
    """Decide whether IN is a picture, a folder or a video, and repaint it."""
    choice = StyleChoice(
        _styles(o.style or []),
        o.stylizer,
        o.strength,
        o.keep_colors,
        o.quality,
        o.max_side,
        o.stroke_size,
        o.keep_faces,
    )
    source = Path(o.source)
    if o.source != PIPE and source.is_dir():
        if o.out == PIPE or Path(o.out).suffix.lower() in (*FORMAT_OF_SUFFIX, *VIDEO_CONTAINERS):
            raise ValueError(f"{source} is a folder of pictures, so OUT is a folder, too; not {o.out}")
        _folder(client, choice, source, Path(o.out), o)
        return
    if o.source != PIPE and not source.is_file():
        raise FileNotFoundError(f"{source}: no such picture, folder or video")
    out = Path(o.out)
    if o.out != PIPE and (out.is_dir() or o.out.endswith("/")):
        if o.source == PIPE:
            raise ValueError(f"{out}: a folder; name the file that stdin shall become")
        out = out / source.name
    if o.source != PIPE and o.out != PIPE and out.suffix.lower() in VIDEO_CONTAINERS:
        _video(client, choice, source, out, o)
    elif source.suffix.lower() in VIDEO_SUFFIXES:
        raise ValueError(f"{source} is a video, so OUT ends in {', '.join(VIDEO_CONTAINERS)}; not {o.out}")
    else:
        _picture(client, choice, None if o.source == PIPE else source, None if o.out == PIPE else out, o)


def _picture(client: Client, choice: StyleChoice, source: Path | None, out: Path | None, o: Options) -> None:
    """Repaint one picture. ``source`` None: from stdin; ``out`` None: to stdout."""
    if o.resume:
        raise ValueError("--resume is of videos; a folder goes on where it was ended without it")
    format = o.format
    if out is not None:
        format = picture_format(out, o.format)
        check_out(out, source, overwrite=o.overwrite)
    o.names.append(str(source or "stdin"))
    data = source.read_bytes() if source else sys.stdin.buffer.read()
    picture = repaint_picture(client, choice, data, format)
    line = stylize_text.picture_line(str(source or PIPE), str(out or PIPE), picture, as_json=o.json)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as fresh:
            fresh.write_bytes(picture.image)
        print(printable(line))
    else:
        sys.stdout.buffer.write(picture.image)
        sys.stdout.buffer.flush()
        print(printable(line), file=sys.stderr)


def _folder(client: Client, choice: StyleChoice, source: Path, out: Path, o: Options) -> None:
    planned = plan(source, out, o.format)
    total = len(planned.tasks)
    counts = stylize_text.FolderCounts(total, planned.left_out)
    results = repaint_folder(
        client,
        choice,
        planned.tasks,
        in_flight=o.in_flight,
        overwrite=o.overwrite,
        patience_seconds=o.timeout,
    )
    begun = time.monotonic()
    try:
        with Progress() as progress:
            for result in results:
                counts.add(result)
                _print_result(result, progress, o)
                progress.show(counts.done, total, f"{counts.done} of {total} pictures")
    finally:
        print(f"oneglance: {counts.summary(time.monotonic() - begun)}", file=sys.stderr)
    o.status = 1 if counts.failed else 0


def _print_result(result: TaskResult, progress: Progress, o: Options) -> None:
    source, out = str(result.task.source), str(result.task.out)
    if result.picture is not None:
        progress.say(stylize_text.picture_line(source, out, result.picture, as_json=o.json))
    elif result.error is not None:
        progress.say(f"oneglance: {source}: {stylize_text.error_text(result.error)}", error=True)
        if o.json:
            progress.say(stylize_text.error_json(source, result.error))
    elif o.json:
        progress.say(stylize_text.skipped_json(source, out))


def _video(client: Client, choice: StyleChoice, source: Path, out: Path, o: Options) -> None:
    if o.format:
        raise ValueError(f"--format is of pictures; {out} is a video")
    check_out(out, source, overwrite=o.overwrite)
    from oneglance_apps.frames.source_error import SourceError
    from oneglance_apps.repaint.video import repaint_video

    begun = time.monotonic()

    def show_progress(so_far: "VideoResult", length: float | None) -> None:
        whole = f" of {length:.1f}" if length else ""
        progress.show(so_far.seconds, length, f"{so_far.frames} frames, {so_far.seconds:.1f}{whole} s")

    try:
        with Progress() as progress:
            result = repaint_video(
                client, choice, source, out, steadiness=o.steadiness, resume=o.resume, show=show_progress
            )
    except SourceError as error:
        print(f"oneglance: {error}", file=sys.stderr)
        o.status = 1
        return
    print(stylize_text.video_line(str(source), str(out), result, as_json=o.json))
    print(f"oneglance: {stylize_text.video_summary(out, result, time.monotonic() - begun)}", file=sys.stderr)
    if result.broken:
        print(f"oneglance: {result.broken}", file=sys.stderr)
        o.status = 1


def _styles(given: Sequence[tuple[StyleLike, float | None]]) -> StylesLike:
    if not given:
        raise ValueError("say in which style: --style or --style-picture")
    names = [name for name, _ in given]
    if len(set(names)) != len(names):
        raise ValueError("--style: the same style twice")
    weights = [weight for _, weight in given if weight is not None]
    if not weights:
        return names[0] if len(names) == 1 else {name: 1 / len(names) for name in names}
    if len(weights) != len(names):
        raise ValueError("--style: give every style a weight, or none")
    return dict(zip(names, weights, strict=True))


def _style_picture(text: str) -> tuple[Path, float | None]:
    file, weight = (text, None) if Path(text).exists() else _style(text)
    return Path(file), weight


def _style(text: str) -> tuple[str, float | None]:
    name, equals, weight = text.rpartition("=")  # a file's name may have one, too
    try:
        return (name, float(weight)) if equals else (text, None)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither NAME nor NAME=WEIGHT") from error
