"""``oneglance export-gallery`` and ``import-gallery``."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from oneglance.client.sync_client import Client
from oneglance_apps.cli.arguments import GALLERY
from oneglance_apps.cli.commands import Options, call_options, run_with_client
from oneglance_apps.moving.folder import GalleryFolder
from oneglance_apps.moving.transfer import export_gallery, import_gallery
from oneglance_apps.signals import exit_on_signals
from oneglance_core.printable import printable
from oneglance_core.progress import Progress

_PLAIN = """\
oneglance: the files are NOT encrypted: whoever reads them has everybody's templates, and no deletion on the server
reaches them. Keep them as the server's master key, and remove them once they are imported."""


def add_commands(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    text = "take a gallery out of a server, encodings included, as files that import-gallery reads"
    goes_on = "Ended, however, it goes on when it is given again."
    export = _add(commands, "export-gallery", text, f"{text}. {goes_on} It is as the gallery was at one revision.")
    export.add_argument(GALLERY.flag, **GALLERY.options)
    export.add_argument("folder", type=Path, metavar="FOLDER", help="a new folder; until it is whole, FOLDER.partial")
    export.add_argument("--format", choices=["npy", "parquet"], default="npy", help="parquet needs pyarrow [npy]")
    export.set_defaults(run=_run(_export))
    text = "bring an exported gallery into a server, where it answers as it did"
    brings = _add(commands, "import-gallery", text, f"{text}. {goes_on} Until then the gallery answers nobody.")
    brings.add_argument("folder", type=Path, metavar="FOLDER", help="as export-gallery wrote it")
    brings.add_argument("--as", dest="name", metavar="NAME", help="its id there [as it was]")
    brings.set_defaults(run=_run(_import))


def _add(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, summary: str, description: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=summary, description=description, parents=[call_options(no_timeout="moving has none")]
    )


def _run(work: Callable[[Client, Options], None]) -> Callable[[Options], int]:
    def run(o: Options) -> int:
        with exit_on_signals():
            return run_with_client(o, lambda client: work(client, o))

    return run


def _export(client: Client, o: Options) -> None:
    print(_PLAIN, file=sys.stderr)
    with Progress() as progress:
        moved = export_gallery(
            *(client, o.gallery, o.folder, o.format),
            lambda done, total: progress.show(done, total, f"{done:,} of {total:,} subjects"),
        )
    sizes = f"{moved.subject_count} subjects, {moved.encoding_count} encodings, revision {moved.revision}"
    print(printable(f"{o.gallery}: exported to {o.folder}: {sizes}"))


def _import(client: Client, o: Options) -> None:
    folder = GalleryFolder(o.folder)
    folder.check()
    name = o.name or folder.gallery_id
    with Progress() as progress:
        count = import_gallery(
            *(client, folder, name),
            lambda done, total: progress.show(done, total, f"{done:,} of {total:,} subjects"),
        )
    print(printable(f"{name}: imported from {o.folder}: {count} subjects, revision {folder.gallery.revision}"))
