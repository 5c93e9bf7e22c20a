"""``oneglance calibrate`` and ``list-thresholds``: fit a gallery's tau on pictures of strangers."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import Message

from oneglance.client.errors import from_error
from oneglance.client.requests import mate, stranger
from oneglance.client.sync_client import Client
from oneglance.v1.gallery_pb2 import CalibrationProbe
from oneglance_apps.cli.arguments import FACE, GALLERY, SMALL_FACES_OPTION, UPRIGHT_ONLY, is_example, read_file
from oneglance_apps.cli.commands import Argument, Options, argument, command
from oneglance_apps.error_words import why
from oneglance_core.defaults import TARGET_FPIR
from oneglance_core.printable import printable
from oneglance_core.progress import Progress
from oneglance_core.ranges import within


@command(
    "fit a gallery's tau to a target FPIR, on pictures of strangers (people who are not enrolled)",
    GALLERY,
    argument(
        "--impostors",
        "strangers: PERSON/*.jpg, or *.jpg, each of another person",
        type=Path,
        required=True,
        metavar="DIR",
    ),
    argument(
        "--mates", "other pictures of enrolled subjects, to measure FNIR: SUBJECT/*.jpg", type=Path, metavar="DIR"
    ),
    argument(
        "--fpir", f"share of strangers to let in [{TARGET_FPIR}]", type=within(float, above=0, below=1), metavar="RATE"
    ),
    argument("--data", "what the pictures are, kept with the calibration [the folders' names]", metavar="TEXT"),
    argument("--dry-run", "measure, but leave the gallery's tau as it is", action="store_true"),
    Argument(
        FACE.flag,
        {
            **FACE.options,
            "help": "which face of each picture: largest, aligned (the picture is an aligned face already), or a box "
            "X,Y,WIDTH,HEIGHT [largest]",
        },
    ),
    SMALL_FACES_OPTION,
    UPRIGHT_ONLY,
)
def calibrate(client: Client, o: Options) -> Iterable[Message]:
    pictures = _people(o.impostors, loose=True)
    mated = _people(o.mates, loose=False) if o.mates else []
    described = o.data or ", ".join(folder.resolve().name for folder in (o.impostors, o.mates) if folder)

    def probes() -> Iterator[CalibrationProbe]:
        total = len(pictures) + len(mated)
        for i, (path, name) in enumerate([*pictures, *mated]):
            progress.show(i, total, f"{i} of {total} pictures sent")
            example = read_file(path, o)
            yield stranger(example, name) if i < len(pictures) else mate(example, name)
        progress.show(total, total, f"{total} of {total} pictures sent")

    with Progress() as progress:
        response = client.calibrate(o.gallery, probes(), target_fpir=o.fpir, dry_run=o.dry_run, data=described)
    for skipped in response.skipped:
        path, _ = [*pictures, *mated][skipped.index]
        reason = why(from_error(skipped.error), [str(path)]).removeprefix(f"{path}: ")
        print(printable(f"skipped {path}: {reason}"), file=sys.stderr)
    if more := max(0, response.skipped_count - len(response.skipped)):
        print(f"skipped {more} more; {response.skipped_count} in all", file=sys.stderr)
    yield response


@command("list every tau a gallery has had, the newest first", GALLERY)
def list_thresholds(client: Client, o: Options) -> Iterable[Message]:
    return client.list_thresholds(o.gallery)


def _people(folder: Path, *, loose: bool) -> list[tuple[Path, str]]:
    """(picture, person) of PERSON/*.jpg, sorted; with ``loose`` also of pictures in ``folder`` itself, with person "".

    Prints how many other pictures there are.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: not a folder")
    patterns = ("*", "*/*") if loose else ("*/*",)
    found = sorted(path for pattern in patterns for path in folder.glob(pattern) if _is_picture(path))
    taken = [(path, "" if path.parent == folder else path.parent.name) for path in found]
    left_out = sum(map(_is_picture, set(folder.rglob("*")) - set(found)))
    where = "PERSON/*.jpg" if not loose else "PERSON/*.jpg or *.jpg"
    if not taken:
        raise ValueError(f"no pictures in {folder}, of {where}")
    if left_out:
        print(f"left out {left_out} pictures in {folder} that are not {where}", file=sys.stderr)
    return taken


def _is_picture(path: Path) -> bool:
    return is_example(path) and path.is_file()
