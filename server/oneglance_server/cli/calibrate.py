"""``oneglance calibrate`` and ``list-thresholds``: a gallery's tau from pictures of people it doesn't know."""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.message import Message

from oneglance.client.requests import mate, photo, stranger
from oneglance.client.sync_client import Client
from oneglance.v1.gallery_pb2 import CalibrationProbe
from oneglance_server.cli.client import GALLERY, PICTURES, SMALL, WHICH, Options, argument, command


@command(
    "fit a gallery's tau to a target FPIR, on pictures of people who are not enrolled",
    GALLERY,
    argument(
        "--impostors",
        "people who are not enrolled: PERSON/*.jpg, or *.jpg, each a person of their own",
        type=Path,
        required=True,
        metavar="DIR",
    ),
    argument(
        "--mates", "other pictures of enrolled subjects, to measure FNIR: SUBJECT/*.jpg", type=Path, metavar="DIR"
    ),
    argument("--fpir", "share of strangers to let in [0.01]", type=float, default=0.01, metavar="RATE"),
    argument("--data", "what the pictures are, kept with the calibration [the folders' names]", metavar="TEXT"),
    argument("--dry-run", "measure, but leave the gallery's tau as it is", action="store_true"),
    WHICH,
    SMALL,
)
def calibrate(client: Client, o: Options) -> Iterable[Message]:
    pictures = list(_people(o.impostors))
    mated = [(path, name) for path, name in _people(o.mates) if name] if o.mates else []
    described = o.data or ", ".join(folder.resolve().name for folder in (o.impostors, o.mates) if folder)

    def probes() -> Iterator[CalibrationProbe]:
        total = len(pictures) + len(mated)
        for i, (path, name) in enumerate([*pictures, *mated]):
            _progress(i, total)
            example = photo(path, o.face, o.small_faces)
            yield stranger(example, name) if i < len(pictures) else mate(example, name)
        _progress(total, total)

    response = client.calibrate(o.gallery, probes(), target_fpir=o.fpir, dry_run=o.dry_run, data=described)
    for skipped in response.skipped:
        path, _ = [*pictures, *mated][skipped.index]
        print(f"skipped {path}: {skipped.error.message}", file=sys.stderr)
    yield response


@command("list every tau a gallery has had, the newest first", GALLERY)
def list_thresholds(client: Client, o: Options) -> Iterable[Message]:
    return client.list_thresholds(o.gallery)


def _people(folder: Path) -> Iterator[tuple[Path, str]]:
    """(picture, who it shows) by name; "" for pictures that lie in ``folder`` itself."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: not a folder")
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from ((path, entry.name) for path in sorted(entry.iterdir()) if path.suffix.lower() in PICTURES)
        elif entry.suffix.lower() in PICTURES:
            yield entry, ""


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\r{done} of {total} pictures sent", end="\n" if done == total else "", file=sys.stderr, flush=True)
